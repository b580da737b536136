"""The model randomization check: does the map change when the model's parameters change?

A map that explains a model cannot stay the same when the model forgets what it has learned. Module by module, from the
outputs to the input, the parameters are shuffled, and each map is compared with the map of the unchanged model.

    >>> import jax, jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(1)
    >>> layers_from_the_top(cut, image)[:4]
    ('predictions', 'fc2', 'fc1', 'block3_conv2')
    >>> similarities = model_randomization(jaxcam.grad_cam, cut, image, 3, jax.random.key(0))
    >>> list(similarities)[:2], all(-1 <= similarity <= 1 for similarity in similarities.values())
    (['predictions', 'fc2'], True)

Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr
from jax.scipy.stats import rankdata
from jax.typing import ArrayLike

from jaxcam._base.numerics import safe_divide
from jaxcam._base.types import Image, Method, Target
from jaxcam.cutting import Cut, activations, check_cut, resolve_target
from jaxcam.methods import takes_key
from jaxcam.tracing import CALLS, CUSTOM_RULES, entering, flatten

ORDERS = ("cascading", "independent")


def rank_correlation(a: ArrayLike, b: ArrayLike) -> jax.Array:
    """Spearman's rank correlation of two arrays of one shape, in -1..1: the Pearson correlation of their ranks.

    Equal values get the mean of their ranks. If one of the arrays is constant, the correlation 0/0 is 0. An array with
    a NaN gives NaN.

    Args:
      a: any shape.
      b: the same shape.

    Raises:
      ValueError: the shapes differ.

    Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018.

    Example:
      >>> a = jnp.array([1.0, 2.0, 3.0])
      >>> [float(rank_correlation(a, b)) for b in (a**3, -a, jnp.ones(3))]
      [1.0, -1.0, 0.0]
    """
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.shape != b.shape:
        raise ValueError(f"expected two arrays of one shape, got {a.shape} and {b.shape}")
    has_nan = (a != a).any() | (b != b).any()
    a, b = _centered_ranks(a), _centered_ranks(b)
    scale = jnp.sqrt((a * a).sum() * (b * b).sum())
    correlation = jnp.clip(safe_divide((a * b).sum(), scale), -1, 1)
    return jnp.where(has_nan, jnp.nan, correlation)  # the ranks of older versions of JAX do not propagate NaN


def _centered_ranks(values: jax.Array) -> jax.Array:
    """The ranks minus their mean, over their number; exactly 0 for a constant array."""
    # Ranks and their mean are multiples of 1/2, so the difference is exact in float32 up to millions of values.
    return (rankdata(values, method="average") - (values.size + 1) / 2) / values.size


def layers_from_the_top(cut: Cut, image: Image) -> tuple[str, ...]:
    """The modules whose parameters meet the image, in order from the outputs to the input.

    The model is traced and nothing is computed. A module's place in the order is where a value that depends on the
    image first meets one of its parameters. Parameters belong to one module if their paths in `cut.params` differ only
    in the last part; a parameter at the top level is a module of its own. Parameters that the model does not use, and
    leaves that are not floats, are left out.

    Args:
      cut: a `Cut`, at any layer.
      image: one example without a batch axis; only its shape and dtype count.

    Returns:
      The modules' names: their paths, joined by "/".

    Example:
      >>> params = {"first": {"kernel": jnp.ones([3, 4])}, "last": {"kernel": jnp.ones([4, 2]), "bias": jnp.ones(2)}}
      >>> head = lambda p, A, x: A.mean((0, 1)) @ p["last"]["kernel"] + p["last"]["bias"]
      >>> layers_from_the_top(Cut(params, lambda p, x: x @ p["first"]["kernel"], head), jnp.ones([5, 5, 3]))
      ('last', 'first')
    """
    check_cut(cut)
    leaves, tree = jax.tree.flatten(cut.params)
    modules = _modules_of_leaves(cut)
    places = [place for place, module in enumerate(modules) if module is not None]

    def outputs_of(parameters, image):
        whole = list(leaves)
        for place, leaf in zip(places, parameters, strict=True):
            whole[place] = leaf
        return activations(dataclasses.replace(cut, params=jax.tree.unflatten(tree, whole)), image)[1]

    closed = jax.make_jaxpr(outputs_of)([leaves[place] for place in places], jnp.asarray(image))
    return tuple(dict.fromkeys(str(modules[places[number]]) for number in reversed(_order_of_use(closed))))


def randomized(cut: Cut, layers: Sequence[str], key: jax.Array) -> Cut:
    """The cut with the parameters of these modules shuffled, each array within itself.

    Every array keeps its shape and its values, and so their distribution; what was learned is the order of the values.
    No initializer has to be known. Adebayo et al. draw the parameters again from the initializer, and so does Quantus
    for PyTorch; for Keras it shuffles along the first axis only, which leaves the rows of a kernel whole. An array
    whose values are all equal, such as the biases of a new network, does not change.

    Args:
      cut: a `Cut`.
      layers: names from `layers_from_the_top`.
      key: a `jax.random.key`. Each array has a key of its own, which does not depend on the other modules.

    Raises:
      ValueError: there is no such module; the message lists the modules.

    Example:
      >>> cut = Cut({"conv": {"kernel": jnp.arange(4.0)}, "dense": {"kernel": jnp.ones(2)}}, None, None)
      >>> shuffled = randomized(cut, ["conv"], jax.random.key(1)).params["conv"]["kernel"]
      >>> sorted(shuffled.tolist())
      [0.0, 1.0, 2.0, 3.0]
    """
    check_cut(cut)
    modules = _modules_of_leaves(cut)
    for layer in layers:
        if layer not in modules:
            known = ", ".join(dict.fromkeys(module for module in modules if module is not None))
            raise ValueError(f"expected modules with parameters, got {layer!r}: choose from {known}")
    leaves, tree = jax.tree.flatten(cut.params)
    shuffled = [
        _shuffled_values(jax.random.fold_in(key, place), leaf) if module in layers else leaf
        for place, (leaf, module) in enumerate(zip(leaves, modules, strict=True))
    ]
    return dataclasses.replace(cut, params=jax.tree.unflatten(tree, shuffled))


def model_randomization(
    method: Method,
    cut: Cut,
    image: Image,
    target: Target = None,
    key: jax.Array | None = None,
    *,
    order: str = "cascading",
    similarity: Callable[[Any, Any], jax.Array] = rank_correlation,
) -> dict[str, jax.Array]:
    """The similarity of the map on the randomized model to the map on the unchanged model, for each module.

    Lower is better, near 0 for rank correlation. If it stays near 1, the map does not show what the model has learned.

    Gamed by noise, which scores 0 for every module and passes: the check can fail a method, but not confirm it. An edge
    detector, and any method that ignores the model, scores 1 for every module. A method that depends only on the
    activation scores 1 for every module above the cut if the order is "independent".

    Args:
      method: `(cut, image, target, [key]) -> map`; bind its options with `functools.partial`.
      cut: a `Cut`.
      image: one example, floats, without a batch axis.
      target: the class; None for the largest output of the unchanged model. All maps have the same target.
      key: a `jax.random.key` for the shuffles, and for the noise of a method that takes a key. The noise is the same
        for all maps.
      order: "cascading" shuffles with each module, from the outputs down, also the modules above it; "independent"
        shuffles one module at a time.
      similarity: `(map, map) -> number`.

    Returns:
      A dict from module to similarity, in the order of `layers_from_the_top`.

    Raises:
      ValueError: there is no key; another order.

    Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018: the model parameter randomization test.

    Example:
      >>> params = {name: {"kernel": jnp.arange(12.0).reshape(3, 4)} for name in ("first", "last")}
      >>> head = lambda p, A, x: p["last"]["kernel"] @ A.mean((0, 1))
      >>> cut = Cut(params, lambda p, x: x @ p["first"]["kernel"], head)
      >>> edges = lambda cut, image, target: jnp.abs(jnp.diff(image.sum(-1)))
      >>> image = jax.random.uniform(jax.random.key(0), [5, 5, 3])
      >>> {layer: float(value) for layer, value in model_randomization(edges, cut, image, 0, jax.random.key(1)).items()}
      {'last': 1.0, 'first': 1.0}
    """
    if order not in ORDERS:
        raise ValueError(f"expected order to be {' or '.join(map(repr, ORDERS))}, got {order!r}")
    if key is None:
        raise ValueError("expected a key for the shuffles, such as jax.random.key(0), got None")
    layers = layers_from_the_top(cut, image)
    target, _ = resolve_target(activations(cut, image)[1] if target is None else None, target)
    shuffle_key, noise_key = jax.random.split(key)
    method_keys = {"key": noise_key} if takes_key(method) else {}
    map_of_model = method(cut, image, target, **method_keys)
    similarities, changed = {}, cut
    for layer in layers:
        changed = randomized(changed if order == "cascading" else cut, [layer], shuffle_key)
        similarities[layer] = similarity(map_of_model, method(changed, image, target, **method_keys))
    return similarities


@jax.jit
def _shuffled_values(key: jax.Array, leaf: jax.Array) -> jax.Array:
    return jax.random.permutation(key, leaf.ravel()).reshape(leaf.shape)


def _modules_of_leaves(cut: Cut) -> list[str | None]:
    """The module of each leaf of the parameters; None for a leaf that is not an array of floats."""
    modules: list[str | None] = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(cut.params)[0]:
        is_float = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
        parts = [str(getattr(part, "key", getattr(part, "idx", getattr(part, "name", None)))) for part in path]
        if path and path[-1] == jax.tree_util.GetAttrKey("value"):  # of a flax.nnx.Variable, a node with one leaf
            parts = parts[:-1]
        modules.append("/".join(parts[:-1] or parts) if is_float else None)
    return modules


def _order_of_use(closed: ClosedJaxpr) -> list[int]:
    """The numbers of the program's parameters, in the order in which values that depend on its last input meet them."""
    program = flatten(closed, entering(CALLS | CUSTOM_RULES))
    *parameters, image = program.inputs
    sources = {value: {number} for number, value in enumerate(parameters)}
    depends_on_image = {image}
    order: dict[int, None] = {}
    for step in program.steps:
        read = set().union(*(sources.get(value, ()) for value in step.inputs if value not in depends_on_image))
        if depends_on_image.intersection(step.inputs):
            order.update(dict.fromkeys(sorted(read - order.keys())))
            depends_on_image.update(step.outputs)
        else:
            sources.update((value, read) for value in step.outputs)
    return list(order)
