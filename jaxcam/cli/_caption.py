"""`jaxcam caption`: say which digits are where, and draw a map of each word."""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam.cli import _options, _output, _sentences


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "caption",
        help="say which digits are where, with a map of each word",
        description="Write a caption of a picture of handwritten digits, and draw a map of each of its words and one "
        "of the whole caption. The network is the embedded captioner, which knows nothing but digits.",
    )
    parser.set_defaults(command="caption", run=run)
    parser.add_argument("image", nargs="?", metavar="IMAGE", help="a picture file")
    parser.add_argument("--beams", type=int, default=3, metavar="N", help="of the beam search (default: %(default)s)")
    parser.add_argument("--text", metavar="CAPTION", help="explain this caption (default: the most probable one)")
    _sentences.add_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the caption and draw its maps."""
    score = jaxcam.scores.sequence_log_prob
    map_of = _sentences.bound_method(options, score)
    picture = _sentences.find_picture(options.image, "caption", options)
    model = jaxcam.pretrained.captioner()
    tokens = None if options.text is None else model.tokens(options.text)
    if tokens is None:
        tokens = model.caption(picture.image, beams=options.beams).tokens
    words = model.text(tokens).split()

    logits = model(jnp.asarray(picture.image)[None], tokens[None])[0]
    each = jaxcam.scores.one_token_each(tokens)[: len(words)]
    probabilities = np.exp(np.asarray(jax.vmap(lambda target: score(logits, target))(each)))
    log_prob = float(score(logits, tokens))
    cut = jaxcam.cut(model, "encoder", inputs=(tokens,))
    maps = np.asarray(jax.vmap(lambda target: map_of(cut, picture.image, target))(each))
    whole = np.asarray(map_of(cut, picture.image, tokens))

    # A word may occur twice, and titles are keys: spaces behind a title are not drawn.
    titles = [f"{word}, {p:.0%}{' ' * i}" for i, (word, p) in enumerate(zip(words, probabilities, strict=True))]
    panels = {"the whole caption": whole, **dict(zip(titles, maps, strict=True))}
    text = model.text(tokens)
    _sentences.write_figure(picture, panels, text, options)
    record = _sentences.described(picture, options) | {
        "caption": text,
        "log_prob": log_prob,
        "words": [
            {"word": word, "probability": float(p), "map_is_zero": not saliency.any()}
            for word, p, saliency in zip(words, probabilities, maps, strict=True)
        ],
    }
    if options.json:
        _output.print_json(record)
    else:
        print(f"{picture.name}: {text} (log-probability {log_prob:.2f}): {picture.file}")
    return 0
