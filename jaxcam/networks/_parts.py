"""Parts that networks in timm's layout share: the padding of PyTorch, the names of timm."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx

Activation = Callable[[jax.Array], jax.Array]


class Chain(nnx.Module):
    """Modules that run one after the other; their names are "0", "1", ..., so `layer4/2` is timm's `layer4.2`."""

    def __init__(self, modules: Sequence[Callable[[jax.Array], jax.Array]]):
        self.length = len(modules)
        for number, module in enumerate(modules):
            setattr(self, str(number), module)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The value of the last module."""
        for number in range(self.length):
            x = getattr(self, str(number))(x)
        return x


class BatchNormAct(nnx.BatchNorm):
    """Batch norm with the running statistics, and the activation: one layer, as in timm."""

    def __init__(self, channels: int, *, activation: Activation | None = None, rngs: nnx.Rngs, **init: Any):
        super().__init__(channels, epsilon=1e-5, use_running_average=True, rngs=rngs)
        self.activation = activation

    def __call__(
        self, x: jax.Array, use_running_average: bool | None = None, *, mask: jax.Array | None = None
    ) -> jax.Array:
        """The value after the activation."""
        x = super().__call__(x, use_running_average, mask=mask)
        return x if self.activation is None else self.activation(x)


def conv(
    channels_in: int,
    channels_out: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
    padding: int | None = None,
    **init: Any,
) -> nnx.Conv:
    """A convolution, padded on both sides as PyTorch does, by `(kernel - 1) // 2` if no `padding` is given.

    `init` has the `rngs` and, if it is not the default, the `kernel_init`.
    """
    padding = (kernel - 1) // 2 if padding is None else padding
    return nnx.Conv(
        channels_in, channels_out, (kernel, kernel), strides=stride, padding=((padding, padding),) * 2,
        feature_group_count=groups, use_bias=bias, **init,
    )  # fmt: skip


def checked_class_names(class_names: Sequence[str] | None, classes: int) -> tuple[str, ...] | None:
    """The names as a tuple.

    Raises:
      ValueError: there is not one for each class.
    """
    if class_names is not None and len(class_names) != classes:
        raise ValueError(f"expected {classes} class_names, one for each class, got {len(class_names)}")
    return None if class_names is None else tuple(class_names)


class Mlp(nnx.Module):
    """Two linear layers, with gelu between them: the exact one, as in PyTorch, not its approximation by tanh."""

    def __init__(self, channels: int, hidden: int, **init: Any):
        self.fc1 = nnx.Linear(channels, hidden, **init)
        self.fc2 = nnx.Linear(hidden, channels, **init)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The next value, `[... channels]`."""
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


def layer_norm(channels: int, *, rngs: nnx.Rngs, **init: Any) -> nnx.LayerNorm:
    """Layer norm over the channels, with timm's epsilon for ConvNeXt and vision transformers.

    The variance is the mean of squared differences, as in PyTorch; Flax's default, a difference of means, loses digits.
    """
    return nnx.LayerNorm(channels, epsilon=1e-6, use_fast_variance=False, rngs=rngs)
