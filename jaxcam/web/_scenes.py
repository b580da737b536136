"""What the tabs for captions, questions, masks, boxes and clips compute: a picture file to a `Result`, without a page.

>>> from jaxcam.web._kept import Programs
>>> from jaxcam.web._pictures import SAMPLES
>>> scenes = Scenes(Programs(8))
>>> result = scenes.boxes(SAMPLES["digits 1"].path, method="hires_cam")
>>> result.command, result.panels[0].title
('jaxcam detect --sample 1 --method hires_cam', '3')
"""

import functools
import importlib.resources
import json
import os
import pathlib
import shlex
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import jaxcam
from jaxcam import datasets, pretrained, scores
from jaxcam.cutting import Cut, with_inputs
from jaxcam.evaluation import key_of
from jaxcam.methods import METHOD_TITLES
from jaxcam.web import _drawing
from jaxcam.web._kept import Kept, Programs
from jaxcam.web._panels import Panel, Result
from jaxcam.web._pictures import SAMPLES, read_clip, read_picture, sample_clip_of, sample_of

# Methods that take any score.
METHODS = (
    "grad_cam", "grad_cam_pp", "smooth_grad_cam_pp", "hires_cam", "layer_cam", "xgrad_cam", "grad_cam_plus",
)  # fmt: skip
WORD_METHODS = (*METHODS, "counterfactual_grad_cam")  # of captions and answers
SIDE = (64, 64)  # of what the embedded networks were trained on
FRAMES = 16
SHOWN_FRAMES, FRAME_SIDE = 8, 160
TOP_ANSWERS = 3
MOST_TEXT = 200  # characters of a question or a caption
LEAST_PIXELS = 8  # of a class that is shown: fewer are single pixels at the edges of others
MOST_BOXES = 8
LAYERS = {
    "captioner": "encoder",
    "answerer": "encoder",
    "segmenter": "block3",
    "detector": "block3",
    "motions": "conv3",
}
EDGES = {"row0": "top edge", "column0": "left edge", "row1": "bottom edge", "column1": "right edge"}
ZERO = "map is zero"
WHOLE = "the whole caption"


class Seen(NamedTuple):
    """A picture as a network sees it.

    Attributes:
      image: `[64 64 3]` in 0..1.
      drawn: the same at the size of a panel.
      words: the picture in a command line.
    """

    image: np.ndarray
    drawn: np.ndarray
    words: str


