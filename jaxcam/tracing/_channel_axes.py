"""Which axis of a traced value holds the channels, as far as convolutions and dense layers tell.

A convolution names its channel axis. From there the axis is followed through the program: transposed, reshaped,
reduced, and replaced where a matrix product contracts it.

    >>> import jax, jax.numpy as jnp
    >>> from jaxcam.tracing import mark
    >>> def model(x):  # [channels h w]
    ...     kernel, numbers = jnp.ones([4, 3, 3, 3]), ("NCHW", "OIHW", "NCHW")
    ...     y = jax.lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME", dimension_numbers=numbers)
    ...     return mark(jax.nn.relu(y), "relu").mean((2, 3))
    >>> channel_axes(jax.make_jaxpr(model)(jnp.ones([3, 8, 8])))
    ChannelAxes(of_marks={'relu': 1}, of_input=0, input_is_known=True)
"""

import math
from typing import Any, NamedTuple

from jax.extend.core import ClosedJaxpr

from jaxcam.tracing._marks import MARK
from jaxcam.tracing._primitives import CALLS, RESIZING
from jaxcam.tracing._steps import Step, entering, flatten

CONVOLUTION, CHANNELS = "conv_general_dilated", "channels"
# What an axis is: an axis of the input (its number), the channels of a convolution or a dense layer, or unknown.
Labels = tuple[int | str | None, ...]


class ChannelAxes(NamedTuple):
    """The channel axes that a program shows.

    Attributes:
      of_marks: by name, the channel axis of a marked value; None if it is not known, or if several calls differ.
      of_input: the axis of the program's last input that the first convolution takes as channels; None for no axis.
      input_is_known: whether a convolution tells it.
    """

    of_marks: dict[str, int | None]
    of_input: int | None
    input_is_known: bool


def channel_axes(closed: ClosedJaxpr) -> ChannelAxes:
    """The channel axes of the program's marks and of its last input, the image. Loops are not entered."""
    program = flatten(closed, entering(CALLS))
    image = program.inputs[-1]
    labels: dict[int, Labels] = {image: tuple(range(len(program.avals[image].shape)))}
    of_marks: dict[str, int | None] = {}
    of_input: int | None = None
    is_known = False
    for step in program.steps:
        shapes = [tuple(program.avals[number].shape) for number in (*step.inputs, *step.outputs)]
        in_shapes, out_shapes = shapes[: len(step.inputs)], shapes[len(step.inputs) :]
        read = [labels.get(v, (None,) * len(shape)) for v, shape in zip(step.inputs, in_shapes, strict=True)]
        if step.name == CONVOLUTION and not is_known and any(isinstance(label, int) for label in read[0]):
            label = read[0][step.params["dimension_numbers"].lhs_spec[1]]
            of_input = label if isinstance(label, int) else None
            # A model may reduce the channels itself. The image has none only if all of its axes are convolved over.
            is_known = of_input is not None or set(labels[image]) <= set(read[0])
        for number, shape in zip(step.outputs, out_shapes, strict=True):
            labels[number] = _labels_of(step, read, in_shapes, shape)
        if step.name == MARK:
            name, places = step.params["name"], [i for i, label in enumerate(read[0]) if label == CHANNELS]
            axis = places[0] if len(places) == 1 else None
            of_marks[name] = axis if of_marks.get(name, axis) == axis else None
    return ChannelAxes(of_marks, of_input, is_known)


def _labels_of(step: Step, read: list[Labels], in_shapes: list[tuple[int, ...]], out_shape: tuple[int, ...]) -> Labels:
    """The labels of what a step makes."""
    out: list[Any] = [None] * len(out_shape)
    if not read:
        return tuple(out)
    first, shape, params = read[0], in_shapes[0], step.params
    if step.name == CONVOLUTION:
        out[params["dimension_numbers"].out_spec[1]] = CHANNELS
    elif step.name == "transpose":
        out = [first[axis] for axis in params["permutation"]]
    elif step.name == "broadcast_in_dim":
        for axis, to in enumerate(params["broadcast_dimensions"]):
            out[to] = first[axis] if shape[axis] == out_shape[to] else None
    elif step.name == "reshape":
        out = _reshaped(first, shape, out_shape)
    elif step.name == "squeeze":
        out = [label for axis, label in enumerate(first) if axis not in params["dimensions"]]
    elif step.name == "dot_general":
        out = _multiplied(read, params["dimension_numbers"])
    elif "axes" in params and len(out_shape) == len(shape) - len(params["axes"]):
        out = [label for axis, label in enumerate(first) if axis not in params["axes"]]
    else:
        for labels, in_shape in zip(read, in_shapes, strict=True):
            if len(in_shape) == len(out_shape):
                for axis, label in enumerate(labels):
                    same = in_shape[axis] == out_shape[axis] or step.name in RESIZING
                    out[axis] = label if out[axis] is None and same else out[axis]
    return tuple(out)


def _reshaped(labels: Labels, shape: tuple[int, ...], out_shape: tuple[int, ...]) -> list[Any]:
    """An axis stays the same if it has the same length and the same number of elements before it."""
    starts = {(math.prod(shape[:axis]), shape[axis]): label for axis, label in enumerate(labels)}
    return [
        starts.get((math.prod(out_shape[:axis]), size)) if size > 1 else None for axis, size in enumerate(out_shape)
    ]


def _multiplied(read: list[Labels], dimension_numbers: Any) -> list[Any]:
    """A matrix product keeps its free axes. If it contracts the channels, those of the result are its weights' axis."""
    contracted, batch = dimension_numbers
    free = [
        [label for axis, label in enumerate(labels) if axis not in (*contracted[side], *batch[side])]
        for side, labels in enumerate(read)
    ]
    has_channels = [CHANNELS in [labels[axis] for axis in contracted[side]] for side, labels in enumerate(read)]
    for side in (0, 1):
        if has_channels[side] and not has_channels[1 - side] and len(free[1 - side]) == 1:
            free[1 - side] = [CHANNELS]
    return [*(read[0][axis] for axis in batch[0]), *free[0], *free[1]]
