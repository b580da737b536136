"""Does a student learn more from a teacher's maps? The experiment of the Grad-CAM++ poster, Tables 3 and 4, in small.

    python -m examples.distillation.run --data canvases --out build/distillation
    python -m examples.distillation.run --data several --out build/distillation_several
    python -m examples.distillation.run --data cifar10 --out build/distillation_cifar10     (with JAXCAM_ASSETS)
    python -m examples.distillation.run --data cifar10 --paper --out build/paper     (the poster's size, for a GPU)
    python -m examples.distillation.run --data canvases --out build/quick --train 40 --test 20 --steps 2 --seeds 2

A student learns from labels (cross-entropy), and besides from its teacher's maps of the true class (0.01 times the
squared distance of the maps, of Grad-CAM++ or of Grad-CAM), from its teacher's outputs (knowledge distillation at
temperature 4, KD), or from both: the six rows of Table 4. Table 3 has images with several classes: sigmoids, the mean
average precision over classes, and the map of one present class, which is drawn at random with the image.

What differs from the poster, which has WRN-40-2 and WRN-16-2 on CIFAR-10 and VGG-16 and a shallower one on VOC 2007:

- canvases and several: digits among clutter. The teacher is the embedded digits network, for several digits trained
  further; the student has half of its channels, four convolutions in the place of six, and a maximum over space in
  the place of the teacher's large hidden layer: a fortieth of its parameters;
- cifar10: the 15,000 + 3,000 images of the assets as 16 x 16 pixels, WRN-16-2 and WRN-16-1 with group norm, and few
  steps. `--paper` has the poster's networks, 32 x 32 pixels, 200 epochs and all images of a folder with 50,000;
- images are augmented once and not anew in every epoch, so that the teacher's maps and logits are computed once;
- AdamW with a cosine schedule, and gradients clipped to the norm 1.

All rows of a seed have the same initial student and the same batches, so the differences are paired by seed, and the
intervals are over seeds; they do not count that the test images are a sample. The table has the number of seeds that
would tell the published difference at the spread of ours, a rough figure for few seeds; and how far the student's maps
agree with the teacher's (the mean correlation over test images), which shows whether the maps' loss did what it says.

Grad-CAM++'s maps sum over locations where Grad-CAM's have a mean, so at the same weight of 0.01 their loss is far
heavier. The row "Grad-CAM loss, as heavy", which the poster does not have and `--rows` takes, has the weight at which
both weigh the same.

In `--out` are the images, the teacher and its answers, a file for each row and seed, and the checkpoints of the
trainings that are not complete. A killed run goes on with them.
"""

import argparse
import functools
import json
import pathlib
import shutil
from typing import Any

import jax
from flax import nnx

import jaxcam
from examples import real_photographs
from examples.distillation import learning, networks, pools
from examples.distillation.learning import ROWS
from examples.distillation.table import PUBLISHED, table
from examples.kept_arrays import kept_arrays
from jaxcam.runtime import replace

COMPARED = 300  # test images whose maps are compared with the teacher's
CANVASES = {
    "teacher": "vgg-64",
    "student": "cnn-32",
    "train": 5000,
    "test": 2000,
    "batch": 32,
    "copies": 1,
    "side": 64,
    "rate": 5e-3,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "canvases": {**CANVASES, "steps": 500, "teacher_steps": 0, "teacher_rate": 1e-3, "seeds": 5},
    "several": {**CANVASES, "rate": 3e-3, "steps": 500, "teacher_steps": 150, "teacher_rate": 1e-3, "seeds": 5},
    "cifar10": {
        "teacher": "wrn-16-2", "student": "wrn-16-1", "train": 15_000, "test": 3000, "batch": 64, "copies": 1,
        "side": 16, "steps": 1000, "teacher_steps": 2500, "seeds": 3, "rate": 3e-3, "teacher_rate": 3e-3,
    },
    "paper": {
        "teacher": "wrn-40-2", "student": "wrn-16-2", "train": 50_000, "test": 10_000, "batch": 128, "copies": 8,
        "side": 32, "steps": 78_000, "teacher_steps": 78_000, "seeds": 5, "rate": 3e-3, "teacher_rate": 3e-3,
    },
}  # fmt: skip


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """The options, with the defaults of the data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("canvases", "several", "cifar10"), default="canvases")
    parser.add_argument("--paper", action="store_true", help="the poster's networks and steps, for cifar10 on a GPU")
    parser.add_argument("--folder", type=pathlib.Path, help="with CIFAR-10's train.npz and test.npz, as in the assets")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="what is kept; a killed run goes on from it")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS)[:6], help="(default: the poster's)")
    for name in ("teacher", "student"):
        parser.add_argument(f"--{name}", metavar="NETWORK", help="such as vgg-64, cnn-32 or wrn-16-2")
    for name in ("train", "test", "batch", "copies", "side", "steps", "teacher_steps", "seeds"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"(default: {_defaults_of(name)})")
    for name in ("rate", "teacher_rate"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, help=f"(default: {_defaults_of(name)})")
    options = parser.parse_args(words)
    if options.paper and options.data != "cifar10":
        parser.error(f"--paper needs --data cifar10, got {options.data}")
    for name, value in DEFAULTS["paper" if options.paper else options.data].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.data == "cifar10" and options.folder is None:
        options.folder = real_photographs.assets(parser) / "cifar10"
    options.several = options.data == "several"
    options.measure = "mean average precision" if options.several else "error"
    return options


def _defaults_of(name: str) -> str:
    return ", ".join(f"{data} {values[name]}" for data, values in DEFAULTS.items())


def check_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The options that the kept files depend on.

    Raises:
      SystemExit: `--out` has files of other options.
    """
    others = ("out", "json", "rows", "seeds", "folder", "paper", "several", "measure")
    settings = {name: value for name, value in vars(options).items() if name not in others}
    file = options.out / "settings.json"
    if file.exists() and (kept := json.loads(file.read_text())) != settings:
        differing = [name for name in settings if kept.get(name) != settings[name]]
        words = ", ".join(f"{name} {kept.get(name)}, got {settings[name]}" for name in differing)
        raise SystemExit(f"{options.out} has files of other options: expected {words}")
    replace(file, (json.dumps(settings, indent=2) + "\n").encode())
    return settings


