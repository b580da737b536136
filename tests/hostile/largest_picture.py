"""`python -m tests.hostile.largest_picture`: what a picture at the limit of pixels takes, in memory and time.

Each picture is read in a process of its own, which prints its peak memory beyond what it had after its imports.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

from PIL import Image

from jaxcam.datasets import images
from tests.hostile.child import peak_memory

MODES = ("RGB", "RGBA", "I;16")


def main() -> None:
    side = int((2 * (Image.MAX_IMAGE_PIXELS or 0)) ** 0.5)
    for mode in MODES:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "largest.png"
            command = [sys.executable, "-m", "tests.hostile.largest_picture", str(path)]
            subprocess.run([*command, mode, str(side)], check=True)  # Pillow's picture is not in the reader's memory
            subprocess.run([*command, mode], check=True)


def read(path: str, mode: str) -> None:
    before, start = peak_memory(), time.monotonic()
    shape = images.read(path).shape
    gib, seconds = (peak_memory() - before) / 1024, time.monotonic() - start
    print(f"{mode}: {shape[0]} x {shape[1]} pixels take {gib:.1f} GiB and {seconds:.0f} s")


if __name__ == "__main__":
    match sys.argv[1:]:
        case [path, mode, side]:
            Image.new(mode, (int(side), int(side))).save(path, compress_level=1)
        case [path, mode]:
            read(path, mode)
        case _:
            main()
