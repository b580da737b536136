"""`jaxcam watch`: what moves how in a clip, and a map over its frames."""

import argparse
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam import plots
from jaxcam.cli import _options, _output, _places
from jaxcam.datasets import clips


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "watch",
        help="the motion in a clip, and a map over its frames",
        description="Name the motion in a clip (left, right, up, down, grows, shrinks) with the embedded 3-D CNN, and "
        "draw its map over time and space: a strip of frames, and an animated GIF.",
    )
    parser.set_defaults(command="watch", run=run)
    _places.add_options(
        parser, what="CLIP", kind="GIF, a video file or a folder of frames", method="grad_cam", layer="conv3"
    )
    parser.add_argument("--target", help="the motion to explain, a name or a number (default: the most probable)")
    parser.add_argument(
        "--frames",
        type=int,
        default=16,
        metavar="N",
        help="how many frames the network is shown, spread evenly over the clip; it was trained with 16 (default: 16)",
    )


def run(options: argparse.Namespace) -> int:
    """Classify, and draw the strip and the animation."""
    _places.check_input(options, "watch")
    model = jaxcam.pretrained.motions()
    least = model.least[0]
    if options.frames < least:
        raise ValueError(f"expected at least {least} frames, which the network needs, got --frames {options.frames}")
    clip, note, name = _clip(options)
    if options.input is not None and pathlib.Path(options.input).resolve() == options.out.resolve():
        raise ValueError(
            f"--out {options.out} is the folder of the frames, which the pictures would join: name another"
        )
    strip_file, animation_file = _places.planned(options, name, ["png", "gif"])
    cut = jaxcam.cut(model, options.layer)
    logits = _places.outputs_of(cut, clip)
    probabilities = np.asarray(jax.nn.softmax(logits))
    names = jaxcam.pretrained.MOTIONS
    target = int(logits.argmax()) if options.target is None else jaxcam.pretrained.find_class(options.target, names)
    saliency = _places.method_of(options, jaxcam.scores.logit)(cut, jnp.asarray(clip), target)
    frames = np.asarray(jaxcam.resize(saliency, clip.shape[:3]))
    title = _places.title_of(options)
    plots.save(plots.strip(clip, {title: frames}), strip_file, force=options.force)
    plots.animate_clip(clip, frames, animation_file, force=options.force)
    files = [str(strip_file), str(animation_file)]
    record = {
        "clip": options.input or name,
        "motion": names[int(logits.argmax())],
        "probabilities": {name: float(p) for name, p in zip(names, probabilities, strict=True)},
        "target": names[target],
        **note,
        **_places.described_map(saliency),
        **{"method": options.method, "layer": options.layer, "output": files[0], "files": files},
    }
    line = f"{name}: {record['motion']}, probability {probabilities.max():.4f}; map of {names[target]!r}"
    scores = _places.scores_of_network("clips")
    return _places.print_record(options, record, [line, *(f"  {file}" for file in files)], scores, accuracy(scores))


def accuracy(scores: dict[str, Any]) -> str:
    """How good the network is, in one line."""
    line = f"network: {scores['accuracy']:.1%} of {scores['test_clips']} held-out clips of 16 frames are named rightly"
    return f"{line}, {1 / len(jaxcam.pretrained.MOTIONS):.1%} by chance"


def _clip(options: argparse.Namespace) -> tuple[np.ndarray, dict, str]:
    """The clip `[t h w 3]`, what JSON says of its frames, and the beginning of the files' names."""
    if options.input is None:
        sample, _, _ = jaxcam.pretrained.motion_clip(options.sample)
        total = len(sample)
        if total < options.frames:
            raise ValueError(f"the sample has {total} frames, got --frames {options.frames}")
        numbers = clips.spread(total, options.frames)
        return sample[list(numbers)], {"frames": list(numbers), "frames_of_clip": total}, f"clip{options.sample}"
    clip = clips.read(options.input, options.frames, shape=_places.SIZE)
    if clip.total != options.frames:
        every = (clip.total - 1) / (options.frames - 1)
        _output.print_error(
            f"{options.input} has {clip.total} frames: the network is shown {options.frames}, every {every:.3g}th"
        )
    note = {"frames": list(clip.numbers), "frames_of_clip": clip.total, "seconds_of_clip": clip.seconds}
    return clip.frames, note, pathlib.Path(options.input).resolve().stem
