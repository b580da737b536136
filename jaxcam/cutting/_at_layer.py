"""Cut a model at a named layer into two pure functions: `features: x -> A` and `head: A -> outputs`.

    >>> import jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> A = cut.features(cut.params, image)
    >>> A.shape, cut.head(cut.params, A, image).shape
    ((16, 16, 64), (10,))

Any Flax model can be cut, without being written for it: the model is traced once in eval mode with the layer's output
marked, and the program comes apart at the mark. Both halves are parts of one program, so head(features(x)) is the
model, and the layers that a half does not need are not in it.

    >>> from flax import nnx
    >>> rngs = nnx.Rngs(0)
    >>> model = nnx.Sequential(nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.relu, lambda x: x.mean((1, 2)),
    ...                        nnx.Dropout(0.5, rngs=rngs), nnx.Linear(8, 5, rngs=rngs))
    >>> jaxcam.layers(model, (32, 32, 3))
    {'layers/0': (32, 32, 8), 'layers/3': (8,), 'layers/4': (5,)}
    >>> cut = jaxcam.cut(model, "layers/0", after=nnx.relu, image_shape=(32, 32, 3))
    >>> cut
    Cut(layer='layers/0', 269 parameters, the head does not read the input)
    >>> jaxcam.grad_cam(cut, jax.numpy.ones([32, 32, 3]), 4).shape
    (32, 32)

Any two pure functions make a cut; neither Flax nor a layer is needed:

    >>> import jax.numpy as jnp
    >>> params = {"kernel": jnp.ones([3, 8]), "classifier": jnp.ones([8, 2])}
    >>> features = lambda params, x: jnp.maximum(x @ params["kernel"], 0)
    >>> head = lambda params, A, x: A.mean((0, 1)) @ params["classifier"]
    >>> mine = jaxcam.Cut(params, features, head)
    >>> jaxcam.cam(mine, jnp.ones([4, 4, 3]), 0).shape
    (4, 4)
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack, overload

import jax

from jaxcam.cutting._calls import parsed_name
from jaxcam.cutting._checks import layer_choices
from jaxcam.cutting._cut import Cut, Cuts
from jaxcam.cutting._last_activation import without_last_activation
from jaxcam.cutting._listed_layers import recommended_layer
from jaxcam.cutting._options import CutOptions
from jaxcam.cutting._outputs import with_known_outputs
from jaxcam.cutting._self_cutting import SelfCutting, check_no_options
from jaxcam.cutting._spec import image_struct, spec_of
from jaxcam.cutting._traced_cuts import traced_cut, traced_cuts


@overload
def cut(
    model: Any,
    layer: str | None = None,
    **options: Unpack[CutOptions],
) -> Cut: ...


@overload  # a list or a tuple, as a str is a Sequence[str] itself
def cut(
    model: Any,
    layer: list[str] | tuple[str, ...],
    **options: Unpack[CutOptions],
) -> Cuts: ...


def cut(
    model: Any,
    layer: str | list[str] | tuple[str, ...] | None = None,
    *,
    image_shape: Sequence[int] | None = None,
    inputs: Sequence[Any] | Mapping[str, Any] = (),
    image: int | str = 0,
    output: str | Callable[[Any], Any] | None = None,
    method: str = "__call__",
    after: Callable[[jax.Array], jax.Array] | None = None,
    channel_axis: int = -1,
    image_channel_axis: int | None = -1,
    grid: Sequence[int] | None = None,
    prefix: int = 0,
    suffix: int = 0,
    batched: bool = True,
    strip_activation: bool = False,
    through_stop_gradient: bool = False,
) -> Cut | Cuts:
    """Cut a model at a named layer, so that `head(features(x))` is the model in eval mode, on one example.

    At several layers it does not come apart, but can be added to at each of them, in one program: a `Cuts`.

    The model is left as it was. What it does not say by itself is found out when it is traced: with `image_shape` that
    is now, without it when the cut first sees an image; either way nothing is computed for it.

    Args:
      model: a `flax.nnx.Module`, `(linen_module, variables)`, a Keras 3 model on its JAX backend, or a network that
        inherits from `jaxcam.cutting.SelfCutting`, such as a `jaxcam.VGG`.
      layer: a name that `jaxcam.layers` lists, the path to the layer joined by "/": "stages/0/conv2". The activation is
        what the layer returns; for a `jaxcam.VGG` it is the value after the relu, as in the papers. A list or a tuple
        of names gives a `Cuts`; the options are then those of each of its layers. "encoder:1" is the second call of a
        layer that is called several times, or in a scan; "block[0]" is the first of several arrays that it returns.
        None takes the layer that `jaxcam.describe_layers` recommends, and logs it.
      image_shape: that of one image, `(h, w, channels)`, for the checks to be made now. Networks of jaxcam's say it.
      inputs: what the model takes besides the image, for one example: a tuple of further arguments, or a dict of
        arguments by name. Arrays become part of `params`; anything else, such as a flag, is static. The usual flags of
        training (`train`, `deterministic`, ...) are set for eval mode where they are not given.
      image: the name, or the position, of the argument that is the image, where it is not the first.
      output: which part of the outputs is explained, as the model returns them: a path such as "logits", "0" or
        "heads/cls", or a function. It is applied before everything else, so the rest of the outputs is not in the head.
      method: the name of the method that is called, such as that of a Linen module's other forward pass.
      after: an activation that the model applies to the layer's output as a function, `jax.nn.relu` say: A is then the
        value after it.
      channel_axis: the axis of the layer's output, for one example, that holds the channels; A has them last. A Keras
        model says it where it is -1; for other models, a program that contradicts -1 is logged.
      image_channel_axis: the axis of one image that holds its channels, likewise; None for an image without channels.
        Results in the input's space keep the image's layout.
      grid: `(h, w)` to turn tokens `[tokens k]` into maps `[h w k]`, row by row; the class token is in `prefix`.
        A network that inherits from `jaxcam.cutting.ImageNetwork`, such as `jaxcam.vit_small_patch16()`, says both.
      prefix: how many tokens before the grid (a class token, registers) are no part of A. The head takes them from the
        input, as they were.
      suffix: the same for tokens after the grid.
      batched: whether the model takes a batch axis, which is added to the image and the arrays of `inputs`, and taken
        away from A and from every output that has one of length 1.
      strip_activation: take the softmax or sigmoid at the end of the model off, so that the outputs are the logits in
        front of it, which the papers differentiate.
      through_stop_gradient: leave out the model's `stop_gradient`s, which make every gradient at the layers in front of
        them zero; see `jaxcam.rules.through_stop_gradient`.

    Returns:
      A `Cut`, or a `Cuts`. Cutting equal Flax models at one layer twice gives functions that are the same, so nothing
      is traced again. Its `params` are the model's state or variables; where `inputs` has arrays, a dict of "model" and
      "inputs".

    Raises:
      TypeError: not a model of these kinds; `inputs` or `image` do not fit the model's call; an option that a network
        that cuts itself does not take.
      ValueError: no such layer, and which there are; a layer that is not called, or called more than once without a
        number, or inside a vmap; random numbers in eval mode; an `after` or a `grid` that does not fit; no layers at
        all, or one of them twice; `strip_activation` for outputs that do not end in a softmax or a sigmoid; without a
        layer, no shape of an image, or no layer that can be recommended.

    Example:
      >>> import jaxcam
      >>> jaxcam.cut(jaxcam.digits(), "block9_conv1")
      Traceback (most recent call last):
        ...
      ValueError: no layer 'block9_conv1': choose one of block1_conv1, block1_conv2, ..., predictions
    """
    if layer is None:
        layer = recommended_layer(
            model, image_shape, grid=grid, prefix=prefix, suffix=suffix, inputs=inputs, batched=batched, image=image,
            output=output, method=method, channel_axis=channel_axis, image_channel_axis=image_channel_axis,
        )  # fmt: skip
    names = tuple(layer) if isinstance(layer, list | tuple) else (layer,)
    _check_layer_names(names)
    if isinstance(model, SelfCutting):
        options = {
            "inputs": inputs, "image": image, "output": output, "method": method, "after": after, "grid": grid,
            "prefix": prefix, "suffix": suffix, "channel_axis": channel_axis, "image_channel_axis": image_channel_axis,
            "through_stop_gradient": through_stop_gradient,
        }  # fmt: skip
        check_no_options(model, options, cut)
        _check_known(names, model.layers)
        own_cut = model.cuts_at(names) if isinstance(layer, list | tuple) else model.cut_at(layer)
        if image_shape is not None:
            _check_image(own_cut, image_struct(image_shape))
        return _with_outputs(own_cut, image_shape or model.image_shape if strip_activation else None, strip_activation)
    for option, count in (("prefix", prefix), ("suffix", suffix)):
        if count and grid is None:
            raise ValueError(f"{option}={count} goes with grid=(h, w), the shape of the tokens that are left")
    params, spec, known = spec_of(
        model, names, inputs, image_shape, image=image, output=output, method=method, after=after,
        channel_axis=channel_axis, image_channel_axis=image_channel_axis, grid=grid, prefix=prefix, suffix=suffix,
        batched=batched, through_stop_gradient=through_stop_gradient,
    )  # fmt: skip
    if known is not None:
        _check_known(names, known)
    traced = traced_cuts(spec, params) if isinstance(layer, list | tuple) else traced_cut(spec, params)
    return _with_outputs(traced, spec.image_shape, strip_activation)


def _with_outputs(made: Any, image_shape: Sequence[int] | None, strip_activation: bool) -> Any:
    """The cut, without its last activation if that is asked for, that says what its outputs are if the shape is known.

    Raises:
      ValueError: there is no such activation, and the shape of the image is known.
    """
    made = without_last_activation(made) if strip_activation else made
    return made if image_shape is None else with_known_outputs(made, image_struct(image_shape))


def _check_layer_names(names: tuple[str, ...]) -> None:
    """Raises a ValueError if there are no layers, or one of them is given twice."""
    if not names:
        raise ValueError("no layers: a name, or several, that jaxcam.layers lists")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"layer {twice[0]!r} is given twice: each layer once")


def _check_known(names: tuple[str, ...], known: Sequence[str]) -> None:
    """Raises a ValueError if a layer is none of the model's."""
    for name in names:
        if name not in known and parsed_name(name).layer not in known:
            raise ValueError(f"no layer {name!r}: {layer_choices(name, known)}")


def _check_image(cut: Cut | Cuts, image: jax.ShapeDtypeStruct) -> None:
    """Traces the cut of a network that cuts itself, so that the network makes its own checks of the image now."""
    if isinstance(cut, Cuts):
        jax.eval_shape(cut.tapped, cut.params, {}, image)
    else:
        jax.eval_shape(cut.features, cut.params, image)
