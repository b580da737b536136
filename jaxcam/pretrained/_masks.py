"""The embedded U-Net, which gives each pixel of a canvas its digit."""

import functools

from jaxcam.networks import UNet
from jaxcam.pretrained._embedded import embedded_network

SEGMENTER_CLASSES = (*"0123456789", "background")


def segmenter() -> UNet:
    """The embedded U-Net: a class for each pixel of a 64 x 64 image, ten handwritten digits and the background.

    Its outputs are logits `[h w 11]`, which `jaxcam.scores.masked_mean` takes. It is trained by
    `examples/places/train_segmenter.py`, and `jaxcam/pretrained/masks/scores.json` has what the script printed.

    Example:
      >>> import jaxcam
      >>> cut = jaxcam.cut(jaxcam.pretrained.segmenter(), "block3")
      >>> image, _ = jaxcam.pretrained.digits_canvas(1)
      >>> mask = cut.head(cut.params, cut.features(cut.params, image), image).argmax(-1) == 3
      >>> jaxcam.grad_cam(cut, image, (3, mask), score=jaxcam.scores.masked_mean).shape
      (16, 16)
    """
    classes = SEGMENTER_CLASSES
    return embedded_network(
        "masks/weights.npz", functools.partial(UNet, up_widths=(8, 16, 48), classes=len(classes), class_names=classes)
    )
