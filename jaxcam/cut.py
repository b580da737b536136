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

import contextlib
import difflib
import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam import jaxprs, models, vgg
from jaxcam.vgg import VGG


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["features", "head", "layer", "reads_input"]
)
@dataclass(frozen=True, eq=False)
class Cut:
    """A model in two parts, on one example without a batch axis.

    A cut is a pytree whose leaves are the parameters. Pass it to a jitted function as an argument: closed over, the
    parameters become constants of the program, which for VGG-16 takes a gigabyte and seconds to compile.

    Attributes:
      params: any pytree; what the two functions take first.
      features: `(params, x) -> A`, with `A` of shape `[*spatial k]`: channels last, any number of spatial axes.
      head: `(params, A, x) -> outputs`. It takes the input too, for layers that a skip connection bypasses.
      layer: the layer's name, for messages and titles.
      reads_input: whether the head needs the input beside A, as it does where a connection goes round the layer; None
        where that is not known.
    """

    params: Any
    features: Callable[[Any, Any], jax.Array] = field(repr=False)
    head: Callable[[Any, Any, Any], Any] = field(repr=False)
    layer: str = ""
    reads_input: bool | None = None

    def __repr__(self) -> str:
        known = {None: "", True: ", the head reads the input", False: ", the head does not read the input"}
        return f"Cut(layer={self.layer!r}, {_size(self.params):,} parameters{known[self.reads_input]})"


@functools.partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["tapped", "layers"])
@dataclass(frozen=True, eq=False)
class Cuts:
    """A model that can be added to at several layers, on one example: one backward pass reaches all of them.

    The derivatives of the outputs in what is added to a layer are those of the head of a `Cut` at that layer in A, of
    every order; but the heads are one program here. A pytree like a `Cut`, whose leaves are the parameters.

    Attributes:
      params: any pytree; what the function takes first.
      tapped: `(params, deltas, x) -> (activations, outputs)`: the model, with `deltas[layer]` added to the layer's
        value. Deltas and activations are dicts by layer, `[*spatial k]` each. A layer that is missing in `deltas` has
        nothing added to it, so `{}` gives the model as it is; an activation has its delta in it.
      layers: the layers' names, in the order that they were given in. The activations are in it too, but JAX sorts the
        keys of what goes through its transformations.

    Example:
      >>> import jax, jaxcam
      >>> cuts = jaxcam.cut(jaxcam.digits(), ["block2_conv2", "block3_conv2"])
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> activations, outputs = cuts.tapped(cuts.params, {}, image)
      >>> zeros = jax.tree.map(jax.numpy.zeros_like, activations)
      >>> gradients = jax.grad(lambda deltas: cuts.tapped(cuts.params, deltas, image)[1][3])(zeros)
      >>> {layer: gradients[layer].shape for layer in cuts.layers}
      {'block2_conv2': (32, 32, 32), 'block3_conv2': (16, 16, 64)}
    """

    params: Any
    tapped: Callable[[Any, Mapping[str, jax.Array], Any], tuple[dict[str, jax.Array], Any]] = field(repr=False)
    layers: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Cuts(layers={self.layers!r}, {_size(self.params):,} parameters)"


def _size(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params) if hasattr(leaf, "size"))


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
    if isinstance(model, VGG):
        given = {"inputs": inputs or None, "after": after, "grid": grid, "prefix": prefix or None}
        for option, value in given.items():
            if value is not None:
                raise TypeError(f"a jaxcam.VGG takes no {option}: its layers are cut after their activation")
        if several:
            params, tapped = vgg.taps(model, layers)
            if image_shape is not None:
                jax.eval_shape(tapped, params, {}, _image(image_shape))
            return Cuts(params, tapped, layers)
        params, features, head = vgg.halves(model, layers[0])
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
    if isinstance(model, VGG):
        image, found = _image(image_shape or model.image_shape), {}
        for name in model.layers:
            params, features, _ = vgg.halves(model, name)
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


