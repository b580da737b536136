"""Four methods at block5_conv3 of the trained VGG-16 on photographs of pets, as a picture.

    JAXCAM_ASSETS=../shared/assets python -m examples.real_photographs --out .

The assets are not part of the repository. They are the 13 convolutions of VGG-16 trained on ImageNet, a linear head on
the globally averaged block5_conv3 for three breeds, and photographs of Oxford-IIIT Pet. Their README names the sources.
"""

import argparse
import csv
import functools
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxcam
from jaxcam import datasets
from jaxcam.datasets import images

LAYER = "block5_conv3"


def assets(parser: argparse.ArgumentParser) -> pathlib.Path:
    """The folder of the assets. Without it, the program exits with code 2 and a message."""
    folder = pathlib.Path(os.environ.get("JAXCAM_ASSETS", "../shared/assets"))
    if not folder.is_dir():
        parser.exit(2, f"no assets in {folder}: set JAXCAM_ASSETS\n")
    return folder


def model(folder: pathlib.Path) -> tuple[jaxcam.VGG, list[str]]:
    """The Flax VGG-16 with the trained convolutions and the head for breeds, and the names of its classes."""
    with np.load(folder / "vgg16_imagenet_conv.npz") as file:
        arrays = dict(file)
    with np.load(folder / "pets3_gap_head.npz") as file:
        arrays |= {"predictions/kernel": file["weight"].T, "predictions/bias": file["bias"]}
        classes = [str(name) for name in file["classes"]]
    build = functools.partial(jaxcam.vgg16, top="average", classes=len(classes), preprocess=jaxcam.vgg.caffe)
    return jaxcam.pretrained.from_arrays(build, arrays), classes


def photographs(folder: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
    """The test photographs and their breeds."""
    with (folder / "pets" / "index.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    return [(folder / "pets" / "images" / row["file"], row["label"]) for row in rows]


def with_masks(folder: pathlib.Path, classes: list[str] | None = None) -> list[jaxcam.Example]:
    """The test photographs with the mask of the animal; without `classes`, whose breeds they name, without a label."""
    breeds = classes or sorted({breed for _, breed in photographs(folder)})
    examples = datasets.csv(
        folder / "pets" / "index.csv", root=folder / "pets" / "images", masks=folder / "pets" / "trimaps",
        classes=breeds, columns={"image": "file"}, inside=(1,), ignore=(3,), where={"split": "test"},
    )  # fmt: skip
    return examples if classes else [example._replace(label=None) for example in examples]


def spread(labeled: list, count: int | None) -> list:
    """At most `count` elements, spread evenly over the list; None for all."""
    return labeled if count is None else labeled[:: -(-len(labeled) // count)]


def read(path: pathlib.Path) -> np.ndarray:
    """A photograph, `[224 224 3]` in 0..1."""
    return images.fit(images.read(path), (224, 224))


def accuracy(network, classes, labeled) -> float:
    """The share of photographs whose breed has the largest logit."""
    forward = nnx.jit(lambda network, image: network(image[None])[0].argmax())
    return float(np.mean([classes[int(forward(network, read(path)))] == label for path, label in labeled]))


@jax.jit
def explain(cut, image, key):
    """The class, its probability, and the maps of the four methods."""
    outputs = cut.head(cut.params, cut.features(cut.params, image), image)
    target = outputs.argmax()
    return target, jax.nn.softmax(outputs)[target], {
        "CAM": jaxcam.cam(cut, image, target),
        "Grad-CAM": jaxcam.grad_cam(cut, image, target),
        "Grad-CAM++": jaxcam.grad_cam_pp(cut, image, target),
        "Smooth Grad-CAM++": jaxcam.smooth_grad_cam_pp(cut, image, target, key, n_samples=5, std=0.3),
    }  # fmt: skip


def main():
    """Print the head's accuracy on the test photographs and draw six of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    parser.add_argument(
        "--limit", type=int, help="number of test photographs to score, spread evenly (default: all 150)"
    )
    options = parser.parse_args()
    folder = assets(parser)

    network, classes = model(folder)
    labeled = photographs(folder)
    scored = spread(labeled, options.limit)
    print(f"accuracy on {len(scored)} test photographs: {accuracy(network, classes, scored):.3f}")

    cut = jaxcam.cut(network, LAYER)
    shown = [path for breed in classes for path, _ in spread([row for row in labeled if row[1] == breed], 2)]
    drawn, titles = [], []
    maps: dict[str, list] = {}
    for number, path in enumerate(shown):
        image = read(path)
        target, probability, maps_of_image = explain(cut, jnp.asarray(image), jax.random.key(number))
        drawn.append(image)
        titles.append(f"{classes[int(target)].replace('_', ' ')}, {probability:.1%}")
        for name, saliency in maps_of_image.items():
            maps.setdefault(name, []).append(saliency)
    figure = jaxcam.plots.compare(drawn, maps, titles=titles)
    jaxcam.plots.save(figure, options.out / "real_photographs.png", force=True)
    print(f"drawn: {options.out / 'real_photographs.png'}")


if __name__ == "__main__":
    main()
