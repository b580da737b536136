"""Scenes: canvases with one to four digits, of one kind or of several, and what can be said and asked about them.

    scene = draw(numpy.random.default_rng(0), "test")
    scene.image            # [64 64 3] float32 in 0..1
    scene.digits           # (7, 3): from the top and the left
    scene.boxes            # [n 4] int: row0, column0, row1, column1, the last two exclusive
    scene.colors           # ("red", "cyan"), or None where the colors have no names
    caption_of(scene)      # "a seven above a three"
    questions_of(rng, scene)      # [("which digit is below the seven", "3"), ...]

The handwriting, the textures and the clutter are those of `examples.digits.canvases`, with its training and test split.
"""

import itertools
import re
from typing import NamedTuple

import numpy as np

from examples.digits import canvases
from jaxcam.networks.answerer import COLORS
from jaxcam.networks.captioner import DIGITS, PLURALS

SIDE = canvases.SIDE
RGB = dict(zip(COLORS, ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)), strict=True))
DIRECTIONS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}
PLACES = {
    (0, 0): "at the top left", (0, 1): "at the top", (0, 2): "at the top right",
    (1, 0): "at the left", (1, 1): "in the middle", (1, 2): "at the right",
    (2, 0): "at the bottom left", (2, 1): "at the bottom", (2, 2): "at the bottom right",
}  # fmt: skip


class Scene(NamedTuple):
    """One picture with its ground truth, in the shapes of the module's docstring."""

    image: np.ndarray
    digits: tuple[int, ...]
    boxes: np.ndarray
    colors: tuple[str, ...] | None

    @property
    def centers(self) -> np.ndarray:
        """The middle of every box, `[n 2]`."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2


def draw(rng: np.random.Generator, split: str, digits: tuple[int, ...] | None = None) -> Scene:
    """One scene of a split, "train" or "test", of given digits or of random ones."""
    digits = _random_digits(rng) if digits is None else digits
    image = canvases._background(rng, split)
    names = tuple(rng.choice(COLORS, len(digits), replace=False).tolist()) if rng.random() < 0.5 else None
    boxes: list[tuple[int, int, int, int]] = []
    for i, digit in enumerate(digits):
        while len(boxes) == i:
            ink = canvases._digit(rng, split, digit)
            box = _random_box(rng, ink)
            if any(canvases._overlap(box, other) for other in boxes):
                continue
            boxes.append(box)
            if names is None:
                canvases._paint(rng, image, ink, box)
            else:
                _paint_named(rng, image, ink, box, names[i])
    others = [digit for digit in range(10) if digit not in digits]
    for _ in range(rng.integers(2, 6)):
        ink = canvases._fragment(rng, canvases._digit(rng, split, others[rng.integers(len(others))]))
        box = _random_box(rng, ink)
        if not any(canvases._overlap(box, taken) for taken in boxes):
            canvases._paint(rng, image, ink, box)
    image += rng.normal(0, 0.02, image.shape)
    order = sorted(range(len(digits)), key=lambda i: boxes[i])
    return Scene(
        np.clip(image, 0, 1).astype(np.float32),
        tuple(digits[i] for i in order),
        np.array([boxes[i] for i in order]),
        None if names is None else tuple(names[i] for i in order),
    )


def draw_many(seed: int, split: str, count: int) -> list[Scene]:
    """`count` scenes. The same seed gives the same scenes."""
    rng = np.random.default_rng(seed)
    return [draw(rng, split) for _ in range(count)]


def _random_digits(rng) -> tuple[int, ...]:
    """One to four copies of a digit, or two or three digits of which some differ."""
    kind = rng.random()
    if kind < 0.5:
        return (int(rng.integers(10)),) * int(rng.integers(1, 5))
    first, second, third = rng.permutation(10)[:3].tolist()
    if kind < 0.75:
        return first, second
    return (first, first, second) if kind < 0.875 else (first, second, third)


def _random_box(rng, ink):
    height, width = ink.shape
    row, column = int(rng.integers(0, SIDE - height + 1)), int(rng.integers(0, SIDE - width + 1))
    return row, column, row + height, column + width


def _paint_named(rng, image, ink, box, name):
    color = np.clip(np.array(RGB[name]) * rng.uniform(0.8, 1.0) + rng.uniform(0, 0.15, 3), 0, 1)
    place = image[box[0] : box[2], box[1] : box[3]]
    place += ink[..., None] * (color.astype(np.float32) - place)


def caption_of(scene: Scene) -> str:
    """The caption of a scene."""
    counts = {digit: scene.digits.count(digit) for digit in sorted(set(scene.digits))}
    if len(scene.digits) == 1:
        return f"{_single(scene.digits[0])} {PLACES[_place(scene.centers[0])]}"
    if len(scene.digits) == 2:
        down, right = scene.centers[1] - scene.centers[0]
        is_vertical = abs(down) > abs(right)
        if len(counts) == 1:
            return f"two {PLURALS[scene.digits[0]]} , {'one above the other' if is_vertical else 'side by side'}"
        first, second = scene.digits if (down if is_vertical else right) > 0 else scene.digits[::-1]
        return f"{_single(first)} {'above' if is_vertical else 'left of'} {_single(second)}"
    phrases = [f"{DIGITS[n]} {PLURALS[d]}" if n > 1 else _single(d) for d, n in counts.items()]
    return " , ".join([*phrases[:-2], " and ".join(phrases[-2:])])


def _single(digit: int) -> str:
    return f"an {DIGITS[digit]}" if digit == 8 else f"a {DIGITS[digit]}"


def _place(center) -> tuple[int, int]:
    row, column = (int(x > 0.36 * SIDE) + int(x > 0.64 * SIDE) for x in center)
    return row, column


class Verdict(NamedTuple):
    """How many statements a caption makes, how many the right caption makes, and how many of the caption's are true."""

    made: int
    needed: int
    true: int

    @property
    def is_right(self) -> bool:
        """Whether everything is true and nothing is missing."""
        return self.made == self.needed == self.true


