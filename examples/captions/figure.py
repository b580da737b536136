"""A caption with a map of each word.

    python -m examples.captions.figure --out .
    python -m examples.captions.figure --out . --text "two threes , one above the other" --method grad_cam_pp

LayerCAM is the default: of the methods in `examples.captions.table` its maps lie best on the digits that words name.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam import plots, scores


def main():
    """Caption a sample canvas and draw the maps of the words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    parser.add_argument("--text", help="the caption that is explained (default: the most probable one)")
    parser.add_argument("--method", choices=("layer_cam", "hires_cam", "grad_cam", "grad_cam_pp"), default="layer_cam")
    options = parser.parse_args()
    method = getattr(jaxcam, options.method)
    model = jaxcam.pretrained.captioner()
    image, _ = jaxcam.pretrained.digits_canvas(1)
    caption = model.caption(image)
    tokens = caption.tokens if options.text is None else model.tokens(options.text)
    text = model.text(tokens)
    words = text.split()
    cut = jaxcam.cut(model, "encoder", inputs=(tokens,))

    def map_of(target):
        return method(cut, image, target, score=scores.sequence_log_prob)

    maps = jax.jit(jax.vmap(map_of))(jnp.concatenate([tokens[None], scores.one_token_each(tokens)[: len(words)]]))
    # Titles are keys, and spaces behind them are not drawn.
    titles = ["the whole caption", *(word + " " * i for i, word in enumerate(words))]
    figure = plots.family(image, dict(zip(titles, np.asarray(maps), strict=True)), title=text, columns=5)
    plots.save(figure, options.out / "captions.png", force=True)
    print(f"{caption.text!r} is the most probable caption; {options.out / 'captions.png'}")


if __name__ == "__main__":
    main()
