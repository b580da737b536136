"""A photograph that ships with the package."""

import pathlib


def sample_photograph() -> pathlib.Path:
    """The path of a photograph of a cat, 300 x 451; its source and license are in the NOTICE.

    Example:
      >>> from jaxcam.datasets import images
      >>> images.read(sample_photograph()).shape
      (300, 451, 3)
    """
    return pathlib.Path(__file__).parent / "photographs" / "chelsea.jpg"
