"""What do the channels of the digits network detect, and do the named ones matter? Network Dissection on canvases.

    python -m examples.neurons_in_words --canvases 500

The concepts are the ten digits, with the ink of each copy as the mask. The example prints which channels detect which
digit, an explanation in words of a few test canvases, and the check: for each canvas, what the score of its class loses
without its most important named neurons, beside as many channels at random.
"""

import argparse

import jax
import numpy as np

import jaxcam
from examples.digits import canvases

SEED = 7_000_000
SHOWN = 3


def concept_masks(drawn: list[canvases.Canvas]) -> dict[str, np.ndarray]:
    """For each digit the ink of its copies on each canvas, `[n 64 64]`."""
    ink = np.stack([canvas.masks.any(0) for canvas in drawn])
    labels = np.array([canvas.label for canvas in drawn])
    return {f"digit {digit}": ink & (labels == digit)[:, None, None] for digit in range(10)}


def main():
    """Dissect the network, explain canvases in words, and ablate the named neurons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--canvases", type=int, default=200, help="canvases of the training split to dissect on")
    parser.add_argument("--test", type=int, default=40, help="test canvases that are explained")
    parser.add_argument("--layer", default="block3_conv2")
    parser.add_argument("--least-iou", type=float, default=0.04)
    options = parser.parse_args()
    cut = jaxcam.cut(jaxcam.digits(), options.layer)
    drawn = canvases.draw_many(SEED, "train", options.canvases)
    images = np.stack([canvas.image for canvas in drawn])
    dissection = jaxcam.analysis.dissect(cut, images, concept_masks(drawn), least_iou=options.least_iou)
    print(dissection)
    drops, random_drops, shares, named = [], [], [], []
    for number, canvas in enumerate(canvases.draw_many(SEED + 1, "test", options.test)):
        words = jaxcam.analysis.explain_in_words(cut, canvas.image, canvas.label, dissection=dissection)
        named.append(np.mean([neuron.name == f"digit {canvas.label}" for neuron in words.important or ()] or [False]))
        if number < SHOWN:
            print(f"\n{words}")
        if not words.important:
            continue
        channels = [neuron.channel for neuron in words.important]
        key = jax.random.fold_in(jax.random.key(0), number)
        check = jaxcam.analysis.ablation(cut, canvas.image, canvas.label, key, channels=channels)
        drops.append(check.drop)
        random_drops.append(check.random_drops.mean())
        shares.append(check.share_below)
    share = f"{np.mean(named):.0%} of the important neurons"
    print(f"\n{share} have the name of the canvas's own digit (a name at random: 10%)")
    print(
        f"without them the score falls by {np.mean(drops):.2f}, without as many random channels by "
        f"{np.mean(random_drops):.2f}: less in {np.mean(shares):.0%} of the draws, over {len(drops)} canvases"
    )


if __name__ == "__main__":
    main()
