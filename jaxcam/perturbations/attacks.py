"""Adversarial examples: small changes of an image that change what a network says, by FGSM and PGD.

>>> import jaxcam
>>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
>>> image, _ = jaxcam.pretrained.digits_canvas(0)
>>> attacked = fgsm(cut, image, 1, epsilon=8 / 255)
>>> bool(abs(attacked - image).max() <= 8 / 255 + 1e-6), bool(attacked.min() >= 0), bool(attacked.max() <= 1)
(True, True, True)

Both are pure functions of one example without a batch axis: `jax.vmap` takes a batch. The model is a cut, or any
function from an image to outputs. Images stay in 0..1, or in `bounds`.

What a function closes over may change between two calls, as a network in training does, so a function is traced and
compiled at each call. A cut, a module that is a pytree, and the arguments that `functools.partial` binds to a pure
function are compiled once.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base import checks
from jaxcam._base.numerics import as_floats, at_least_float32, safe_divide
from jaxcam._base.targets import jit_with_target
from jaxcam._base.types import Image, Score, Target
from jaxcam.cutting import Cut, Cuts, activations, check_target, for_score, resolve_target
from jaxcam.formulas import scores
from jaxcam.tracing import for_loops

NORMS = ("linf", "l2")
Model = Cut | Cuts | Callable[[Any], Any]


def fgsm(
    model: Model,
    image: Image,
    target: Target = None,
    *,
    epsilon: jax.Array | float,
    targeted: bool = False,
    score: Score = scores.log_softmax,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> jax.Array:
    """The fast gradient sign method: x - epsilon sign(du/dx), clipped to 0..1; x + epsilon sign(du/dx) if targeted.

    Args:
      model: a cut, or a function from an image to outputs `[classes]`; the default score takes them as logits.
      image: one example in `bounds`, floats, without a batch axis.
      target: the class that the change moves away from; None for that of the largest output. With `targeted=True`, the
        class that it moves to. For a score of another kind, whatever the score takes.
      epsilon: the change of each value, in the units of the image.
      targeted: raise the score of the target instead of lowering it.
      score: `(outputs, target) -> scalar`. The default is the logarithm of the probability, the negated cross-entropy.
      bounds: the range of the image's values.

    Returns:
      The changed image, of the image's shape and type; NaN if a traced target is out of range.

    Raises:
      TypeError: the image is not floats, `targeted=True` has no target, or the target is no integer.
      ValueError: the image leaves the bounds, epsilon is negative, the target is out of range, or the outputs are not
        those of one image.

    Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015, section 4.

    Example:
      >>> logits = lambda x: jnp.array([1.0, -1.0]) * x.sum()
      >>> fgsm(logits, jnp.array([0.5, 0.05]), 0, epsilon=0.1).round(3).tolist()
      [0.4..., 0.0]
    """
    return pgd(
        model, image, target, epsilon=epsilon, steps=1, step_size=epsilon, targeted=targeted, score=score, bounds=bounds
    )


def pgd(
    model: Model,
    image: Image,
    target: Target = None,
    key: jax.Array | None = None,
    *,
    epsilon: jax.Array | float,
    steps: int = 20,
    step_size: jax.Array | float | None = None,
    norm: str = "linf",
    targeted: bool = False,
    score: Score = scores.log_softmax,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> jax.Array:
    """Projected gradient descent on the score, in a ball of radius epsilon around the image and in 0..1.

    x <- clip(project(x - step_size * d)), where d is sign(du/dx) for "linf", and du/dx divided by its L2 norm for "l2";
    with the opposite sign if targeted. Where the gradient is zero, the image stays. Both steps keep nothing of the
    gradient but its direction. That of the default score is the direction of the log odds, log p / (1 - p), which is
    not lost where p is rounded to 1.

    Args:
      model: a cut, or a function from an image to outputs; the default score takes its outputs as logits.
      image: one example in `bounds`, floats, without a batch axis.
      target: as in `fgsm`.
      key: for a random start in the ball; None starts at the image.
      epsilon: the radius of the ball, in the units of the image.
      steps: the number of steps.
      step_size: the length of a step in the norm; None for 2.5 * epsilon / steps.
      norm: "linf", the largest change of a value, or "l2", the root of the sum of the squared changes.
      targeted: as in `fgsm`.
      score: as in `fgsm`.
      bounds: as in `fgsm`.

    Returns:
      The changed image after the last step, of the image's shape and type; NaN if a traced target is out of range.

    Raises:
      TypeError: as in `fgsm`, or `key` is not a `jax.random.key`.
      ValueError: as in `fgsm`, or the norm is another name, or `steps` is less than 1.

    Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018; the step size is that of
    its challenge on MNIST.

    Example:
      >>> import jaxcam
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> attacked = pgd(cut, image, 8, epsilon=2.0, norm="l2", targeted=True)
      >>> bool(jnp.linalg.norm(attacked - image) <= 2.0 + 1e-4)
      True
    """
    if norm not in NORMS:
        raise ValueError(f"expected {' or '.join(map(repr, NORMS))} for norm, got {norm!r}")
    checks.check_count("steps", steps, at_least=1)
    checks.check_bool("targeted", targeted)
    checks.check_function("score", score)
    if key is not None:
        checks.check_key(key)
    image = checks.checked_image(image)
    _check_range(image, bounds)
    _check_radius("epsilon", epsilon)
    step_size = 2.5 * epsilon / steps if step_size is None else step_size
    _check_radius("step_size", step_size)
    if targeted and target is None:
        raise TypeError("expected a target with targeted=True, the class to move to, got None")
    if isinstance(model, Cut | Cuts):
        check_target(model, image, target, score)  # type: ignore[arg-type]
        model, score = for_score(model, image, score)
    else:
        function = model = _as_pytree(model)
        check_target(Cut((), lambda _, x: x, lambda _, A, x: function(x)), image, target, score)
    return _descent(
        model, image, target, key, epsilon, step_size, bounds, steps=steps, norm=norm, targeted=targeted, score=score
    )


def _as_pytree(model):
    """A module that is a pytree, or a function as one, with the leaves that a `functools.partial` binds."""
    if not callable(model):
        raise TypeError(f"expected a cut, or a function from an image to outputs, got a {type(model).__name__}")
    if isinstance(model, functools.partial):
        return jax.tree_util.Partial(model)
    if not jax.tree_util.all_leaves([model]):
        return model
    return jax.tree_util.Partial(lambda image: model(image))  # new at each call, as jit knows functions by identity


def _outputs(model, image):
    return activations(model, image)[1] if isinstance(model, Cut | Cuts) else model(image)


def _check_range(image, bounds):
    is_pair = isinstance(bounds, tuple | list) and len(bounds) == 2
    if not is_pair or not all(map(checks.is_real_number, bounds)) or not bounds[0] < bounds[1]:
        raise ValueError(f"expected bounds (low, high), two numbers with low < high, got {checks.one_line(bounds)}")
    low, high = bounds
    if isinstance(image, jax.core.Tracer):
        return
    # By NumPy: under a jit that closes over the image, JAX's answer would be traced.
    smallest, largest = (float(end(np.asarray(image).astype(np.float32))) for end in (np.min, np.max))
    # What an attack returns is in the bounds as they are rounded to the image's type.
    stored_low, stored_high = (float(np.asarray(end).astype(image.dtype)) for end in bounds)
    if not (min(low, stored_low) <= smallest and largest <= max(high, stored_high)):
        raise ValueError(
            f"expected an image in {low:g}..{high:g}, got values from {smallest:g} to {largest:g}: "
            "bounds=(low, high) sets the range"
        )


def _check_radius(name, value):
    if isinstance(value, jax.core.Tracer):
        return
    if not checks.is_real_number(value) or not 0 <= float(value) < float("inf"):
        raise ValueError(f"expected a finite number of at least 0 for {name}, got {checks.one_line(value)}")


def _descend(model, image, target, key, epsilon, step_size, bounds, *, steps, norm, targeted, score):
    target, in_range = resolve_target(_outputs(model, image), target)
    start = as_floats(image)
    epsilon, step_size, low, high = (jnp.asarray(value).astype(start.dtype) for value in (epsilon, step_size, *bounds))

    def within(x):
        """The nearest point in the ball, then in the bounds. The image is in the bounds, so clipping only shortens."""
        return jnp.clip(start + _projected(x - start, epsilon, norm), low, high)

    score = _log_odds if score is scores.log_softmax else score

    def climb(x, _):
        outputs, pull = jax.vjp(lambda x: _outputs(model, x.astype(image.dtype)), x)
        (gradient,) = pull(jax.grad(score)(outputs, target))
        step = step_size * _direction(gradient, norm)
        return within(x + step if targeted else x - step), None

    x = start if key is None else within(start + epsilon * _random_point(key, start, norm))
    x, _ = jax.lax.scan(for_loops(climb), x, length=steps)
    return jnp.where(in_range, _rounded_inwards(x, image), jnp.nan)


def _log_odds(outputs, target):
    """log p / (1 - p) of the target's softmax probability; 0 if no other class is possible, as p is 1 then."""
    outputs = at_least_float32(outputs)
    others = jnp.where(jnp.arange(outputs.shape[0]) == target, -jnp.inf, outputs)
    is_alone = jnp.isneginf(others).all()
    return jnp.where(is_alone, 0, outputs[target] - jax.nn.logsumexp(jnp.where(is_alone, 0, others)))