class Scenes:
    """The embedded networks, each loaded when a visitor first needs it.

    Args:
      programs: compiled programs, which the whole server shares.
    """

    def __init__(self, programs: Programs):
        self._programs = programs
        self._networks = Kept(len(LAYERS))

    def caption(self, path: str | os.PathLike, *, method: str, text: str = "") -> Result:
        """A map of a whole caption and one under each of its words.

        Args:
          path: the picture.
          method: a name of `WORD_METHODS`.
          text: a caption; by default the network's own.

        Raises:
          ValueError: the file is no picture, an unknown method or word, or a caption that is too long.
        """
        run = self._method("captioner", method, _caption_maps)
        seen, text = _seen(path, "square"), _checked_text(text, "caption")
        model, _ = self._network("captioner")
        tokens = model.tokens(text) if text else model.caption(seen.image).tokens
        numbers = [int(token) for token in np.asarray(tokens) if token >= 0]
        words = [model.words[number] for number in numbers[:-1]]  # without the end
        rows = jnp.arange(len(tokens))[:, None] < len(words)
        targets = jnp.concatenate([tokens[None], jnp.where(rows, scores.one_token_each(tokens), tokens)])
        maps, log_probs = run(seen.image, tokens, targets)
        details = [f"log-probability {log_probs[0]:.2f}", *(f"{p:.0%}" for p in np.exp(log_probs[1 : len(words) + 1]))]
        panels = [_over(seen, *panel) for panel in zip([WHOLE, *words], details, maps, strict=False)]
        known = _scores_of("words")
        note = (
            f"{known['statement_accuracy']:.0%} of the statements in the network's captions of {known['test_scenes']} "
            "held-out scenes are true. The percentage is the word's probability after the words before it."
        )
        given = f" --text {shlex.quote(text)}" if text else ""
        return Result(model.text(tokens), panels, note, f"jaxcam caption {seen.words} --method {method}{given}")

    def answer(self, path: str | os.PathLike, *, method: str, question: str) -> Result:
        """A map of each of the most probable answers to a question; errors are those of `caption`."""
        run = self._method("answerer", method, _answer_maps)
        seen, question = _seen(path, "square"), _checked_text(question, "question")
        model, _ = self._network("answerer")
        tokens = model.tokens(question)
        answers = model.ranked_answers(seen.image, question)[:TOP_ANSWERS]
        maps = run(seen.image, tokens, jnp.array([answer.number for answer in answers]))
        panels = [
            _over(seen, answer.text, f"{answer.probability:.1%}", saliency)
            for answer, saliency in zip(answers, maps, strict=True)
        ]
        known = _scores_of("words")
        note = f"{known['answer_accuracy']:.0%} of its answers to {known['questions']:,} held-out questions are right."
        command = f"jaxcam ask {seen.words} {shlex.quote(question)} --method {method}"
        return Result(f"{model.text(tokens)}? {answers[0].text}", panels, note, command)

    def masks(self, path: str | os.PathLike, *, method: str) -> Result:
        """The mask of each digit and its map, by the mean of the class's logits over the mask.

        Raises:
          ValueError: the file is no picture, an unknown method, or no digit in the prediction.
        """
        run = self._method("segmenter", method, _mask_map)
        seen = _seen(path, "stretch")
        predicted = self._outputs("segmenter", seen.image).argmax(-1)
        names, panels = pretrained.SEGMENTER_CLASSES, []
        counts = np.bincount(predicted.ravel(), minlength=len(names))
        for number in range(len(names) - 1):  # without the background
            if counts[number] < LEAST_PIXELS:
                continue
            mask = predicted == number
            saliency = run(seen.image, jnp.int32(number), jnp.asarray(mask))
            outlined = _drawing.outlined(seen.drawn, mask, _whole(seen))
            panels.append(Panel(names[number], f"mask, {counts[number]} pixels", outlined))
            panels.append(_over(seen, names[number], METHOD_TITLES[method], saliency))
        if not panels:
            raise ValueError(f"no digit has {LEAST_PIXELS} pixels in the predicted mask: choose a picture of digits")
        known = _scores_of("masks")
        note = f"On {known['test_scenes']} held-out scenes the IoU of digits is {known['iou_of_digits']:.2f}."
        said = f"digits: {', '.join(panel.title for panel in panels[::2])}"
        return Result(said, panels, note, f"jaxcam segment {seen.words} --method {method}")

    def boxes(self, path: str | os.PathLike, *, method: str, sides: bool = False) -> Result:
        """The boxes of digits, and what the score of each depends on; with `sides` each of its sides, too.

        Raises:
          ValueError: the file is no picture, an unknown method, or no box.
        """
        parts = scores.BOX_PARTS if sides else scores.BOX_PARTS[:1]
        run = self._method("detector", method, _box_maps)
        seen = _seen(path, "stretch")
        outputs = self._outputs("detector", seen.image)
        probabilities = special.expit(outputs["scores"])
        numbers = [int(i) for i in np.argsort(-probabilities) if outputs["kept"][i]][:MOST_BOXES]
        if not numbers:
            raise ValueError(f"no box has a probability of 0.5: the largest is {probabilities.max():.3f}")
        scale = seen.drawn.shape[0] / SIDE[0]
        panels, names = [], []
        for number in numbers:
            names.append(pretrained.DIGITS_CLASSES[int(outputs["classes"][number].argmax())])
            maps = run(seen.image, jnp.int32(number), jnp.arange(len(parts)))
            for part, saliency in zip(parts, maps, strict=True):
                detail = f"{probabilities[number]:.1%}" if part == "score" else EDGES[part]
                panel = _over(seen, names[-1], detail, saliency)
                row0, column0, row1, column1 = (float(side) * scale for side in outputs["boxes"][number])
                panels.append(panel._replace(picture=_drawing.framed(_array(panel), (row0, column0, row1, column1))))
        known = _scores_of("boxes")
        coarse, fine = known["average_precision_50"], known["average_precision_75"]
        note = (
            f"On {known['test_scenes']} held-out scenes the average precision is {coarse:.2f} at an IoU of 0.5 and "
            f"{fine:.2f} at 0.75."
        )
        command = f"jaxcam detect {seen.words} --method {method}{' --parts' if sides else ''}"
        return Result(f"boxes: {', '.join(names)}", panels, note, command)

    def clip(self, path: str | os.PathLike, *, method: str, motion: str = "") -> Result:
        """An animation of a clip beside its map, and frames with the map, all on one scale.

        Args:
          path: an animated GIF file. A sample's file stands for the sample's own frames.
          method: a name of `METHODS`.
          motion: the motion to explain; by default the most probable one.

        Raises:
          ValueError: the file is no clip, or has too few frames; an unknown method or motion.
        """
        run = self._method("motions", method, _clip_map)
        frames, words = read_clip(path, FRAMES, SIDE), _shell_name(path)
        if (number := sample_clip_of(path)) is not None:
            frames, words = pretrained.motion_clip(number)[0], f"--sample {number}"
        names = pretrained.MOTIONS
        logits = self._outputs("motions", frames)
        target = pretrained.find_class(motion, names) if motion else int(logits.argmax())
        probabilities = special.softmax(logits)
        saliency = run(frames, jnp.int32(target))
        scaled = saliency / max(float(saliency.max()), np.finfo(np.float32).tiny)
        drawn = [_drawing.small_picture(frame, longest=FRAME_SIDE) for frame in frames]
        whole = (0.0, 0.0, float(drawn[0].shape[0]), float(drawn[0].shape[1]))
        over = [_drawing.laid_over(frame, part, whole) for frame, part in zip(drawn, scaled, strict=True)]
        pairs = [_drawing.in_bytes(np.concatenate(pair, 1)) for pair in zip(drawn, over, strict=True)]
        from jaxcam.datasets import images  # loads Pillow

        detail = f"the clip, and {METHOD_TITLES[method]} of {names[target]!r}" + ("" if saliency.any() else f": {ZERO}")
        wide = Panel(f"{names[target]}, {probabilities[target]:.1%}", detail, images.animated(pairs, seconds=0.15))
        shown = np.unique(np.round(np.linspace(0, len(frames) - 1, SHOWN_FRAMES)).astype(int))
        panels = [Panel(f"frame {number}", "", over[number]) for number in shown]
        known = _scores_of("clips")
        note = f"{known['accuracy']:.1%} of {known['test_clips']} held-out clips are named rightly."
        given = f" --target {names[target]}" if motion else ""
        said = f"motion: {names[int(logits.argmax())]}, {probabilities.max():.1%}"
        return Result(said, panels, note, f"jaxcam watch {words} --method {method}{given}", wide)

    def _network(self, name: str) -> tuple[Any, Cut]:
        """An embedded network and its cut."""
        return self._networks.get(name, functools.partial(_opened, name))

    def _method(self, name: str, method: str, compute: Callable[..., Any]) -> Callable[..., Any]:
        """`compute` with a method, as one program; a ValueError for an unknown method."""
        known = WORD_METHODS if name in ("captioner", "answerer") else METHODS
        if method not in known:
            raise ValueError(f"no method {method[:60]!r}: choose one of {', '.join(known)}")
        _, cut = self._network(name)
        computed = functools.partial(compute, method)

        def run(*arguments: Any) -> Any:
            arrays = (cut, *map(jnp.asarray, arguments), jax.random.key(0))
            shapes = tuple(map(np.shape, arguments))
            values = jax.tree.map(np.asarray, self._programs.run((name, method, shapes), computed, *arrays))
            maps = values[0] if isinstance(values, tuple) else values
            if not np.isfinite(maps).all():
                raise ValueError(f"{METHOD_TITLES[method]} is not defined here: its map is not finite")
            return values

        return run

    def _outputs(self, name: str, image: np.ndarray) -> Any:
        """What a network returns for an image or a clip."""
        _, cut = self._network(name)
        values = self._programs.run((name, "outputs"), _outputs_of, cut, jnp.asarray(image))
        return jax.tree.map(np.asarray, values)


