"""Which map is better: the papers' methods with controls, on digit canvases and on photographs of pets.

    python -m examples.evaluation digits --out build/digits
    python -m examples.evaluation digits --weights build/gelu/weights.npz --out build/digits_gelu
    JAXCAM_ASSETS=../shared/assets python -m examples.evaluation pets --out build/pets
    JAXCAM_ASSETS=../shared/assets python -m examples.evaluation pets --network efficientnet_lite0 --out build/pets_lite

"digits" evaluates the embedded network, or a network that `examples.digits.train --activation gelu` wrote, on canvases
of handwriting and textures it was not trained on, 100 with each number of copies. "pets" evaluates the trained VGG-16
on the test photographs of `examples.real_photographs`, whole and stretched, for the breed; or EfficientNet-Lite0 on
their central squares, for the most probable class of ImageNet. The program prints the tables, and writes them to the
folder together with curves and the images on which methods differ most. The same command resumes a run that was
stopped.
"""

import argparse
import functools
import json
import pathlib

import jax
import numpy as np

import jaxcam
from examples import real_photographs
from examples.digits import canvases
from jaxcam import cli, datasets
from jaxcam.evaluation import measures
from jaxcam.runtime import replace

SEED = 4_000_000
DIGITS_LAYER, PETS_LAYER, LITE_LAYER = "block3_conv2", real_photographs.LAYER, "head"
SHAPE = (224, 224)


def methods(*, pooled: bool, smooth: bool, samples: tuple[int, ...], score_cam: bool) -> dict:
    """The methods by name: with CAM for a pooled head, and with both forms of the derivatives for a smooth one."""
    bound = functools.partial
    rows = {"CAM": jaxcam.cam} if pooled else {}
    rows |= {
        "Grad-CAM": jaxcam.grad_cam,
        "Grad-CAM++, closed form": bound(jaxcam.grad_cam_pp, derivatives="closed_form"),
        "Grad-CAM++, exact": jaxcam.grad_cam_pp,
        "XGrad-CAM": jaxcam.xgrad_cam,
        "HiResCAM": jaxcam.hires_cam,
        "LayerCAM": jaxcam.layer_cam,
    }
    for derivatives in ("closed_form", "exact") if smooth else ("exact",):
        for n in samples:
            for std in (0.15, 0.3):
                for numerator in ("second", "first"):
                    printed = ", as printed (D1)" if numerator == "first" else ""
                    form = {"closed_form": ", closed form", "exact": ", exact"}[derivatives] if smooth else ""
                    rows[f"Smooth Grad-CAM++, n = {n}, std {std}{printed}{form}"] = bound(
                        jaxcam.smooth_grad_cam_pp, n_samples=n, std=std, numerator=numerator, derivatives=derivatives
                    )
    return {**rows, "Score-CAM": jaxcam.score_cam} if score_cam else rows


def digits(weights: pathlib.Path | None):
    """The cut, the canvases, 100 with each number of copies, and the names of the classes."""
    model = jaxcam.digits() if weights is None else jaxcam.pretrained.load(weights, activation=jax.nn.gelu)
    return jaxcam.cut(model, DIGITS_LAYER), canvas_examples(SEED, 100), list(map(str, range(10)))


def canvas_examples(seed: int, count: int) -> list[jaxcam.Example]:
    """Canvases of unseen handwriting and textures, `count` with each number of copies, with the ink as their mask."""
    data = []
    for copies in range(1, 5):
        for i, canvas in enumerate(canvases.draw_many(seed + copies, "test", count, copies=copies)):
            mask = np.asarray(canvas.masks.any(0), np.int8)
            data.append(
                jaxcam.Example(canvas.image, canvas.label, mask, canvas.boxes, f"{copies} of {canvas.label}, {i:02}")
            )
    return data


def pets(parser, network: str):
    """The cut, the photographs with the mask of the animal, and the names of the classes."""
    folder = real_photographs.assets(parser)
    if network == "efficientnet_lite0":
        lite = jaxcam.efficientnet_lite0()
        return jaxcam.cut(lite, LITE_LAYER), real_photographs.with_masks(folder), list(lite.class_names or ())
    model, classes = real_photographs.model(folder)
    return jaxcam.cut(model, PETS_LAYER), real_photographs.with_masks(folder, classes), classes


def loaded(example: jaxcam.Example, fit: str = "stretch") -> jaxcam.Example:
    """A photograph and its mask at 224 x 224, with the bounding box of the mask."""
    resized = datasets.load(example, SHAPE, fit=fit)
    rows, columns = np.nonzero(np.asarray(resized.mask) == 1)
    return resized._replace(
        boxes=np.array([[rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]], np.float32)
    )


def main():
    """Evaluate, print the tables and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["digits", "pets"])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument(
        "--network", choices=["vgg16", "efficientnet_lite0"], default="vgg16", help="for pets (default: %(default)s)"
    )
    parser.add_argument("--weights", type=pathlib.Path, help="a digits network with gelu (default: the embedded one)")
    parser.add_argument("--limit", type=int, help="number of images, spread evenly (default: all)")
    parser.add_argument("--samples", type=int, nargs="+", default=[5, 50], help="of the smooth methods (default: 5 50)")
    parser.add_argument("--metrics", type=cli.parse_metrics, default=list(measures.MEASURES), help="(default: all)")
    parser.add_argument(
        "--no-score-cam", action="store_true", help="leave out Score-CAM, which takes a forward pass for each channel"
    )
    parser.add_argument("--reference", default="Grad-CAM", help="method to compare the others with (default: Grad-CAM)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the estimates to this file")
    options = parser.parse_args()
    cut, data, classes = digits(options.weights) if options.data == "digits" else pets(parser, options.network)
    rows = methods(
        pooled=options.data == "pets",
        smooth=options.weights is not None,
        samples=tuple(options.samples),
        score_cam=not options.no_score_cam,
    )
    data = real_photographs.spread(data, options.limit)
    lite = options.data == "pets" and options.network == "efficientnet_lite0"
    load = functools.partial(loaded, fit="square" if lite else "stretch") if options.data == "pets" else None
    key = jax.random.key(0)
    evaluation = jaxcam.evaluate(
        cut,
        data,
        rows,
        options.metrics,
        key,
        target="predicted" if lite else "label",
        reference=options.reference,
        load=load,
        out=options.out,
    )
    by_name = {example.name: example if load is None else load(example) for example in data}
    cli.write_report(evaluation, options.out, cut, rows, by_name.__getitem__, key, class_name=classes.__getitem__)
    print(evaluation.markdown())
    if options.json is not None:
        replace(options.json, (json.dumps(cli.estimates_of(evaluation), indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