class _How(NamedTuple):
    """All that the functions of a cut depend on, but for arrays."""

    run: models.Run
    streams: models.Streams
    layers: tuple[str, ...] | None  # all of them, for None
    inputs: "_Inputs"
    after: Callable[[jax.Array], jax.Array] | None
    grid: tuple[int, ...] | None
    prefix: int
    batched: bool
    image_shape: tuple[int, ...] | None
    unjitted: bool = False


class _Inputs(NamedTuple):
    """What a model takes besides the image, without its arrays: None stands in the place of each."""

    tree: Any
    leaves: tuple[Any, ...]
    arrays: tuple[int, ...]
    types: tuple[type, ...]  # as True is 1, which is another input


def _halves(how):
    (layer,) = how.layers

    # Jitted for the cache of traces, and inlined: a function that uses them is traced as if they were written out.
    @functools.partial(jax.jit, inline=True)
    def features(params, x):
        split, values, _ = _split(how, params, x)
        return _shaped(split.before(*values)[0], how, layer)

    @functools.partial(jax.jit, inline=True)
    def head(params, A, x):
        split, values, outputs = _split(how, params, x)
        wanted = _shape(split.aval, how, layer)
        if A.shape != wanted:
            raise ValueError(f"A has shape {A.shape}: the layer {layer!r} gives {wanted}")
        if how.prefix:
            tokens = _without_batch(split.before(*values)[0], how)
            A = jnp.concatenate([tokens[: how.prefix], A.reshape(-1, A.shape[-1])])
        A = A.reshape(split.aval.shape).astype(split.aval.dtype)
        return jax.tree.unflatten(outputs, split.after(A, *values))

    return features, head


def _tapped(how):
    @functools.partial(jax.jit, inline=True)
    def run(params, deltas, x):
        tap, values, outputs = _tap(how, params, x)
        added = {}
        for layer, delta in deltas.items():
            aval, shape = tap.avals[layer], jnp.shape(delta)
            wanted = _shape(aval, how, layer)
            if shape != wanted:
                raise ValueError(f"deltas[{layer!r}] has shape {shape}: the layer gives {wanted}")
            delta = jnp.asarray(delta, aval.dtype)
            if how.prefix:
                delta = jnp.pad(delta.reshape(-1, shape[-1]), ((how.prefix, 0), (0, 0)))
            added[layer] = delta.reshape(aval.shape)
        found, out = tap.run(added, *values)
        return [_shaped(found[layer], how, layer) for layer in how.layers], jax.tree.unflatten(outputs, out)

    def tapped(params, deltas, x):
        for layer in deltas:
            if layer not in how.layers:
                raise ValueError(f"deltas has {layer!r}: choose one of {', '.join(how.layers)}")
        values, outputs = run(params, dict(deltas), x)
        return dict(zip(how.layers, values, strict=True)), outputs

    return tapped


def _tap(how, params, x):
    """The model's program, to be added to at its layers, the values of its inputs, and the tree of its outputs."""
    closed, values, outputs, after = _program_of(how, params, x)
    tap = jaxprs.tap(how.layers, closed, after=after)
    _check_deterministic(tap.needs, params)
    return tap, values, outputs


def _split(how, params, x):
    """The model's program in two parts at the layer, the values of its inputs, and the tree of its outputs."""
    (layer,) = how.layers
    closed, values, outputs, after = _program_of(how, params, x)
    split = jaxprs.split_at(layer, closed, after=after.get(layer))
    _check_deterministic(split.needs, params)
    return split, values, outputs


