"""Words against the boxes of what they name, and answers against the digit that the question asks for.

    python -m examples.captions.table --scenes 500 --json benchmarks/results/evaluation/words.json

Each digit word of a test scene's true caption is mapped, and the true answer to each question about a digit of the
scene: to "which digit" that digit is the answer, and other questions name it. A map is compared with the boxes of that
digit, at the resolution of the image: the share of maps whose largest value lies in a box (pointing), and the median
over the maps of their mean inside the boxes over their mean outside. Behind +- is half the width of a 95% interval of
the difference from Grad-CAM, from scenes drawn anew.
"""

import argparse
import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from examples.captions import scenes
from jaxcam import controls, maps, metrics, scores
from jaxcam.cutting import with_inputs
from jaxcam.networks.captioner import DIGITS, PLURALS
from jaxcam.runtime import replace

SEED = 4_000_000
MOST = 3  # words, or questions, of a scene


def smooth(cut, image, target, **options):
    """Smooth Grad-CAM++ of ten samples, with the same noise for every image."""
    key = jax.random.key(0)
    return jaxcam.smooth_grad_cam_pp(cut, image, target, key, n_samples=10, derivatives="closed_form", **options)


METHODS: dict[str, Callable[..., Any]] = {
    "Grad-CAM": jaxcam.grad_cam,
    "Grad-CAM+": jaxcam.grad_cam_plus,
    "Grad-CAM++, closed form": functools.partial(jaxcam.grad_cam_pp, derivatives="closed_form"),
    "Grad-CAM++, exact": jaxcam.grad_cam_pp,
    "Smooth Grad-CAM++, closed form": smooth,
    "HiResCAM": jaxcam.hires_cam,
    "LayerCAM": jaxcam.layer_cam,
}
CONTROLS = {"mean activation": controls.mean_activation, "center": controls.center_gaussian}


class Case(NamedTuple):
    """One map that is compared: what the network reads, the target, and the mask of the digit's boxes."""

    inputs: np.ndarray
    target: Any
    mask: np.ndarray


def mask_of(scene: scenes.Scene, digit: int) -> np.ndarray:
    """The boxes of a digit, `[64 64]` bool."""
    mask = np.zeros((scenes.SIDE, scenes.SIDE), bool)
    for (row0, column0, row1, column1), own in zip(scene.boxes, scene.digits, strict=True):
        if own == digit:
            mask[row0:row1, column0:column1] = True
    return mask


def named_digit(words: list[str], place: int) -> int | None:
    """The digit that a word names; None for other words, and for a number: the first "three" of "three threes"."""
    word = words[place]
    if word in PLURALS:
        return PLURALS.index(word)
    return DIGITS.index(word) if word in DIGITS and words[place - 1] in ("a", "an", "the") else None


def words_of(model, scene: scenes.Scene, rng: np.random.Generator) -> list[Case]:
    """The digit words of the scene's caption."""
    tokens = model.tokens(scenes.caption_of(scene))
    words, targets = model.text(tokens).split(), np.asarray(scores.one_token_each(tokens))
    named = [(place, named_digit(words, place)) for place in range(len(words))]
    return [
        Case(np.asarray(tokens), targets[place], mask_of(scene, digit)) for place, digit in named if digit is not None
    ]


def answers_of(model, scene: scenes.Scene, rng: np.random.Generator) -> list[Case]:
    """The questions about a digit of the scene: the one that is the answer to "which digit", else the one named."""
    cases = []
    for question, answer in scenes.questions_of(rng, scene):
        words = question.split()
        named = [digit for place in range(1, len(words)) if (digit := named_digit(words, place)) is not None]
        if question.startswith("which digit"):
            named = [int(answer)] if answer.isdecimal() else []
        if named and named[0] in scene.digits:
            target = np.array(model.answers.index(answer))
            cases.append(Case(np.asarray(model.tokens(question)), target, mask_of(scene, named[0])))
    return cases


