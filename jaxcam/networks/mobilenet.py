"""MobileNetV2 in Flax NNX, with timm's names.

    >>> import jaxcam
    >>> from flax import nnx
    >>> model = nnx.eval_shape(lambda: MobileNetV2(stages=STAGES[:2], classes=10, rngs=nnx.Rngs(0)))
    >>> shapes = jaxcam.layers(model)
    >>> shapes["blocks/1"], shapes["blocks/1/0/conv_dw"], shapes["bn2"], shapes["classifier"]
    ((56, 56, 24), (56, 56, 96), (56, 56, 1280), (10,))

The value of `bn1` and `bn2`, and of the first batch norms in a block, is the one after its ReLU6. A block and its last
batch norm have no activation behind them, so their values are negative, too.

Images are floats in 0..1, RGB, `[b h w 3]`.

Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: inverted residuals and linear bottlenecks", CVPR 2018, Table 2.
"""

from collections.abc import Sequence
from typing import Any

import jax

from jaxcam.networks._inverted_residuals import InvertedResidualNetwork
from jaxcam.networks.efficientnet import Stage

STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 3, 2, 32, 3),
    Stage(6, 3, 2, 64, 4),
    Stage(6, 3, 1, 96, 3),
    Stage(6, 3, 2, 160, 3),
    Stage(6, 3, 1, 320, 1),
)


class MobileNetV2(InvertedResidualNetwork):
    """MobileNetV2: inverted residual blocks with ReLU6.

    Args:
      stages: the rows of Table 2 between the stem and the last convolution.
      **options: `rngs`, and `stem`, `head`, `classes`, `image_shape`, `preprocess`, `class_names` and `kernel_init`, as
        in `jaxcam.networks.ResNet`; `stem` and `head` are the channels of the first and the last convolution.

    Raises:
      ValueError: `class_names` that are not one for each class.
    """

    def __init__(self, *, stages: Sequence[Stage] = STAGES, **options: Any):
        super().__init__(stages=stages, activation=jax.nn.relu6, gated=False, **options)