def _program_of(how, params, x):
    """The model's program, the values of its inputs, the tree of its outputs, and `after` as a program for each layer.

    A ValueError where a layer is not what a cut needs.
    """
    if how.image_shape is not None and (len(x.shape), x.shape[-1:]) != (len(how.image_shape), how.image_shape[-1:]):
        wanted = "[" + " ".join(map(str, how.image_shape)) + "]"
        raise ValueError(f"image has shape {x.shape}: {wanted} is wanted, without a batch axis; use jax.vmap for many")
    closed, outputs, found, unjitted = _trace(how, params, x)
    after = {}
    for layer in how.layers:
        mine = _of(layer, found)
        if not mine:
            called = [mark.name for mark in _trace(how._replace(layers=None), params, x)[2]]
            raise ValueError(
                f"layer {layer!r} is not called in eval mode, or not for the outputs: {_choices(layer, called)}"
            )
        _check_marks(layer, mine)
        if how.after is not None:
            aval = mine[0].aval
            with _jit_or_not(unjitted):
                after[layer] = jax.make_jaxpr(how.after)(jaxprs.shapes_of(aval))
    return closed, [*jax.tree.leaves(params), *how.streams.leaves, x], outputs, after


def _check_deterministic(needs, params):
    if any(needs[len(jax.tree.leaves(params)) : -1]):
        raise ValueError(
            "the model draws random numbers in eval mode: its maps would be noise of their own; make it deterministic"
        )


def _of(layer, marks):
    """A layer's marks: of several arrays, each has its place behind the name."""
    return [mark for mark in marks if mark.name == layer or mark.name.startswith(f"{layer}[")]


def _trace(how, params, x):
    """The model's program, `(params, streams, x) -> outputs` on one example, the tree of its outputs, and its marks.

    And whether the jitted blocks in it were traced as if they were written out.
    """
    shapes = jaxprs.shapes_of((params, x))
    program = how.run.shared.once(_program, how).trace(shapes[0], how.streams.leaves, shapes[1])
    if len(program.jaxpr.jaxpr.invars) != len(jax.tree.leaves(shapes)) + len(how.streams.leaves):
        raise ValueError(
            "the model closes over a traced value: hold it in the model's parameters, or pass it in inputs="
        )
    updated = jaxprs.computed(program.jaxpr, models.STATISTICS)
    if updated:
        raise ValueError(
            f"the model updates its statistics {', '.join(updated[:3])}, as in training: pass its flag for eval mode, "
            "such as inputs={'train': False}"
        )
    closed, _ = jaxprs.live(program.jaxpr)
    marks = jaxprs.marks(closed.jaxpr)
    count = Counter(mark.name for mark in marks)
    unseen = not marks if how.layers is None else not all(_of(layer, marks) for layer in how.layers)
    shared = unseen or any(mark.jitted and count[mark.name] > 1 for mark in marks)
    if shared and not how.unjitted:
        # Jitted blocks of Linen that are alike share one trace, with the names of the first: each gets its own.
        return _trace(how._replace(unjitted=True), params, x)
    return program.jaxpr, jax.tree.structure(program.out_info), marks, how.unjitted


def _jit_or_not(unjitted):
    return jax.disable_jit() if unjitted else contextlib.nullcontext()


def _program(how):
    # Jitted for the cache of its traces: features and head of one cut need the same one, several times each.
    def run(params, streams, x):
        model, arrays = (params["model"], params["inputs"]) if how.inputs.arrays else (params, ())
        leaves = list(how.inputs.leaves)
        for i, array in zip(how.inputs.arrays, arrays, strict=True):
            leaves[i] = _with_batch(array, how)
        rest = jax.tree.unflatten(how.inputs.tree, leaves)
        args, kwargs = ((), rest) if isinstance(rest, dict) else (rest, {})
        streams = jax.tree.unflatten(how.streams.tree, streams)
        with _jit_or_not(how.unjitted):
            outputs = models.anew(lambda: how.run(model, streams, (_with_batch(x, how), *args), kwargs, how.layers))
        return jax.tree.map(lambda out: _without_batch(out, how), outputs)

    return jax.jit(run)


