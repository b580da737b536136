"""The model-randomisation check: does the map change when the model's parameters do?

A map that explains a model cannot stay as it is when the model forgets what it has learnt. Module by module, from the
outputs to the input, the parameters are shuffled, and each map is compared with that of the model as it is.

    >>> import jax, jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(1)
    >>> layers_from_the_top(cut, image)[:4]
    ('predictions', 'fc2', 'fc1', 'block3_conv2')
    >>> found = model_randomisation(jaxcam.grad_cam, cut, image, 3, jax.random.key(0))
    >>> list(found)[:2], all(-1 <= similarity <= 1 for similarity in found.values())
    (['predictions', 'fc2'], True)

Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018.
"""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.cutting import Cut, activations, check_cut, resolve_target
from jaxcam.tracing import CALLS, CUSTOM_RULES, entering, flatten

ORDERS = ("cascading", "independent")


def rank_correlation(a: jax.Array | np.ndarray, b: jax.Array | np.ndarray) -> jax.Array:
    """Spearman's rank correlation of two arrays of one shape, in -1..1: the Pearson correlation of their ranks.

    Equal values have the mean of their ranks. Where one of the arrays is constant, the correlation, 0/0, is 0.

    Args:
      a: any shape.
      b: of the same.

    Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018.

    Example:
      >>> a = jnp.array([1.0, 2.0, 3.0])
      >>> [float(rank_correlation(a, b)) for b in (a**3, -a, jnp.ones(3))]
      [1.0, -1.0, 0.0]
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.shape != b.shape:
        raise ValueError(f"the arrays have shapes {a.shape} and {b.shape}: one shape is wanted")
    a, b = _centred_ranks(a.ravel()), _centred_ranks(b.ravel())
    scale = jnp.sqrt((a * a).sum() * (b * b).sum())
    return jnp.where(scale == 0, 0, jnp.clip((a * b).sum() / jnp.where(scale == 0, 1, scale), -1, 1))


def _centred_ranks(values):
    """Ranks less their mean, twice: what float32 holds exactly, so that a constant has zeros."""
    ordered = jnp.sort(values)
    below, upto = (jnp.searchsorted(ordered, values, side=side, method="sort") for side in ("left", "right"))
    return (below + upto - values.size).astype(jnp.float32) / values.size


def layers_from_the_top(cut: Cut, image: jax.Array | np.ndarray) -> tuple[str, ...]:
    """The modules whose parameters meet the image, in the order from the outputs to the input.

    The model is traced, and nothing computed; a module stands where a value that depends on the image first meets one
    of its parameters. The parameters of a module are those whose path in `cut.params` is the same but for its last
    part; one that is in no module is by itself. Whatever the model does not use, and what is not floats, is left out.

    Args:
      cut: a `Cut`, at any layer.
      image: one example without a batch axis; only its shape and dtype count.

    Returns:
      The names: the paths, joined by "/".

    Example:
      >>> params = {"first": {"kernel": jnp.ones([3, 4])}, "last": {"kernel": jnp.ones([4, 2]), "bias": jnp.ones(2)}}
      >>> head = lambda p, A, x: A.mean((0, 1)) @ p["last"]["kernel"] + p["last"]["bias"]
      >>> layers_from_the_top(Cut(params, lambda p, x: x @ p["first"]["kernel"], head), jnp.ones([5, 5, 3]))
      ('last', 'first')
    """
    check_cut(cut)
    leaves, tree = jax.tree.flatten(cut.params)
    arrays = [i for i, group in enumerate(_groups(cut)) if group is not None]

    def model(some, image):
        whole = list(leaves)
        for i, leaf in zip(arrays, some, strict=True):
            whole[i] = leaf
        return activations(dataclasses.replace(cut, params=jax.tree.unflatten(tree, whole)), image)[1]

    closed = jax.make_jaxpr(model)([leaves[i] for i in arrays], jnp.asarray(image))
    groups = _groups(cut)
    return tuple(dict.fromkeys(groups[arrays[place]] for place in reversed(_met(closed))))


def randomised(cut: Cut, layers: Sequence[str], key: jax.Array) -> Cut:
    """The cut with the parameters of these modules shuffled, each array within itself.

    Every array keeps its values, and so their distribution, and its shape; what was learnt is where they stood. No
    initialiser has to be known. Adebayo et al. draw the parameters anew, from the initialiser; so does quantus for
    PyTorch, while for Keras it shuffles along the first axis alone, which leaves the rows of a kernel whole. An array
    whose values are all the same, such as a new network's biases, stays as it was.

    Args:
      cut: a `Cut`.
      layers: names that `layers_from_the_top` gives.
      key: a `jax.random.key`. An array has its own, whichever others are shuffled.

    Raises:
      ValueError: no such module, and which there are.

    Example:
      >>> cut = Cut({"conv": {"kernel": jnp.arange(4.0)}, "dense": {"kernel": jnp.ones(2)}}, None, None)
      >>> shuffled = randomised(cut, ["conv"], jax.random.key(1)).params["conv"]["kernel"]
      >>> sorted(shuffled.tolist())
      [0.0, 1.0, 2.0, 3.0]
    """
    check_cut(cut)
    groups = _groups(cut)
    for layer in layers:
        if layer not in groups:
            known = ", ".join(dict.fromkeys(group for group in groups if group is not None))
            raise ValueError(f"no parameters in {layer!r}: choose of {known}")
    leaves, tree = jax.tree.flatten(cut.params)
    shuffled = [
        _shuffled(jax.random.fold_in(key, i), leaf) if group in layers else leaf
        for i, (leaf, group) in enumerate(zip(leaves, groups, strict=True))
    ]
    return dataclasses.replace(cut, params=jax.tree.unflatten(tree, shuffled))


def model_randomisation(
    method: Callable[..., Any],
    cut: Cut,
    image: jax.Array | np.ndarray,
    target: jax.Array | int | None = None,
    key: jax.Array | None = None,
    *,
    order: str = "cascading",
    similarity: Callable[[Any, Any], jax.Array] = rank_correlation,
) -> dict[str, jax.Array]:
    """The similarity of the map on the randomised model with that on the model as it is, module by module.

    The lower the better, near 0 for rank correlation; where it stays near 1, the map does not show what was learnt.

    Gamed by: noise, which has 0 everywhere and passes; the check only ever fails a method. An edge detector, and any
    method that ignores the model, has 1 everywhere, and one that depends on the activation alone has 1 for every module
    above the cut if the order is "independent".

    Args:
      method: `(cut, image, target, [key]) -> map`; bind its options with `functools.partial`.
      cut: a `Cut`.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output of the model as it is. It stays for all of them.
      key: a `jax.random.key`, for the shuffles, and for the noise of a method that takes a key, the same for all maps.
      order: "cascading": with each module, from the outputs down, those above it are shuffled too; "independent": one
        module at a time.
      similarity: `(map, map) -> number`.

    Returns:
      A dict by module, in the order of `layers_from_the_top`.

    Raises:
      ValueError: no key, another order.

    Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018: the model parameter randomization test.

    Example:
      >>> params = {name: {"kernel": jnp.arange(12.0).reshape(3, 4)} for name in ("first", "last")}
      >>> head = lambda p, A, x: p["last"]["kernel"] @ A.mean((0, 1))
      >>> cut = Cut(params, lambda p, x: x @ p["first"]["kernel"], head)
      >>> edges = lambda cut, image, target: jnp.abs(jnp.diff(image.sum(-1)))
      >>> image = jax.random.uniform(jax.random.key(0), [5, 5, 3])
      >>> {layer: float(found) for layer, found in model_randomisation(edges, cut, image, 0, jax.random.key(1)).items()}
      {'last': 1.0, 'first': 1.0}
    """
    if order not in ORDERS:
        raise ValueError(f"order is {order!r}: it must be {' or '.join(map(repr, ORDERS))}")
    if key is None:
        raise ValueError("the parameters are shuffled, so a key is needed: jax.random.key(0)")
    layers = layers_from_the_top(cut, image)
    target, _ = resolve_target(activations(cut, image)[1] if target is None else None, target)
    shuffles, noise = jax.random.split(key)
    keys = (noise,) if "key" in inspect.signature(method).parameters else ()
    wanted = method(cut, image, target, *keys)
    found, changed = {}, cut
    for layer in layers:
        changed = randomised(changed if order == "cascading" else cut, [layer], shuffles)
        found[layer] = similarity(wanted, method(changed, image, target, *keys))
    return found


@jax.jit
def _shuffled(key, leaf):
    return jax.random.permutation(key, leaf.ravel()).reshape(leaf.shape)


def _groups(cut):
    """The module of each leaf of the parameters; None for what is no array of floats."""
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(cut.params)[0]:
        floats = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        parts = [str(getattr(part, "key", getattr(part, "idx", getattr(part, "name", None)))) for part in path]
        if path and path[-1] == jax.tree_util.GetAttrKey("value"):  # of a flax.nnx.Variable, a node with one leaf
            parts = parts[:-1]
        found.append("/".join(parts[:-1] or parts) if floats else None)
    return found


def _met(closed):
    """The places of the program's inputs but the last, in the order in which what depends on the last meets them."""
    program = flatten(closed, entering(CALLS | CUSTOM_RULES))
    *params, image = program.inputs
    origins = {number: {place} for place, number in enumerate(params)}
    moving = {image}
    met: dict[int, None] = {}
    for step in program.steps:
        of = set().union(*(origins.get(number, ()) for number in step.inputs if number not in moving))
        if moving.intersection(step.inputs):
            met.update(dict.fromkeys(sorted(of - met.keys())))
            moving.update(step.outputs)
        else:
            origins.update((number, of) for number in step.outputs)
    return list(met)
