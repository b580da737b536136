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
from typing import Any, overload

import jax
import jax.numpy as jnp

from jaxcam.cutting._checks import layer_choices
from jaxcam.cutting._cut import Cut, Cuts
from jaxcam.cutting._program import traced_model
from jaxcam.cutting._self_cutting import SelfCutting
from jaxcam.cutting._spec import image_struct, spec_of
from jaxcam.cutting._traced_cuts import traced_cut, traced_cuts


@overload
def cut(
    model: Any,
    layer: str,
    *,
    image_shape: Sequence[int] | None = None,
    inputs: Sequence[Any] | Mapping[str, Any] = (),
    after: Callable[[jax.Array], jax.Array] | None = None,
    grid: Sequence[int] | None = None,
    prefix: int = 0,
    batched: bool = True,
    through_stop_gradient: bool = False,
) -> Cut: ...


@overload  # a list or a tuple, as a str is a Sequence[str] itself
def cut(
    model: Any,
    layer: list[str] | tuple[str, ...],
    *,
    image_shape: Sequence[int] | None = None,
    inputs: Sequence[Any] | Mapping[str, Any] = (),
    after: Callable[[jax.Array], jax.Array] | None = None,
    grid: Sequence[int] | None = None,
    prefix: int = 0,
    batched: bool = True,
    through_stop_gradient: bool = False,
) -> Cuts: ...


def cut(
    model: Any,
    layer: str | list[str] | tuple[str, ...],
    *,
    image_shape: Sequence[int] | None = None,
    inputs: Sequence[Any] | Mapping[str, Any] = (),
    after: Callable[[jax.Array], jax.Array] | None = None,
    grid: Sequence[int] | None = None,
    prefix: int = 0,
    batched: bool = True,
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
        of names gives a `Cuts`; the options are then those of each of its layers.
      image_shape: that of one image, `(h, w, channels)`, for the checks to be made now.
      inputs: what the model takes besides the image, for one example: a tuple of further arguments, or a dict of
        arguments by name. Arrays become part of `params`; anything else, such as a flag, is static. The usual flags of
        training (`train`, `deterministic`, ...) are set for eval mode where they are not given.
      after: an activation that the model applies to the layer's output as a function, `jax.nn.relu` say: A is then the
        value after it.
      grid: `(h, w)` to turn tokens `[tokens k]` into maps `[h w k]`, row by row; the class token is in `prefix`.
      prefix: how many tokens before the grid (a class token, registers) are no part of A. The head takes them from the
        input, as they were.
      batched: whether the model takes a batch axis, which is added to the image and the arrays of `inputs`, and taken
        away from A and from every output that has one of length 1.
      through_stop_gradient: leave out the model's `stop_gradient`s, which make every gradient at the layers in front of
        them zero; see `jaxcam.rules.through_stop_gradient`.

    Returns:
      A `Cut`, or a `Cuts`. Cutting equal Flax models at one layer twice gives functions that are the same, so nothing
      is traced again. Its `params` are the model's state or variables; where `inputs` has arrays, a dict of "model" and
      "inputs".

    Raises:
      TypeError: not a model of these kinds, or an option that a network that cuts itself does not take.
      ValueError: no such layer, and which there are; a layer that is not called, or called more than once, or inside a
        scan or a vmap; random numbers in eval mode; an `after` or a `grid` that does not fit; no layers at all, or one
        of them twice.

    Example:
      >>> import jaxcam
      >>> jaxcam.cut(jaxcam.digits(), "block9_conv1")
      Traceback (most recent call last):
        ...
      ValueError: no layer 'block9_conv1': choose one of block1_conv1, block1_conv2, ..., predictions
    """
    names = tuple(layer) if isinstance(layer, list | tuple) else (layer,)
    _check_layer_names(names)
    if isinstance(model, SelfCutting):
        _check_no_options(
            model,
            inputs=inputs or None,
            after=after,
            grid=grid,
            prefix=prefix or None,
            through_stop_gradient=through_stop_gradient or None,
        )
        _check_known(names, model.layers)
        own_cut = model.cuts_at(names) if isinstance(layer, list | tuple) else model.cut_at(layer)
        if image_shape is not None:
            _check_image(own_cut, image_struct(image_shape))
        return own_cut
    if prefix and grid is None:
        raise ValueError(f"prefix={prefix} goes with grid=(h, w), the shape of the tokens that are left")
    params, spec, known = spec_of(
        model, names, inputs, image_shape, after=after, grid=grid, prefix=prefix, batched=batched,
        through_stop_gradient=through_stop_gradient,
    )  # fmt: skip
    if known is not None:
        _check_known(names, known)
    return traced_cuts(spec, params) if isinstance(layer, list | tuple) else traced_cut(spec, params)


def layers(
    model: Any,
    image_shape: Sequence[int] | None = None,
    *,
    inputs: Sequence[Any] | Mapping[str, Any] = (),
    batched: bool = True,
) -> dict[str, tuple[int, ...]]:
    """The layers that a model can be cut at, in the order of their calls, with their outputs' shapes `[*spatial k]`.

    Nothing is computed. A layer that is called twice, or inside a scan or a vmap, or that returns several arrays is not
    among them; `jaxcam.cut` says why.

    Args:
      model: as in `jaxcam.cut`.
      image_shape: that of one image, `(h, w, channels)`; a `jaxcam.VGG` and most Keras models know it.
      inputs: as in `jaxcam.cut`.
      batched: as in `jaxcam.cut`.

    Example:
      >>> import jaxcam
      >>> jaxcam.layers(jaxcam.digits())["block3_conv2"]
      (16, 16, 64)
    """
    if isinstance(model, SelfCutting):
        image, found = image_struct(image_shape or model.image_shape), {}
        for name in model.layers:
            own_cut = model.cut_at(name)
            found[name] = jax.eval_shape(own_cut.features, own_cut.params, image).shape
        return found
    params, spec, _ = spec_of(model, None, inputs, image_shape, batched=batched)
    if spec.image_shape is None:
        raise ValueError("image_shape is needed: layers(model, (h, w, channels)), the shape of one image")
    marks = traced_model(spec, params, image_struct(spec.image_shape)).marks
    count = Counter(mark.name for mark in marks)

    def can_be_cut(mark):
        single = count[mark.name] == 1 and "[" not in mark.name
        return single and not mark.within and jnp.issubdtype(mark.aval.dtype, jnp.floating)

    return {mark.name: jax.eval_shape(spec.without_batch_axis, mark.aval).shape for mark in marks if can_be_cut(mark)}


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
        if name not in known:
            raise ValueError(f"no layer {name!r}: {layer_choices(name, known)}")


def _check_no_options(model: SelfCutting, **options: Any) -> None:
    """Raises a TypeError if an option of traced models is given for a network that cuts itself."""
    for option, value in options.items():
        if value is not None:
            raise TypeError(
                f"a {type(model).__name__} takes no {option}: it cuts itself at its layers, a jaxcam.VGG after their "
                "activation"
            )


def _check_image(cut: Cut | Cuts, image: jax.ShapeDtypeStruct) -> None:
    """Traces the cut of a network that cuts itself, so that the network makes its own checks of the image now."""
    if isinstance(cut, Cuts):
        jax.eval_shape(cut.tapped, cut.params, {}, image)
    else:
        jax.eval_shape(cut.features, cut.params, image)