def _parted(inputs):
    """The arrays among further inputs, and the rest."""
    if not isinstance(inputs, Mapping | tuple | list):
        raise TypeError(f"inputs is {type(inputs).__name__}: a tuple (array,) or a dict of arguments is wanted")
    leaves, tree = jax.tree.flatten(dict(inputs) if isinstance(inputs, Mapping) else tuple(inputs))
    places = tuple(i for i, leaf in enumerate(leaves) if hasattr(leaf, "shape") and hasattr(leaf, "dtype"))
    static = tuple(None if i in places else leaf for i, leaf in enumerate(leaves))
    return tuple(jnp.asarray(leaves[i]) for i in places), _Inputs(
        tree, static, places, tuple(map(type, static))
    )  # fmt: skip


def _opened(model, layers, inputs, image_shape, *, after=None, grid=None, prefix=0, batched=True):
    """A model's parameters, how it is cut, and the names of its layers where they are known."""
    found = models.opened(model)
    arrays, static = _parted(inputs)
    params = {"model": found.params, "inputs": arrays} if arrays else found.params
    shape = found.image_shape if image_shape is None else tuple(image_shape)
    grid = None if grid is None else tuple(grid)
    how = _How(found.run, found.streams, layers, static, after, grid, prefix, bool(batched), shape)
    return params, how, found.names


def _with_batch(array, how):
    return array[None] if how.batched else array


def _without_batch(array, how):
    array = jnp.asarray(array)
    return array.squeeze(0) if how.batched and array.ndim and array.shape[0] == 1 else array


def _shaped(value, how, layer):
    """A layer's output as the activation of one example, tokens in their grid."""
    value = _without_batch(value, how)
    if how.grid is None:
        return value
    tokens = how.prefix + math.prod(how.grid)
    if value.ndim != 2 or value.shape[0] != tokens:
        raise ValueError(
            f"layer {layer!r} gives {value.shape}: grid={how.grid} with prefix={how.prefix} wants ({tokens}, k)"
        )
    return value[how.prefix :].reshape(*how.grid, value.shape[-1])


def _shape(aval, how, layer):
    return jax.eval_shape(lambda value: _shaped(value, how, layer), aval).shape


def _image(shape):
    if not all(isinstance(size, int | np.integer) for size in shape):
        raise TypeError(f"image_shape is {type(shape).__name__}: (h, w, channels), integers, is wanted")
    return jax.ShapeDtypeStruct(tuple(shape), jnp.float32)


def _check_marks(layer, mine):
    """A ValueError where a layer's marks are not those of one call that returns one array."""
    around = "Cut at a layer around it"
    if mine[0].within:
        where = mine[0].within[0]
        ways = {
            "vmap": f"called under vmap: it is many layers in one. {around}",
            "jvp": f"differentiated inside the model. {around}",
        }
        default = f"called inside {where}, which jaxcam does not take apart. {around}, or write the loop out"
        raise ValueError(f"layer {layer!r} is {ways.get(where, default)}")
    if mine[0].name != layer:
        count = len({mark.name for mark in mine})
        raise ValueError(f"layer {layer!r} returns {count} arrays: a cut needs one. {around}, or inside it")
    if len(mine) > 1:
        raise ValueError(
            f"layer {layer!r} is called {len(mine)} times: a cut needs one call. {around}, or give each call a "
            "layer of its own"
        )
    if not jnp.issubdtype(mine[0].aval.dtype, jnp.floating):
        raise ValueError(f"layer {layer!r} gives {mine[0].aval.dtype}: floats are wanted")


def _choices(layer, names):
    names = list(dict.fromkeys(name.split("[")[0] for name in names))
    if len(names) <= 24:
        return f"choose one of {', '.join(names)}"
    near = difflib.get_close_matches(layer, names, n=5, cutoff=0) + names[-1:]
    return f"choose one of {len(names)} that jaxcam.layers lists, such as {', '.join(dict.fromkeys(near))}"


def activations(cut: Cut | Cuts, image: Any) -> tuple[dict[Any, jax.Array], Any]:
    """The activations of one example by layer, and the model's outputs."""
    if isinstance(cut, Cuts):
        return cut.tapped(cut.params, {}, image)
    A = cut.features(cut.params, image)
    return {cut.layer: A}, cut.head(cut.params, A, image)
