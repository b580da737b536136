"""The maps of many classes of one image: the work that they share is done once.

A map of one class takes one backward pass, so the maps of 1000 classes take 1000 passes, after one pass through the
features. Grad-CAM needs less: its weights are means over space of the gradient, and `jaxcam.derivatives` takes these
for many cotangents at once (`channel_gradients`). The cotangents are the derivatives of the score in the outputs.

    >>> import jax, jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> explain_classes(jaxcam.grad_cam, cut, image).shape
    (10, 16, 16)
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base import checks
from jaxcam._base.targets import is_integer
from jaxcam._base.types import Image, Method
from jaxcam.cutting import Cut, activations, check_cut, check_spatial, check_target, for_score, resolve_target
from jaxcam.derivatives import channel_gradients
from jaxcam.formulas import maps, scores
from jaxcam.methods import _cam
from jaxcam.methods._finite import check_finite
from jaxcam.methods._gradient_cam import gradient_cam
from jaxcam.methods._locally_constant import refuse_locally_constant
from jaxcam.methods._sampled import map_of
from jaxcam.methods._signature import bound_value, canonical_partial, score_of, takes_key

# The methods whose weights are means over space of the gradient, with the sign of the mean.
SIGN_OF_MEAN = {_cam.grad_cam: 1, _cam.counterfactual_grad_cam: -1}
# The methods that take the features of the image itself alone, unless they draw noise.
OF_CLEAN_FEATURES = (
    gradient_cam, _cam.cam, _cam.grad_cam, _cam.grad_cam_plus, _cam.grad_cam_pp, _cam.smooth_grad_cam_pp,
    _cam.counterfactual_grad_cam, _cam.xgrad_cam, _cam.hires_cam, _cam.layer_cam,
)  # fmt: skip
TARGETS_AT_A_TIME = 128


def explain_classes(
    method: Method,
    cut: Cut,
    image: Image,
    targets: Any = None,
    key: jax.Array | None = None,
    *,
    batch_size: int | None = None,
) -> jax.Array:
    """The maps of many classes of one image: `method(cut, image, target, [key])` for each target.

    The features are computed once. The weights of `grad_cam` and `counterfactual_grad_cam` without noise are means over
    space, which take one forward direction for each channel, or one backward pass for each target through the part of
    the head that mixes channels, whichever is less. Every other method takes `batch_size` targets at a time by
    `jax.vmap`.

    It is a pure function and works under jit, vmap and grad.

    Args:
      method: a named method, or any function of this form; bind its options with `functools.partial`.
      cut: a `Cut`.
      image: one example, floats, without a batch axis.
      targets: a pytree of arrays `[n ...]`, such as the numbers of n classes. None for all classes, for outputs
        `[classes]`.
      key: a `jax.random.key` for methods that draw noise, the same for all targets.
      batch_size: targets at a time, which limits memory; defaults to 128, and to all for a method with noise, whose
        features are computed for each batch.

    Returns:
      `[n *spatial]`.

    Raises:
      TypeError, ValueError: as the method; also if the outputs are not `[classes]` and `targets` is None.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> explain_classes(jaxcam.grad_cam_pp, cut, image, [3, 5]).shape
      (2, 16, 16)
    """
    check_cut(cut)
    checks.check_function("method", method)
    image = checks.checked_image(image)
    if batch_size is not None:
        checks.check_count("batch_size", batch_size, at_least=1)
    targets = _checked_targets(cut, image, targets, score_of(method))
    saliency = _maps_of_targets(canonical_partial(method), cut, image, targets, key, batch_size)
    check_finite(saliency, cut, image, getattr(_function_of(method), "__name__", "the method"))
    return saliency


def _function_of(method):
    return _function_of(method.func) if isinstance(method, functools.partial) else method


def _checked_targets(cut, image, targets, score):
    """The targets as arrays with one leading axis; numbers are checked against the number of classes."""
    if targets is None:
        outputs = jax.eval_shape(lambda cut, image: activations(cut, image)[1], cut, image)
        if getattr(outputs, "ndim", None) != 1:
            raise ValueError(
                f"expected targets for outputs that are not [classes], got none: {checks.describe_shapes(outputs)}"
            )
        return np.arange(outputs.shape[0], dtype=np.int32)
    if isinstance(targets, list | tuple | range) and all(map(is_integer, targets)):
        targets = np.asarray(targets, np.int32)
    leaves = jax.tree.leaves(targets)
    lengths = {np.shape(leaf)[:1] for leaf in leaves}
    if len(lengths) != 1 or lengths == {()} or lengths == {(0,)}:
        raise ValueError(f"expected targets with one leading axis, [n ...], got {checks.describe_shapes(targets)}")
    if leaves[0] is targets and targets.ndim == 1 and not isinstance(targets, jax.core.Tracer):
        extremes = [targets[int(place)] for place in (np.argmin(leaves[0]), np.argmax(leaves[0]))]
    else:
        extremes = [jax.tree.map(lambda leaf: leaf[0], targets)]
    for target in extremes:
        check_target(cut, image, target, score)
    return targets


@functools.partial(jax.jit, static_argnums=(0, 5))
def _maps_of_targets(method, cut, image, targets, key, batch_size):
    by_channels = _maps_by_channels(method, cut, image, targets, batch_size)
    if by_channels is not None:
        return by_channels
    is_clean = _function_of(method) in OF_CLEAN_FEATURES and not bound_value(method, "n_samples")
    keys = (key,) if key is not None and takes_key(method) else ()
    if is_clean:
        cut = _with_known_features(cut, cut.features(cut.params, image))

    def map_of_target(target):
        return map_of(method(cut, image, target, *keys))

    if batch_size is None and not is_clean:
        return jax.vmap(map_of_target)(targets)
    return jax.lax.map(map_of_target, targets, batch_size=batch_size or TARGETS_AT_A_TIME)


def _with_known_features(cut, A):
    """The cut with the features of one image, for methods that take no others."""
    return dataclasses.replace(
        cut,
        params=(cut.params, A),
        features=lambda params, x: params[1],
        head=lambda params, A, x: cut.head(params[0], A, x),
    )


def _maps_by_channels(method, cut, image, targets, batch_size):
    """The maps of a method whose weights are means over space of the gradient; None for another method or option."""
    sign = SIGN_OF_MEAN.get(_function_of(method))
    options = method.keywords if isinstance(method, functools.partial) else {}
    has_positional = isinstance(method, functools.partial) and method.args
    if sign is None or has_positional or options.keys() - {"score", "select"}:
        return None
    cut, score = for_score(cut, image, options.get("score", scores.logit))
    A = cut.features(cut.params, image)
    check_spatial(cut.layer, A)

    def head(A):
        return cut.head(cut.params, A, image)

    outputs = head(A)
    if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(outputs)):
        return None
    first = resolve_target(outputs, jax.tree.map(lambda leaf: leaf[0], targets)).target
    refuse_locally_constant(lambda point: score(head(point[cut.layer]), first), {cut.layer: A})

    def derivative_in_outputs(target):
        target, in_range = resolve_target(outputs, target)
        u, cotangent = jax.value_and_grad(score)(outputs, target)
        return u, in_range, cotangent

    def map_of_weights(u, in_range, weights):
        weights = jnp.where(jnp.isnan(u), jnp.nan, sign * weights)
        return jnp.where(in_range, maps.weighted_sum(A, weights, select=options.get("select")), jnp.nan)

    u, in_range, cotangents = jax.vmap(derivative_in_outputs)(targets)
    weights = channel_gradients(head, A, cotangents, batch_size=batch_size)
    return jax.vmap(map_of_weights)(u, in_range, weights)