def pool_of(split: str, options: argparse.Namespace) -> pools.Pool:
    """The images of a split, drawn once."""

    def drawn():
        count = options.test if split == "test" else options.train
        return pools.draw(
            options.data, split, count, copies=options.copies, side=options.side, folder=options.folder
        )._asdict()

    return pools.Pool(**kept_arrays(options.out / f"{split}.npz", drawn))


def options_of_training(options: argparse.Namespace, name: str, **changed: Any) -> argparse.Namespace:
    """The options of a training, whose checkpoints are in a folder of its name."""
    return argparse.Namespace(**{**vars(options), **changed, "checkpoints": options.out / "checkpoints" / name})


def teacher_of(train: pools.Pool, options: argparse.Namespace) -> nnx.Module:
    """The teacher: the embedded digits network or random parameters, trained by cross-entropy for its steps."""
    build = functools.partial(networks.build, options.teacher, image_shape=train.images.shape[1:], seed=0)
    embedded = options.teacher == "vgg-64" and options.data != "cifar10"

    def trained():
        model = jaxcam.digits() if embedded else build()
        if options.teacher_steps:
            training_options = options_of_training(
                options, "teacher", steps=options.teacher_steps, rate=options.teacher_rate, seed=0
            )
            layer = networks.layer_of(options.teacher)
            model = learning.trained(model, ROWS["cross-entropy"], layer, train, {}, training_options)
        return jaxcam.pretrained.to_arrays(model)

    return jaxcam.pretrained.from_arrays(build, kept_arrays(options.out / "teacher.npz", trained))


def measured(name: str, seed: int, train, test, answers, options: argparse.Namespace) -> dict[str, float]:
    """The figures of a row and a seed: from their file, or trained and written."""
    stem = f"{name.replace(',', '').replace(' ', '_').replace('+', 'p')}_{seed}"
    file = options.out / f"{stem}.json"
    if not file.exists():
        model = networks.build(options.student, image_shape=train.images.shape[1:], seed=seed)
        layer = networks.layer_of(options.student)
        training_options = options_of_training(options, stem, seed=seed)
        model = learning.trained(model, ROWS[name], layer, train, answers["train"], training_options)
        compared = pools.Pool(*(column[:COMPARED] for column in test))
        own = learning.taught(model, layer, compared)
        figures = learning.figures_of(model, test, several=options.several)
        for method in learning.MAPS:
            figures[f"agreement of {method}"] = learning.agreement(own[method], answers["test"][method])
        replace(file, (json.dumps(figures) + "\n").encode())
        shutil.rmtree(training_options.checkpoints)
    return json.loads(file.read_text())


def size_of(model: nnx.Module) -> int:
    """The number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def teacher_and_answers(train: pools.Pool, test: pools.Pool, options: argparse.Namespace):
    """The figures of the teacher, and its logits and maps of the training images and of the compared test images."""
    teacher = teacher_of(train, options)
    layer = networks.layer_of(options.teacher)
    compared = pools.Pool(*(column[:COMPARED] for column in test))
    answers = {
        split: kept_arrays(
            options.out / f"answers_{split}.npz", functools.partial(learning.taught, teacher, layer, pool)
        )
        for split, pool in (("train", train), ("test", compared))
    }
    student = networks.build(options.student, image_shape=train.images.shape[1:], seed=0)
    figures = {
        **learning.figures_of(teacher, test, several=options.several),
        "parameters": size_of(teacher),
        "parameters of the student": size_of(student),
        **{f"squares of a {m} map": float((answers["train"][m] ** 2).sum((1, 2)).mean()) for m in learning.MAPS},
    }
    return figures, answers


def main():
    """Train and measure every row and seed, and print the table."""
    options = parsed()
    options.out.mkdir(parents=True, exist_ok=True)
    settings = check_settings(options)
    train, test = (pool_of(split, options) for split in ("train", "test"))
    teacher, answers = teacher_and_answers(train, test, options)
    print(f"teacher: {json.dumps(teacher)}", flush=True)
    rows: dict[str, dict[str, list[float]]] = {}
    for seed in range(options.seeds):
        for name in options.rows:
            figures = measured(name, seed, train, test, answers, options)
            print(f"{name}, seed {seed}: {options.measure} {figures[options.measure]:.2f}", flush=True)
            for column, value in figures.items():
                rows.setdefault(name, {}).setdefault(column, []).append(value)
    print(f"\nteacher {teacher[options.measure]:.2f}, {options.seeds} seeds\n\n{table(rows, options.measure)}")
    if options.json is not None:
        kept = {"settings": settings, "teacher": teacher, "published": PUBLISHED[options.measure], "rows": rows}
        replace(options.json, (json.dumps(kept, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
