"""Which map is better: the papers' methods with controls, on digit canvases and on photographs of pets.

    python -m examples.evaluation digits --out build/digits
    python -m examples.evaluation digits --weights build/gelu/weights.npz --out build/digits_gelu
    JAXCAM_ASSETS=../shared/assets python -m examples.evaluation pets --out build/pets

The digits are canvases of handwriting and textures never trained on, 100 with each number of copies, and the embedded
network or one that `examples.digits.train --activation gelu` wrote; the pets are the test photographs of
`examples.real_photographs` with the real VGG-16. The same command goes on where it was stopped. It leaves the tables,
curves, and the images where methods differ most, and prints the tables.
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
DIGITS_LAYER, PETS_LAYER = "block3_conv2", real_photographs.LAYER
SHAPE = (224, 224)


def methods(*, pooled: bool, smooth: bool, samples: tuple[int, ...], score_cam: bool) -> dict:
    """The rows, by name; CAM where the head is pooled, exact derivatives beside the closed form."""
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
    """The cut and the canvases, 100 with each number of copies."""
    model = jaxcam.digits() if weights is None else jaxcam.pretrained.load(weights, activation=jax.nn.gelu)
    data = []
    for copies in range(1, 5):
        for i, canvas in enumerate(canvases.draw_many(SEED + copies, "test", 100, copies=copies)):
            mask = np.asarray(canvas.masks.any(0), np.int8)
            data.append(
                jaxcam.Example(canvas.image, canvas.label, mask, canvas.boxes, f"{copies} of {canvas.label}, {i:02}")
            )
    return jaxcam.cut(model, DIGITS_LAYER), data, list(map(str, range(10)))


def pets(parser):
    """The cut and the photographs, with the animal's mask and the box round it."""
    folder = real_photographs.assets(parser)
    model, classes = real_photographs.model(folder)
    data = datasets.csv(
        folder / "pets" / "index.csv", root=folder / "pets" / "images", masks=folder / "pets" / "trimaps",
        classes=classes, columns={"image": "file"}, inside=(1,), ignore=(3,), where={"split": "test"},
    )  # fmt: skip
    return jaxcam.cut(model, PETS_LAYER), data, classes


def loaded(example: jaxcam.Example) -> jaxcam.Example:
    """A photograph of 224 x 224 with its mask, and the box that the mask just fits into."""
    found = datasets.load(example, SHAPE)
    rows, columns = np.nonzero(np.asarray(found.mask) == 1)
    return found._replace(boxes=np.array([[rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]], np.float32))


def main():
    """Evaluate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["digits", "pets"])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--weights", type=pathlib.Path, help="of a digits network with gelu (default: the embedded)")
    parser.add_argument("--limit", type=int, help="images, spread over all (default: all)")
    parser.add_argument("--samples", type=int, nargs="+", default=[5, 50], help="of the smoothed rows (default: 5 50)")
    parser.add_argument("--metrics", type=cli.parse_metrics, default=list(measures.MEASURES), help="(default: all)")
    parser.add_argument("--no-score-cam", action="store_true", help="which takes a forward pass for each channel")
    parser.add_argument(
        "--reference", default="Grad-CAM", help="which the others are compared with (default: Grad-CAM)"
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the estimates there as well")
    options = parser.parse_args()
    cut, data, classes = digits(options.weights) if options.data == "digits" else pets(parser)
    rows = methods(
        pooled=options.data == "pets",
        smooth=options.weights is not None,
        samples=tuple(options.samples),
        score_cam=not options.no_score_cam,
    )
    data = real_photographs.spread(data, options.limit)
    load = loaded if options.data == "pets" else None
    key = jax.random.key(0)
    how = {"target": "label", "reference": options.reference, "load": load, "out": options.out}
    found = jaxcam.evaluate(cut, data, rows, options.metrics, key, **how)
    by_name = {each.name: each if load is None else load(each) for each in data}
    cli.write_report(found, options.out, cut, rows, by_name.__getitem__, key, class_name=classes.__getitem__)
    print(found.markdown())
    if options.json is not None:
        replace(options.json, (json.dumps(cli.estimates_of(found), indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
