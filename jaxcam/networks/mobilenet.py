"""MobileNetV2 in Flax NNX, with timm's names.

    >>> import jax, jaxcam
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
from flax import nnx

from jaxcam.cutting import ImageNetwork
from jaxcam.networks._inverted_residuals import blocks_of
from jaxcam.networks._parts import Activation, BatchNormAct, checked_class_names, conv
from jaxcam.networks.efficientnet import Stage
from jaxcam.networks.vgg import torchvision

STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 3, 2, 32, 3),
    Stage(6, 3, 2, 64, 4),
    Stage(6, 3, 1, 96, 3),
    Stage(6, 3, 2, 160, 3),
    Stage(6, 3, 1, 320, 1),
)


class MobileNetV2(nnx.Module, ImageNetwork):
    """MobileNetV2: a stem, inverted residual blocks, a 1 x 1 convolution, mean over space, one linear layer.

    Args:
      stages: the rows of Table 2 between the stem and the last convolution.
      stem: the channels of the first convolution.
      head: the channels of the last convolution.
      classes: the number of outputs, which are logits.
      image_shape: `(h, w, 3)` of one image. The network takes other sizes, too.
      preprocess: applied to the image first, `[b h w 3] -> [b h w 3]`; None for nothing.
      class_names: one for each output, in the order of the classes; None if they are not known.
      kernel_init: draws the kernels of the convolutions; He et al. 2015 by default.
      rngs: where the initial parameters come from.

    Raises:
      ValueError: `class_names` that are not one for each class.
    """

    def __init__(
        self,
        *,
        stages: Sequence[Stage] = STAGES,
        stem: int = 32,
        head: int = 1280,
        classes: int = 1000,
        image_shape: tuple[int, int, int] = (224, 224, 3),
        preprocess: Activation | None = torchvision,
        class_names: Sequence[str] | None = None,
        kernel_init: nnx.Initializer = nnx.initializers.he_normal(),  # noqa: B008
        rngs: nnx.Rngs,
    ):
        self.image_shape = tuple(image_shape)
        self.preprocess = preprocess
        self.class_names = checked_class_names(class_names, classes)
        init: dict[str, Any] = {"kernel_init": kernel_init, "rngs": rngs}
        self.conv_stem = conv(3, stem, 3, stride=2, **init)
        self.bn1 = BatchNormAct(stem, activation=jax.nn.relu6, **init)
        self.blocks = blocks_of(stages, stem, activation=jax.nn.relu6, gated=False, **init)
        self.conv_head = conv(stages[-1].channels, head, 1, **init)
        self.bn2 = BatchNormAct(head, activation=jax.nn.relu6, **init)
        self.classifier = nnx.Linear(head, classes, rngs=rngs)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Logits `[b classes]` of the images `[b h w 3]`, floats in 0..1."""
        x = image if self.preprocess is None else self.preprocess(image)
        x = self.bn1(self.conv_stem(x))
        for blocks in self.blocks:
            x = blocks(x)
        return self.classifier(self.bn2(self.conv_head(x)).mean((1, 2)))