def drawn_cases(model, cases_of, count: int) -> list[tuple[np.ndarray, list[Case]]]:
    """The images of test scenes, and at most three cases of each; a scene without one is left out."""
    rng = np.random.default_rng(0)
    drawn = [(scene.image, cases_of(model, scene, rng)[:MOST]) for scene in scenes.draw_many(SEED, "test", count)]
    return [(image, cases) for image, cases in drawn if cases]


def compared(
    model,
    drawn: list[tuple[np.ndarray, list[Case]]],
    score,
    *,
    layer: str = "encoder",
    methods: dict[str, Callable[..., Any]] = METHODS,
) -> dict[str, np.ndarray]:
    """By method the pointing and the ratio of every map, `[images most 2]`, NaN where there are fewer."""
    cut = jaxcam.cut(model, layer, inputs=(jnp.asarray(drawn[0][1][0].inputs),))
    results = {}
    for name, method in {**methods, **CONTROLS}.items():

        def measure(cut, image, case, name=name, method=method):
            own_cut = with_inputs(cut, (case.inputs,))
            options = {"score": score} if name in methods else {}
            saliency = maps.resize(method(own_cut, image, case.target, **options), case.mask.shape)
            ratio = metrics.inside_over_outside(saliency, case.mask)
            return jnp.stack([metrics.pointing_game(saliency, case.mask), ratio])

        run = jax.jit(jax.vmap(measure, (None, None, 0)))
        values = np.full((len(drawn), MOST, 2), np.nan)
        for row, (image, cases) in enumerate(drawn):
            filled = [*cases, *[cases[0]] * (MOST - len(cases))]
            batch = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *filled)
            values[row, : len(cases)] = run(cut, image, batch)[: len(cases)]
        results[name] = values
        print(f"{name}: {summary(values)}", flush=True)
    return results


def summary(values: np.ndarray) -> list[float]:
    """The pointing in percent, and the median ratio."""
    return [100 * float(np.nanmean(values[..., 0])), float(np.nanmedian(values[..., 1]))]


def half_widths(values: np.ndarray, reference: np.ndarray) -> list[float]:
    """Of 95% intervals of the difference from the reference, over scenes that are drawn anew."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(values), (1000, len(values)))
    differences = [np.subtract(summary(values[chosen]), summary(reference[chosen])) for chosen in rows]
    low, high = np.percentile(differences, (2.5, 97.5), axis=0)
    return ((high - low) / 2).tolist()


def figures_of(results: dict[str, np.ndarray]) -> dict[str, dict[str, list[float]]]:
    """By method the pointing and the ratio, and half the widths of the intervals of their differences from Grad-CAM."""
    return {
        name: {"pointing and ratio": summary(values), "half widths": half_widths(values, results["Grad-CAM"])}
        for name, values in results.items()
    }


def table(results: dict[str, np.ndarray]) -> str:
    """The results in Markdown."""
    lines = ["| method | pointing, % | inside over outside |", "|---|---|---|"]
    for name, figures in figures_of(results).items():
        (pointing, ratio), widths = figures["pointing and ratio"], figures["half widths"]
        intervals = [""] * 2 if name == "Grad-CAM" else [f" ± {widths[0]:.1f}", f" ± {widths[1]:.2f}"]
        lines.append(f"| {name} | {pointing:.1f}{intervals[0]} | {ratio:.2f}{intervals[1]} |")
    return "\n".join(lines)


def main():
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the tables' figures to this file")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    for title, model, cases_of, score in (
        ("words", jaxcam.pretrained.captioner(), words_of, scores.sequence_log_prob),
        ("answers", jaxcam.pretrained.answerer(), answers_of, scores.answer),
    ):
        results = compared(model, drawn_cases(model, cases_of, options.scenes), score)
        maps = int(np.isfinite(results["center"][..., 0]).sum())
        print(f"\n{title}: {maps} maps of {len(results['center'])} scenes\n\n{table(results)}\n", flush=True)
        figures[title] = figures_of(results)
        if options.json is not None:
            replace(options.json, (json.dumps(figures, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