def _opened(name: str) -> tuple[Any, Cut]:
    model = getattr(pretrained, name)()
    inputs = (jnp.zeros(model.length, jnp.int32),) if LAYERS[name] == "encoder" else ()  # beside the image: words
    return model, jaxcam.cut(model, LAYERS[name], inputs=inputs)


def _outputs_of(cut: Cut, image: jax.Array) -> Any:
    outputs = cut.head(cut.params, cut.features(cut.params, image), image)
    if isinstance(outputs, dict):  # of the detector
        kept = jaxcam.metrics.distinct_boxes(outputs["scores"], outputs["boxes"], lowest=0.0)
        return {**outputs, "kept": kept}
    return outputs


def _bound(method: str, score: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`(cut, image, target, key) -> map`."""
    function = functools.partial(getattr(jaxcam, method), score=score)
    return lambda cut, image, target, key: function(cut, image, target, **key_of(function, key))


def _caption_maps(method, cut, image, tokens, targets, key):
    """The map and the log-probability of each target."""
    read, score = with_inputs(cut, (tokens,)), scores.sequence_log_prob
    logits, of = read.head(read.params, read.features(read.params, image), image), _bound(method, score)
    maps = jax.vmap(lambda target: of(read, image, target, key))(targets)
    return maps, jax.vmap(lambda target: score(logits, target))(targets)


def _answer_maps(method, cut, image, tokens, numbers, key):
    read, of = with_inputs(cut, (tokens,)), _bound(method, scores.answer)
    return jax.vmap(lambda number: of(read, image, number, key))(numbers)


def _mask_map(method, cut, image, number, mask, key):
    return _bound(method, scores.masked_mean)(cut, image, (number, mask), key)


def _box_maps(method, cut, image, number, parts, key):
    of = _bound(method, scores.box)
    return jax.vmap(lambda part: of(cut, image, (number, part), key))(parts)


def _clip_map(method, cut, clip, target, key):
    return jaxcam.resize(_bound(method, scores.logit)(cut, clip, target, key), clip.shape[:3])


def _seen(path: str | os.PathLike, fit: str) -> Seen:
    """The picture of a file as an embedded network sees it."""
    picture = read_picture(path, SIDE)
    image = np.asarray(datasets.load(datasets.Example(picture), SIDE, fit=fit).image)
    sample = sample_of(path)
    numbers = [name.split()[1] for name in SAMPLES if name.startswith("digits") and SAMPLES[name] == sample]
    return Seen(image, _drawing.small_picture(image), f"--sample {numbers[0]}" if numbers else _shell_name(path))


def _shell_name(path: str | os.PathLike) -> str:
    name = pathlib.PurePath(path).name
    return shlex.quote(f"./{name}" if name.startswith("-") else name)


def _checked_text(text: str, subject: str) -> str:
    if len(text) > MOST_TEXT:
        raise ValueError(f"expected a {subject} of at most {MOST_TEXT} characters, got {len(text)}")
    return " ".join(text.split())


def _whole(seen: Seen) -> _drawing.Region:
    height, width = seen.drawn.shape[:2]
    return 0.0, 0.0, float(height), float(width)


def _over(seen: Seen, title: str, detail: str, saliency: np.ndarray) -> Panel:
    """A map over the picture; the detail says if there is nothing to see."""
    words = [detail, *([] if saliency.any() else [ZERO])]
    return Panel(title, ", ".join(words), _drawing.overlay(seen.drawn, saliency, _whole(seen)))


def _array(panel: Panel) -> np.ndarray:
    assert isinstance(panel.picture, np.ndarray)
    return panel.picture


@functools.cache
def _scores_of(folder: str) -> dict[str, Any]:
    """What the training script printed of an embedded network."""
    return json.loads((importlib.resources.files("jaxcam.pretrained") / folder / "scores.json").read_text())
