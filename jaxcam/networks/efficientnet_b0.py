"""EfficientNet in Flax NNX, with timm's names: squeeze-and-excite and swish, which EfficientNet-Lite leaves out.

    >>> import jaxcam
    >>> from flax import nnx
    >>> model = nnx.eval_shape(lambda: EfficientNet(stages=STAGES[:2], classes=10, rngs=nnx.Rngs(0)))
    >>> shapes = jaxcam.layers(model)
    >>> shapes["blocks/1"], shapes["blocks/1/0/se"], shapes["bn2"], shapes["classifier"]
    ((56, 56, 24), (56, 56, 96), (56, 56, 1280), (10,))

The value of `bn1` and `bn2`, and of the first batch norms in a block, is the one after swish, which is at least -0.28.

Convolutions are padded on both sides, as in timm's `efficientnet_b0`; `tf_efficientnet_b0` pads as TensorFlow does, and
its weights are not this network's.

Images are floats in 0..1, RGB, `[b h w 3]`.

Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019, Table 1.
"""

from collections.abc import Sequence
from typing import Any

import jax

from jaxcam.networks._inverted_residuals import InvertedResidualNetwork
from jaxcam.networks.efficientnet import STAGES, Stage


class EfficientNet(InvertedResidualNetwork):
    """EfficientNet-B0: gated inverted residual blocks with swish.

    Args:
      stages: the rows of Table 1 between the stem and the last convolution.
      **options: `rngs`, and `stem`, `head`, `classes`, `image_shape`, `preprocess`, `class_names` and `kernel_init`, as
        in `jaxcam.networks.ResNet`; `stem` and `head` are the channels of the first and the last convolution.

    Raises:
      ValueError: `class_names` that are not one for each class.
    """

    def __init__(self, *, stages: Sequence[Stage] = STAGES, **options: Any):
        super().__init__(stages=stages, activation=jax.nn.silu, gated=True, **options)
