"""Write the sample clips of the package: one of each motion, from the test split, as strips of frames.

python -m examples.places.samples --out jaxcam/pretrained/clips
"""

import argparse
import json
import pathlib

import numpy as np
from PIL import Image

from examples.places import moving

SAMPLE_SEED = 2_000_000


def box_of(mask: np.ndarray) -> list[int]:
    """The box around a mask `[h w]`: row0, column0, row1, column1, the last two exclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1]


def main():
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    samples = []
    for label in range(len(moving.MOTIONS)):
        rng = np.random.default_rng(SAMPLE_SEED + label)
        clip = moving.draw(rng, "test", label=label, photograph=label % 2 == 1)
        pixels = np.round(255 * np.concatenate(clip.frames, 1)).astype(np.uint8)
        Image.fromarray(pixels).save(out / f"clip{label}.png", optimize=True)
        boxes = [box_of(mask) for mask in clip.masks]
        samples.append({"file": f"clip{label}.png", "motion": label, "boxes": boxes})
    (out / "clips.json").write_text(json.dumps(samples) + "\n")


if __name__ == "__main__":
    main()