def judge(caption: str, scene: Scene) -> Verdict:
    """Compares a caption with a scene, statement by statement.

    "two threes" is one statement: it is true if the scene has exactly two. "above", "side by side" and "at the top"
    are one each. A direction is true up to 60 degrees from it, a place up to 5 pixels outside of it.
    """
    counts = _counts_said(caption)
    needed = len(set(scene.digits)) + (len(scene.digits) <= 2)
    true = sum(scene.digits.count(digit) == count for digit, count in counts.items())
    says_where = bool(re.search(r"above|left of|side by side|\bat\b|\bin\b", caption))
    return Verdict(len(counts) + says_where, needed, true + (says_where and _where_is_true(caption, scene)))


def _counts_said(caption: str) -> dict[int, int]:
    counts: dict[int, int] = {}
    for number, noun in re.findall(r"\b(an?|two|three|four) (\w+)", caption):
        for nouns in (DIGITS, PLURALS):
            if noun in nouns:
                count = DIGITS.index(number) if number in DIGITS else 1
                counts[nouns.index(noun)] = counts.get(nouns.index(noun), 0) + count
    return counts


def _where_is_true(caption: str, scene: Scene) -> bool:
    if len(scene.digits) == 1:
        shifts = itertools.product((-5, 0, 5), repeat=2)
        return any(caption.endswith(f" {PLACES[_place(scene.centers[0] + shift)]}") for shift in shifts)
    if len(scene.digits) > 2:
        return False
    down, right = scene.centers[1] - scene.centers[0]
    if "one above the other" in caption or "side by side" in caption:
        along, across = (down, right) if "above" in caption else (right, down)
        return abs(along) > 0.577 * abs(across)
    said = re.findall(r"\ban? (\w+)", caption)
    if len(said) != 2 or not set(said) <= {*DIGITS} or set(map(DIGITS.index, said)) != set(scene.digits):
        return False
    if DIGITS.index(said[0]) != scene.digits[0]:
        down, right = -down, -right
    along, across = (down, right) if "above" in caption else (right, down)
    return along > 0.577 * abs(across)


def questions_of(rng: np.random.Generator, scene: Scene) -> list[tuple[str, str]]:
    """A question of every kind that the scene has an answer to, with its answer."""
    kinds = sorted(set(scene.digits))
    absent = [digit for digit in range(10) if digit not in kinds]
    chosen, missing = kinds[rng.integers(len(kinds))], absent[rng.integers(len(absent))]
    counted = missing if rng.random() < 0.15 else chosen
    asked, reply = (missing, "no") if rng.random() < 0.5 else (chosen, "yes")
    pairs = [
        (f"how many {PLURALS[counted]} are there", str(scene.digits.count(counted))),
        ("how many digits are there", str(len(scene.digits))),
        (f"is there {_single(asked)}", reply),
    ]
    if len(kinds) == 1:
        pairs.append(("which digit is shown", str(chosen)))
    unique = [i for i, digit in enumerate(scene.digits) if scene.digits.count(digit) == 1]
    if scene.colors is not None:
        i = int(rng.integers(len(scene.digits)))
        pairs.append((f"which digit is {scene.colors[i]}", str(scene.digits[i])))
        if unique:
            i = unique[rng.integers(len(unique))]
            pairs.append((f"what color is the {DIGITS[scene.digits[i]]}", scene.colors[i]))
    if len(kinds) > 1 and unique:
        pairs += _question_of_direction(rng, scene, unique[rng.integers(len(unique))])
    return pairs


def _question_of_direction(rng, scene: Scene, i: int) -> list[tuple[str, str]]:
    """Which digit lies in a direction of digit `i`; none if two do, or if one is within 8 degrees of a diagonal."""
    lying: dict[str, list[int]] = {direction: [] for direction in DIRECTIONS}
    for j, center in enumerate(scene.centers):
        if j != i:
            step = center - scene.centers[i]
            if 0.75 < abs(step[0]) / max(abs(step[1]), 1e-6) < 1.33:
                return []
            direction = max(DIRECTIONS, key=lambda name: np.dot(DIRECTIONS[name], step))
            lying[direction].append(scene.digits[j])
    full = [name for name, digits in lying.items() if len(digits) == 1]
    empty = [name for name, digits in lying.items() if not digits]
    names = full if full and (not empty or rng.random() < 0.75) else empty
    if not names:
        return []
    name = names[rng.integers(len(names))]
    return [(f"which digit is {name} the {DIGITS[scene.digits[i]]}", str(lying[name][0]) if lying[name] else "nothing")]
