"""TODO."""

import contextlib
import difflib
import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.cutting._open import opened
from jaxcam.cutting._run import STATISTICS, Run, Streams, anew
from jaxcam.tracing import computed, live, shapes_of, split_at
from jaxcam.tracing import marks as marks_in
from jaxcam.tracing import tap as tap_program


class _How(NamedTuple):
    """All that the functions of a cut depend on, but for arrays."""

    run: Run
    streams: Streams
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
    tap = tap_program(how.layers, closed, after=after)
    _check_deterministic(tap.needs, params)
    return tap, values, outputs


def _split(how, params, x):
    """The model's program in two parts at the layer, the values of its inputs, and the tree of its outputs."""
    (layer,) = how.layers
    closed, values, outputs, after = _program_of(how, params, x)
    split = split_at(layer, closed, after=after.get(layer))
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
                after[layer] = jax.make_jaxpr(how.after)(shapes_of(aval))
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
    shapes = shapes_of((params, x))
    program = how.run.shared.once(_program, how).trace(shapes[0], how.streams.leaves, shapes[1])
    if len(program.jaxpr.jaxpr.invars) != len(jax.tree.leaves(shapes)) + len(how.streams.leaves):
        raise ValueError(
            "the model closes over a traced value: hold it in the model's parameters, or pass it in inputs="
        )
    updated = computed(program.jaxpr, STATISTICS)
    if updated:
        raise ValueError(
            f"the model updates its statistics {', '.join(updated[:3])}, as in training: pass its flag for eval mode, "
            "such as inputs={'train': False}"
        )
    closed, _ = live(program.jaxpr)
    marks = marks_in(closed.jaxpr)
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
            outputs = anew(lambda: how.run(model, streams, (_with_batch(x, how), *args), kwargs, how.layers))
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
    found = opened(model)
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
