"""The embedded detector, which finds the digits of a canvas."""

import functools

from jaxcam.networks import Detector
from jaxcam.pretrained._digits import DIGITS_CLASSES
from jaxcam.pretrained._embedded import embedded_network


def detector() -> Detector:
    """The embedded detector: a score, a box and the logits of ten handwritten digits at each of 16 x 16 locations.

    `jaxcam.metrics.distinct_boxes` keeps one box for each digit of a 64 x 64 image. The network is trained by
    `examples/places/train_detector.py`, and `jaxcam/pretrained/boxes/scores.json` has what the script printed.

    Example:
      >>> import jaxcam
      >>> cut = jaxcam.cut(jaxcam.pretrained.detector(), "block3")
      >>> image, _ = jaxcam.pretrained.digits_canvas(1)
      >>> outputs = cut.head(cut.params, cut.features(cut.params, image), image)
      >>> number = outputs["scores"].argmax()
      >>> jaxcam.hires_cam(cut, image, (number, "score"), score=jaxcam.scores.box).shape
      (16, 16)
    """
    build = functools.partial(Detector, classes=len(DIGITS_CLASSES), class_names=DIGITS_CLASSES)
    return embedded_network("boxes/weights.npz", build)
