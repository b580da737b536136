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
from typing import Any, Protocol, overload, runtime_checkable

import jax
import jax.numpy as jnp

from jaxcam.cutting._cut import Cut, Cuts
from jaxcam.cutting._trace import (
    _choices,
    _halves,
    _image,
    _opened,
    _shape,
    _split,
    _tap,
    _tapped,
    _trace,
    _without_batch,
)


@runtime_checkable
class ComesApart(Protocol):
    """A network that knows how to come apart at its layers, such as `jaxcam.VGG`."""

    layers: Sequence[str]
    image_shape: tuple[int, ...]

    def halves(self, layer: str) -> tuple[Any, Callable, Callable]:
        """The parameters, and the two functions of a `jaxcam.Cut`: `features(params, x)` and `head(params, A, x)`."""
        ...

    def taps(self, layers: Sequence[str]) -> tuple[Any, Callable]:
        """The parameters, and the function of a `jaxcam.Cuts`: `tapped(params, deltas, x)`."""
        ...


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
) -> Cut | Cuts:
    """Cut a model at a named layer, so that `head(features(x))` is the model in eval mode, on one example.

    At several layers it does not come apart, but can be added to at each of them, in one program: a `Cuts`.

    The model is left as it was. What it does not say by itself is found out when it is traced: with `image_shape` that
    is now, without it when the cut first sees an image; either way nothing is computed for it.

    Args:
      model: a `flax.nnx.Module`, `(linen_module, variables)`, or a Keras 3 model on its JAX backend.
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

    Returns:
      A `Cut`, or a `Cuts`. Cutting equal Flax models at one layer twice gives functions that are the same, so nothing
      is traced again. Its `params` are the model's state or variables; where `inputs` has arrays, a dict of "model" and
      "inputs".

    Raises:
      TypeError: not a model of these kinds.
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
    several = isinstance(layer, list | tuple)
    layers: tuple[str, ...] = tuple(layer) if isinstance(layer, list | tuple) else (layer,)
    if not layers:
        raise ValueError("no layers: a name, or several, that jaxcam.layers lists")
    twice = [name for name, count in Counter(layers).items() if count > 1]
    if twice:
        raise ValueError(f"layer {twice[0]!r} is given twice: each layer once")
    if isinstance(model, ComesApart):
        given = {"inputs": inputs or None, "after": after, "grid": grid, "prefix": prefix or None}
        for option, value in given.items():
            if value is not None:
                raise TypeError(f"a jaxcam.VGG takes no {option}: its layers are cut after their activation")
        if several:
            params, tapped = model.taps(layers)
            if image_shape is not None:
                jax.eval_shape(tapped, params, {}, _image(image_shape))
            return Cuts(params, tapped, layers)
        params, features, head = model.halves(layers[0])
        if image_shape is not None:
            jax.eval_shape(features, params, _image(image_shape))
        return Cut(params, features, head, layers[0], False)
    if prefix and grid is None:
        raise ValueError(f"prefix={prefix} goes with grid=(h, w), the shape of the tokens that are left")
    params, how, names = _opened(
        model, layers, inputs, image_shape, after=after, grid=grid, prefix=prefix, batched=batched
    )
    for name in layers:
        if names is not None and name not in names:
            raise ValueError(f"no layer {name!r}: {_choices(name, names)}")
    if several:
        tapped = how.run.shared.once(_tapped, how)
        if how.image_shape is not None:
            tap, _, _ = _tap(how, params, _image(how.image_shape))
            for name in layers:
                _shape(tap.avals[name], how, name)
        return Cuts(params, tapped, layers)
    features, head = how.run.shared.once(_halves, how)
    reads = None
    if how.image_shape is not None:
        split, _, _ = _split(how, params, _image(how.image_shape))
        _shape(split.aval, how, layers[0])
        reads = split.reads[-1] or prefix > 0
    return Cut(params, features, head, layers[0], reads)


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
    if isinstance(model, ComesApart):
        image, found = _image(image_shape or model.image_shape), {}
        for name in model.layers:
            params, features, _ = model.halves(name)
            found[name] = jax.eval_shape(features, params, image).shape
        return found
    params, how, _ = _opened(model, None, inputs, image_shape, batched=batched)
    if how.image_shape is None:
        raise ValueError("image_shape is needed: layers(model, (h, w, channels)), the shape of one image")
    _, _, marks, _ = _trace(how, params, _image(how.image_shape))
    count = Counter(mark.name for mark in marks)

    def can_be_cut(mark):
        single = count[mark.name] == 1 and "[" not in mark.name
        return single and not mark.within and jnp.issubdtype(mark.aval.dtype, jnp.floating)

    return {
        mark.name: jax.eval_shape(lambda value: _without_batch(value, how), mark.aval).shape
        for mark in marks
        if can_be_cut(mark)
    }
