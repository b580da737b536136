"""The layers that a model can be cut at, what is known about each, and the one that is recommended."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jaxcam.cutting._calls import listed_calls
from jaxcam.cutting._describe import LayerDescriptions, describe_self_cutting, describe_traced
from jaxcam.cutting._image_network import token_grid_of
from jaxcam.cutting._layouts import layout_of
from jaxcam.cutting._program import listed_model
from jaxcam.cutting._self_cutting import SelfCutting, check_no_options
from jaxcam.cutting._spec import CutSpec, image_struct, spec_of
from jaxcam.tracing import channel_axes

log = logging.getLogger("jaxcam")


def layers(
    model: Any,
    image_shape: Sequence[int] | None = None,
    *,
    inputs: Sequence[Any] | Mapping[str, Any] = (),
    image: int | str = 0,
    output: str | Callable[[Any], Any] | None = None,
    method: str = "__call__",
    channel_axis: int = -1,
    image_channel_axis: int | None = -1,
    batched: bool = True,
) -> dict[str, tuple[int, ...]]:
    """The layers that a model can be cut at, in the order of their calls, with their outputs' shapes `[*spatial k]`.

    Nothing is computed. A layer that is called several times is there as "name:0", "name:1" and so on, and so is one
    inside a scan of at most 64 rounds; one that returns several arrays that the outputs need, as "name[0]", "name[1]".
    A layer inside a longer loop or a vmap is not among them; `jaxcam.cut` says why.

    Args:
      model: as in `jaxcam.cut`.
      image_shape: that of one image, `(h, w, channels)`; jaxcam's networks and most Keras models say it.
      inputs, image, output, method, channel_axis, image_channel_axis, batched: as in `jaxcam.cut`.

    Example:
      >>> import jaxcam
      >>> jaxcam.layers(jaxcam.digits())["block3_conv2"]
      (16, 16, 64)
    """
    if isinstance(model, SelfCutting):
        given = {
            "inputs": inputs, "image": image, "output": output, "method": method, "channel_axis": channel_axis,
            "image_channel_axis": image_channel_axis,
        }  # fmt: skip
        check_no_options(model, given, layers)
        struct = image_struct(image_shape or model.image_shape)
        cuts = {name: model.cut_at(name) for name in model.layers}
        return {name: jax.eval_shape(cut.features, cut.params, struct).shape for name, cut in cuts.items()}
    params, spec, _ = spec_of(
        model, None, inputs, image_shape, image=image, output=output, method=method, channel_axis=channel_axis,
        image_channel_axis=image_channel_axis, batched=batched,
    )  # fmt: skip
    return _shapes(params, spec)


def _shapes(params: Any, spec: CutSpec) -> dict[str, tuple[int, ...]]:
    """The shapes of the activations of all layers that a traced model can be cut at."""
    if spec.image_shape is None:
        raise ValueError("image_shape is needed: layers(model, (h, w, channels)), the shape of one image")
    program, _, marks, _ = listed_model(spec, params, image_struct(spec.image_shape))
    axes = channel_axes(program)
    calls = listed_calls(marks)
    return {name: layout_of(name, spec, mark, axes, listed=True).shape(mark.aval) for name, (_, mark) in calls.items()}


def describe_layers(
    model: Any,
    image_shape: Sequence[int] | None = None,
    *,
    inputs: Sequence[Any] | Mapping[str, Any] = (),
    image: int | str = 0,
    output: str | Callable[[Any], Any] | None = None,
    method: str = "__call__",
    channel_axis: int = -1,
    image_channel_axis: int | None = -1,
    batched: bool = True,
) -> LayerDescriptions:
    """What is known about the layers that `jaxcam.layers` lists, and which of them is recommended. Nothing is computed.

    A layer is recommended if its head does not read the input, so that all of the model goes through it. Among such
    layers of the last resolution above 1 x 1, it is the last whose values cannot be negative, or else the last. A
    pooling of a layer is passed over for the layer, and a layer that is an output is not recommended. A model that does
    most of its work on tokens has the last layer whose tokens all count; a cut there needs `grid`.

    Args:
      model: as in `jaxcam.cut`.
      image_shape: as in `jaxcam.layers`.
      inputs, image, output, method, channel_axis, image_channel_axis, batched: as in `jaxcam.cut`.

    Returns:
      A tuple of records with `name`, `shape`, `reads_input`, `can_be_negative`, `recommended` and `note`, in the order
      of the calls. It prints as a table; its attribute `recommended` is the recommended record, or None.

    Raises:
      ValueError: the model does not say the shape of its images, and it is not given.

    Example:
      >>> import jaxcam
      >>> print(jaxcam.describe_layers(jaxcam.digits()))
         layer         output        head reads the input  can be negative
         block1_conv1  64 x 64 x 16  no                    no
         ...
      *  block3_conv2  16 x 16 x 64  no                    no
         block3_pool   8 x 8 x 64    no                    no
         fc1           128           no                    no
         fc2           64            no                    no
         predictions   10            no                    yes
      * recommended
    """
    return _descriptions(
        model, image_shape, inputs=inputs, image=image, output=output, method=method, channel_axis=channel_axis,
        image_channel_axis=image_channel_axis, batched=batched,
    )  # fmt: skip


def _descriptions(model, image_shape, *, tokens=None, **options) -> LayerDescriptions:
    """The descriptions; the recommended layer has so many tokens, if they are given."""
    if isinstance(model, SelfCutting):
        check_no_options(model, {name: value for name, value in options.items() if name != "batched"}, describe_layers)
        return describe_self_cutting(model, image_struct(image_shape or model.image_shape), layers(model, image_shape))
    params, spec, _ = spec_of(model, None, options.pop("inputs"), image_shape, **options)
    return describe_traced(spec, params, _shapes(params, spec), tokens)


def recommended_layer(
    model: Any,
    image_shape: Sequence[int] | None,
    *,
    grid: Sequence[int] | None,
    prefix: int,
    suffix: int,
    **options: Any,
) -> str:
    """The layer that a model is cut at if none is given; the options are those of `jaxcam.cut`.

    Raises:
      ValueError: no layer has a map, or the recommended one needs a grid.
    """
    own = token_grid_of(model)
    if grid is None and own is not None:
        grid, prefix = own
    tokens = None if grid is None else prefix + math.prod(grid) + suffix
    chosen = _descriptions(model, image_shape, tokens=tokens, **options).recommended
    if chosen is None:
        what = "a map [*spatial k] that the outputs depend on alone" if grid is None else f"{tokens} tokens that count"
        raise ValueError(f"no layer has {what}: choose a layer; print(jaxcam.describe_layers(...)) describes them")
    if grid is None and chosen.note:
        raise ValueError(
            f"the recommended layer {chosen.name!r} returns {chosen.shape}, {chosen.note}; or give a layer"
        )
    log.info("cut at %r, the recommended layer, which returns %s", chosen.name, chosen.shape)
    return chosen.name
