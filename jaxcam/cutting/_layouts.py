"""How a layer's output becomes an activation `[*spatial k]` of one example, and back: batch, channels, tokens, grid."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam.cutting._image_layout import warn_once
from jaxcam.cutting._spec import CutSpec
from jaxcam.tracing import ChannelAxes, Mark

# How many tokens besides a square of patches are looked for: a class token, a second one, registers.
EXTRA_TOKENS = (0, 1, 2, 4, 5)


class Layout(NamedTuple):
    """The layout of a layer's output.

    Attributes:
      layer: its name, for messages.
      spec: of the cut: batch, grid, prefix and suffix.
      channel_axis: the axis of one example that holds the channels.
    """

    layer: str
    spec: CutSpec
    channel_axis: int

    def activation(self, output: jax.Array) -> jax.Array:
        """A layer's output as the activation of one example, its channels last and its tokens in their grid.

        Raises:
          ValueError: the output has no such channel axis, or the tokens do not fill the grid.
        """
        spec, output = self.spec, self._channels_last(output)
        if spec.grid is None:
            return output
        tokens = spec.prefix + math.prod(spec.grid) + spec.suffix
        if output.ndim != 2 or output.shape[0] != tokens:
            suffix = f" and suffix={spec.suffix}" if spec.suffix else ""
            raise ValueError(
                f"expected ({tokens}, k) of layer {self.layer!r} for grid={spec.grid} with prefix={spec.prefix}"
                f"{suffix}, got {output.shape}"
            )
        return output[spec.prefix : tokens - spec.suffix].reshape(*spec.grid, output.shape[-1])

    def shape(self, aval: Any) -> tuple[int, ...]:
        """The shape of the activation."""
        return jax.eval_shape(self.activation, aval).shape

    @property
    def has_tokens(self) -> bool:
        """Whether tokens around the grid are no part of A."""
        return self.spec.prefix + self.spec.suffix > 0

    def output(self, A: jax.Array, like: Any) -> jax.Array:
        """The layer's output whose activation is A.

        Args:
          A: `[*spatial k]`.
          like: an output of the layer, whose tokens around the grid are taken; its shape and dtype if there are none.
        """
        spec = self.spec
        if spec.grid is not None:
            A = A.reshape(-1, A.shape[-1])
        if self.has_tokens:
            tokens = self._channels_last(like)
            A = jnp.concatenate([tokens[: spec.prefix], A, tokens[tokens.shape[0] - spec.suffix :]])
        return jnp.moveaxis(A, -1, self.channel_axis).reshape(like.shape).astype(like.dtype)

    def _channels_last(self, output):
        output = self.spec.without_batch_axis(output)
        if not -output.ndim <= self.channel_axis < output.ndim:
            raise ValueError(f"channel_axis={self.channel_axis} is no axis of layer {self.layer!r}: {output.shape}")
        return jnp.moveaxis(output, self.channel_axis, -1)


def layout_of(layer: str, spec: CutSpec, mark: Mark, axes: ChannelAxes, *, listed: bool = False) -> Layout:
    """The layout of a layer.

    The channel axis is the one that is given. If it is -1, a framework with several layouts (Keras) is asked: the
    program, the layer's own option, then the framework's. A framework with one layout has its channels last; if the
    program contradicts, that is logged.

    Args:
      layer: the name.
      spec: what is cut.
      mark: that of the layer's output.
      axes: what the program shows.
      listed: whether the layer is listed and not cut at. Then no contradiction is logged, and the network's own grid is
        not taken.
    """
    shape = jax.eval_shape(spec.without_batch_axis, mark.aval).shape
    removed = len(mark.aval.shape) - len(shape)
    shown = axes.of_marks.get(mark.name)
    shown = None if shown is None else shown - removed
    axis = spec.channel_axis
    if axis == -1 and spec.call.channel_axes is not None:
        if shown is None and len(shape) > 1:
            shown = spec.call.channel_axes.of_layer(mark.name, len(shape))
        axis = -1 if shown is None else shown
    elif axis == -1 and not listed and shown is not None and 0 <= shown < len(shape) - 1:
        warn_once(
            f"the channels of layer {layer!r} {list(shape)} seem to be its axis {shown}: channel_axis={shown} says so, "
            f"and {len(shape) - 1} that they are last"
        )
    layout = Layout(layer, spec, axis)
    if listed or spec.grid is not None:
        return layout
    shape, own = layout.shape(mark.aval), spec.own_grid
    if own is not None and len(shape) == 2 and shape[0] == own.prefix + math.prod(own.grid):
        return layout._replace(spec=spec._replace(grid=own.grid, prefix=own.prefix))
    _warn_of_tokens(layer, spec, shape)
    return layout


def _warn_of_tokens(layer, spec, shape) -> None:
    """Logs that a map of tokens may be one of patches."""
    known = spec.image_shape
    if len(shape) != 2 or known is None or len(known) - (spec.image_channel_axis is not None) < 2:
        return
    for extra in EXTRA_TOKENS:
        side = math.isqrt(max(shape[0] - extra, 0))
        if side > 1 and side * side == shape[0] - extra:
            prefix = f", prefix={extra}" if extra else ""
            warn_once(
                f"layer {layer!r} gives {shape[0]} tokens, which look like a square: grid=({side}, {side}){prefix}"
            )
            return


def image_axis_of(spec: CutSpec, axes: ChannelAxes) -> int | None:
    """The axis of the image that holds its channels: that of the spec, or the one that a Keras program shows.

    A program of another framework that contradicts the default is logged.
    """
    given = spec.image_channel_axis
    if given != -1 or not axes.input_is_known:
        return given
    if spec.call.channel_axes is not None:
        return axes.of_input
    shape = list(spec.image_shape or ())
    if shape and axes.of_input != len(shape) - 1:
        warn_once(
            f"the first convolution takes axis {axes.of_input} of the image {shape} as channels: "
            f"image_channel_axis={axes.of_input} says so, and {len(shape) - 1} that they are last"
        )
    return given
