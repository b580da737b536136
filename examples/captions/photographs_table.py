"""Words of people's captions against the boxes of what they name, on photographs of COCO, and a figure.

    JAXCAM_ASSETS=../shared/assets python -m examples.captions.photographs_table --model build/photographs --out .

The captioner is that of `examples.captions.photographs`. A word that names one of COCO's classes ("dogs", "man") is
mapped in the caption of a person, if the photograph has boxes of the class. The measures, controls and intervals are
those of `examples.captions.table`. The figure shows a photograph whose license lets it be shown, with the caption that
the network writes and a map under each word.
"""

import argparse
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from examples import real_photographs, stored_pictures
from examples.captions import photographs, table
from jaxcam import plots, scores
from jaxcam.runtime import replace

LAYER = f"encoder/{photographs.LAYER}"
# Other words for COCO's classes, in the captions of people.
NAMES = {
    **dict.fromkeys(("man", "woman", "boy", "girl", "child", "men", "women", "people", "lady", "guy"), "person"),
    **{"player": "person", "children": "person", "kid": "person", "bike": "bicycle", "plane": "airplane"},
    **{"phone": "cell phone", "television": "tv", "sofa": "couch", "table": "dining table", "puppy": "dog"},
    **{"kitten": "cat", "sandwiches": "sandwich", "motorbike": "motorcycle", "buses": "bus"},
}
# The exact Grad-CAM++ has 1,280 directions, the mean features. The closed form, and with it Smooth Grad-CAM++, has a
# backward pass for each of 1,435 words at each of 20 steps, which takes far longer.
METHODS = {name: method for name, method in table.METHODS.items() if "closed form" not in name}
SMALL_WORDS = {"a", "an", "the", "in", "on", "of", "with", "is", "are", "and", "to", "at", "by", "."}
# CC BY and CC BY-SA.
SHOWN = tuple(f"http://creativecommons.org/licenses/{name}/2.0/" for name in ("by", "by-sa"))


def read(folder: pathlib.Path) -> tuple[list[str], list[dict[str, Any]], list[np.ndarray]]:
    """The classes, and the photographs that have captions: their rows and their images `[224 224 3]`."""
    file = json.loads((folder / "coco" / "annotations.json").read_text())
    chosen = [i for i, row in enumerate(file["images"]) if row["captions"]]
    images = stored_pictures.read(folder / "coco" / "images.npz", photographs.SHAPE, of=chosen)
    return file["classes"], [file["images"][i] for i in chosen], list(images)


def class_of(word: str, classes: list[str]) -> str | None:
    """The class that a word names, or None.

    Example:
      >>> [class_of(word, ["person", "dog"]) for word in ("dogs", "woman", "runs")]
      ['dog', 'person', None]
    """
    for name in (word, NAMES.get(word), word.removesuffix("s"), word.removesuffix("es")):
        if name in classes:
            return name
    return None


def mask_of(row: dict[str, Any], number: int) -> np.ndarray:
    """The boxes of a class `[224 224]`, bool."""
    mask, side = np.zeros(photographs.SHAPE, bool), photographs.SHAPE[0]
    for label, x, y, width, height in row["boxes"]:
        if int(label) == number:
            left, right = ((x + sign * width / 2) * side for sign in (-1, 1))
            top, bottom = ((y + sign * height / 2) * side for sign in (-1, 1))
            mask[max(int(top), 0) : int(np.ceil(bottom)), max(int(left), 0) : int(np.ceil(right))] = True
    return mask


def cases_of(model, row: dict[str, Any], classes: list[str]) -> list[table.Case]:
    """For each class that a caption names and the photograph has boxes of, the first word that names it."""
    numbers = {word: number for number, word in enumerate(model.decoder.words)}
    cases, seen = [], set()
    for caption in row["captions"]:
        words = photographs.words_in(caption)[: photographs.LENGTH - 1]
        tokens = photographs.tokens_of(words, numbers)
        for place, word in enumerate(words):
            name = class_of(word, classes)
            if name is None or name in seen or word not in numbers:
                continue
            mask = mask_of(row, classes.index(name))
            if mask.any() and not mask.all():
                seen.add(name)
                cases.append(table.Case(tokens, np.where(np.arange(len(tokens)) == place, tokens, -1), mask))
    return cases[: table.MOST]


def agreement(caption: str, row: dict[str, Any]) -> float:
    """How many words of a caption people's captions have, less those that they do not have, but for small words.

    Example:
      >>> agreement("a dog on the grass", {"captions": ["A dog runs.", "A dog in a park."]})
      0
    """
    known = {word for text in row["captions"] for word in photographs.words_in(text)}
    words = [word for word in caption.split() if word not in SMALL_WORDS]
    return sum(1 if word in known else -1 for word in words)


def draw_figure(model, rows, images, out: pathlib.Path) -> str:
    """Draws the photograph whose caption agrees best with people's, of those that may be shown; returns its credit.

    Of equal ones the one with the longest caption.
    """
    shown = [i for i, row in enumerate(rows) if row["licence"] in SHOWN]
    captions = photographs.captions_of(model.decoder, photographs.mean_features(np.stack([images[i] for i in shown])))
    numbers = {word: number for number, word in enumerate(model.decoder.words)}
    sentences = [jnp.asarray(photographs.tokens_of(caption.split(), numbers)) for caption in captions]
    ranks = [(agreement(caption, rows[i]), len(caption.split())) for i, caption in zip(shown, captions, strict=True)]
    best = max(range(len(shown)), key=ranks.__getitem__)
    row, image, caption, tokens = rows[shown[best]], images[shown[best]], captions[best], sentences[best]
    cut = jaxcam.cut(model, LAYER, inputs=(tokens,))
    words = caption.split()

    def map_of(cut, image, target):
        return jaxcam.grad_cam(cut, image, target, score=scores.sequence_log_prob)

    targets = jnp.concatenate([tokens[None], scores.one_token_each(tokens)[: len(words)]])
    maps = jax.jit(jax.vmap(map_of, (None, None, 0)))(cut, image, targets)
    titles = ["the whole caption", *(word + " " * i for i, word in enumerate(words))]
    figure = plots.family(image, dict(zip(titles, np.asarray(maps), strict=True)), title=caption, columns=5)
    plots.save(figure, out, force=True)
    return f"{caption!r}: photograph {row['id']}, {row['licence']}, {row['flickr']}"


def main():
    """Print the table, and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a folder of examples.captions.photographs")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    parser.add_argument("--photographs", type=int, help="how many are explained (default: all with captions)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write the table's figures to this file")
    options = parser.parse_args()
    classes, rows, images = read(real_photographs.assets(parser))
    model = photographs.load(options.model)
    print(draw_figure(model, rows, images, options.out / "photograph_caption.png"), flush=True)
    drawn = [(image, cases_of(model, row, classes)) for image, row in zip(images, rows, strict=True)]
    drawn = [pair for pair in drawn if pair[1]][: options.photographs]
    results = table.compared(model, drawn, scores.sequence_log_prob, layer=LAYER, methods=METHODS)
    print(f"\n{sum(len(cases) for _, cases in drawn)} words of {len(drawn)} photographs\n\n{table.table(results)}")
    if options.json:
        replace(options.json, (json.dumps(table.figures_of(results), indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