def _rounded_inwards(x, image):
    """The image x in the type of the image that it came from, no value farther from that than x is."""
    rounded = x.astype(image.dtype)
    if rounded.dtype == x.dtype:
        return rounded
    is_farther = jnp.abs(as_floats(rounded) - as_floats(image)) > jnp.abs(x - as_floats(image))
    return jnp.where(is_farther, jnp.nextafter(rounded, image), rounded)


_descent = jit_with_target(_descend, place=2, static_argnames=("steps", "norm", "targeted", "score"))


def _length(x):
    """The L2 norm; squares of values that are very small or very large neither vanish nor overflow."""
    top = jnp.abs(x).max()
    return top * jnp.sqrt((safe_divide(x, jnp.broadcast_to(top, x.shape)) ** 2).sum())


def _direction(gradient, norm):
    """The step of length 1 along which the score climbs fastest; zero for a gradient of zeros."""
    if norm == "linf":
        return jnp.sign(gradient)
    # Divided by the maximum first: the reciprocal of a very small norm overflows.
    scaled = safe_divide(gradient, jnp.broadcast_to(jnp.abs(gradient).max(), gradient.shape))
    return safe_divide(scaled, jnp.broadcast_to(_length(scaled), scaled.shape))


def _projected(change, epsilon, norm):
    if norm == "linf":
        return jnp.clip(change, -epsilon, epsilon)
    return change * jnp.minimum(1, safe_divide(epsilon, jnp.maximum(_length(change), epsilon)))


def _random_point(key, like, norm):
    """A point that is uniform in the unit ball of the norm."""
    if norm == "linf":
        return jax.random.uniform(key, like.shape, like.dtype, -1, 1)
    of_direction, of_radius = jax.random.split(key)
    radius = jax.random.uniform(of_radius, (), like.dtype) ** (1 / like.size)
    return radius * _direction(jax.random.normal(of_direction, like.shape, like.dtype), norm)
