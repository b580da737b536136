"""Pixels removed in the order of the map: deletion and insertion, and the confidence curve.

Each is `metric(cut, image, saliency, target, *, options)` for one image `[*spatial c]`, one map `[*spatial]` and one
target, with any number of spatial axes. It returns the model's scores while more and more of the image is removed. For
several images, maps or targets use `jax.vmap`; the steps then still run one after another.

    >>> import jax, jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(1)
    >>> saliency = jaxcam.resize(jaxcam.grad_cam_pp(cut, image, 3), image.shape[:2])
    >>> deleted = deletion(cut, image, saliency, 3, steps=5)
    >>> inserted = insertion(cut, image, saliency, 3, steps=5)
    >>> deleted.shape, bool(area(deleted) < area(inserted))
    ((6,), True)

The score defaults to the probability, whether the outputs are logits or probabilities. A removed pixel becomes the
baseline. Compare a map with a constant map, which removes pixels in a random order,
and with a bright spot in the center.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxcam._base import checks
from jaxcam._base.axes import over_channels, spatial_shape
from jaxcam._base.numerics import batch_size_or_default, safe_divide
from jaxcam._base.targets import jit_with_target
from jaxcam._base.types import Baseline, Image, Score, Target
from jaxcam.cutting import (
    Cut,
    activations,
    canonical_function,
    check_cut,
    check_target,
    for_score,
    image_axis,
    score_or_nan,
)
from jaxcam.formulas import scores
from jaxcam.metrics._inputs import unless_nan
from jaxcam.perturbations import blurred, pixel_ranks

TENTHS = tuple(tenth / 10 for tenth in range(10))
STEPS_AT_A_TIME = 16  # on an accelerator


def deletion(
    cut: Cut,
    image: Image,
    saliency: ArrayLike,
    target: Target,
    *,
    steps: int = 10,
    baseline: Baseline = 0.0,
    ends: tuple[Any, Any] | None = None,
    score: Score = scores.probability,
    batch_size: int | None = None,
) -> jax.Array:
    """The score after the share i/steps of the pixels, most salient first, has become the baseline: i = 0 .. steps.

    A good map's curve falls early: its `area` is small.

    Gamed by single pixels scattered over the object. They make the model fail, because no image looks like that.

    Args:
      cut: a `Cut`, at any layer.
      image: one example `[*spatial c]`, floats, without a batch axis.
      saliency: map `[*spatial]`; only the order of its pixels counts, see `jaxcam.perturbations.pixel_ranks`.
      target: the class, or any target that the score takes.
      steps: the number of steps; each removes the same number of pixels, up to rounding.
      baseline: the value of a removed pixel, in the image's units: a number, `[c]`, or `[*spatial c]`.
      ends: the scores of the image and of the baseline, if they are known: the model is then not run for them.
      score: `(outputs, target) -> scalar`; see `jaxcam.scores`.
      batch_size: the memory knob: steps at a time. Defaults to 1 on a CPU and 16 elsewhere.

    Returns:
      `[steps + 1]`, in 0..1 for the default score; the first is the image's score, the last the baseline's.

    Raises:
      TypeError, ValueError: as `jaxcam.grad_cam`; the map does not have the image's resolution.

    Petsiuk et al., "RISE: randomized input sampling for explanation of black-box models", BMVC 2018, section 4.1.
    Their code removes 224 pixels of 224 x 224 in a step, so it takes 224 steps; with ten steps the `area` is coarser.

    Example:
      >>> cut = Cut((), lambda p, x: x, lambda p, A, x: A.sum((0, 1)))
      >>> output = lambda outputs, target: outputs[target]
      >>> deletion(cut, jnp.ones([2, 2, 1]), jnp.array([[4.0, 3.0], [2.0, 1.0]]), 0, steps=2, score=output).tolist()
      [4.0, 2.0, 0.0]
    """
    image, cut, score = checked_arguments(cut, image, saliency, target, score, batch_size)
    checks.check_count("steps", steps, at_least=1)
    empty = checks.broadcast_baseline(baseline, image, image_axis(cut, image))
    return _replacement_curve(
        cut, image, empty, saliency, target, ends, steps=steps, score=score, batch_size=batch_size
    )


def insertion(
    cut: Cut,
    image: Image,
    saliency: ArrayLike,
    target: Target,
    *,
    steps: int = 10,
    baseline: Baseline | str = "blur",
    ends: tuple[Any, Any] | None = None,
    score: Score = scores.probability,
    batch_size: int | None = None,
) -> jax.Array:
    """The score after the share i/steps of the pixels, most salient first, has been put back: i = 0 .. steps.

    A good map's curve rises early: its `area` is large.

    Gamed by a smooth blob, which turns a region of the blurred baseline into a sharp region, on any object it covers.

    Args:
      cut, image, saliency, target, steps, score, batch_size: as in `deletion`.
      baseline: the image without any pixels: "blur" for the blurred image, or a value as in `deletion`.
      ends: the scores of the baseline and of the image, if they are known.

    Returns:
      `[steps + 1]`, in 0..1 for the default score; the first is the baseline's score, the last the image's.

    Raises:
      TypeError, ValueError: as `deletion`.

    Petsiuk et al., "RISE", BMVC 2018, section 4.1.

    Example:
      >>> cut = Cut((), lambda p, x: x, lambda p, A, x: A.sum((0, 1)))
      >>> output = lambda outputs, target: outputs[target]
      >>> saliency = jnp.array([[4.0, 3.0], [2.0, 1.0]])
      >>> insertion(cut, jnp.ones([2, 2, 1]), saliency, 0, steps=2, baseline=0.5, score=output).tolist()
      [2.0, 3.0, 4.0]
    """
    image, cut, score = checked_arguments(cut, image, saliency, target, score, batch_size)
    checks.check_count("steps", steps, at_least=1)
    if isinstance(baseline, str) and baseline != "blur":
        raise ValueError(f"expected a baseline that is 'blur', a number or an array, got {baseline!r}")
    axis, blurs = image_axis(cut, image), isinstance(baseline, str)
    empty = blurred(image, channel_axis=axis) if blurs else checks.broadcast_baseline(baseline, image, axis)
    return _replacement_curve(
        cut, empty, image, saliency, target, ends, steps=steps, score=score, batch_size=batch_size
    )


def area(curve: jax.Array) -> jax.Array:
    """The area under a curve over 0..1, by the trapezoidal rule, `[* points]` to `[*]`.

    Petsiuk et al., "RISE", BMVC 2018, section 4.1: AUC.

    Example:
      >>> float(area(jnp.array([1.0, 0.5, 0.0])))
      0.5
    """
    curve = jnp.asarray(curve)
    return jnp.trapezoid(curve) / (curve.shape[-1] - 1)  # divided last: the area of a constant 1 is exactly 1


def confidence_curve(
    cut: Cut,
    image: Image,
    saliency: ArrayLike,
    target: Target,
    *,
    quantiles: Sequence[float] = TENTHS,
    baseline: Baseline = 0.0,
    whole: Any = None,
    score: Score = scores.probability,
    batch_size: int | None = None,
) -> jax.Array:
    """O / Y: the score with the least salient share q of the pixels replaced by the baseline, over the image's score.

    Higher is better, at the same q: the pixels that the map keeps are enough for the class.

    Gamed by any order that keeps the object whole, such as an edge detector's or a centered blob's, without any use of
    the model.

    Args:
      cut, image, saliency, target, baseline, score, batch_size: as in `deletion`.
      quantiles: the shares q, in 0..1. Of pixels with equal values, such as a relu's zeros, only as many are removed
        as make the share q.
      whole: Y, if it is known: the model is then not run for the image.

    Returns:
      `[len(quantiles)]`, at least 0 for the default score, and above 1 if the model is more certain of the remaining
      pixels than of the image. It is 1 at q = 0, for which the model is not run, and 0 if Y is 0.

    Raises:
      TypeError, ValueError: as `deletion`; a quantile is outside 0..1.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, figure 6: relative confidence against the quantile threshold.

    Example:
      >>> cut = Cut((), lambda p, x: x, lambda p, A, x: A.sum((0, 1)))
      >>> options = {"quantiles": (0, 0.25, 0.75), "score": lambda outputs, target: outputs[target]}
      >>> confidence_curve(cut, jnp.ones([2, 2, 1]), jnp.arange(4.0).reshape(2, 2), 0, **options).tolist()
      [1.0, 0.75, 0.25]
    """
    image, cut, score = checked_arguments(cut, image, saliency, target, score, batch_size)
    removed_counts = pixel_counts("quantiles", quantiles, saliency)
    empty = checks.broadcast_baseline(baseline, image, image_axis(cut, image))
    return _relative_confidence(
        cut, image, empty, saliency, target, whole,
        removed_counts=removed_counts, score=score, batch_size=batch_size,
    )  # fmt: skip


def checked_arguments(
    cut: Cut, image: Image, saliency: ArrayLike, target: Target, score: Score, batch_size: int | None
) -> tuple[jax.Array, Cut, Score]:
    """The image as an array, and the cut and the score as `for_score` returns them, after all checks.

    The score is the first function of equal code, so that a lambda made anew compiles nothing again.
    """
    check_cut(cut)
    checks.check_functions({"score": score})
    image = checks.checked_image(image)
    if jnp.ndim(saliency) == 0 or jnp.shape(saliency) != spatial_shape(image.shape, image_axis(cut, image)):
        raise ValueError(
            f"expected an image [*spatial c] and a map [*spatial], got shapes {image.shape} and "
            f"{jnp.shape(saliency)}: jaxcam.resize brings a map to the image's resolution"
        )
    check_target(cut, image, target, score, needs_class=True)
    if batch_size is not None:
        checks.check_count("batch_size", batch_size, at_least=1)
    cut, score = for_score(cut, image, score)
    return image, cut, canonical_function(score)


def pixel_counts(name: str, shares: Sequence[float], saliency: ArrayLike) -> tuple[int, ...]:
    """Each share as a number of pixels."""
    for share in shares:
        if not 0 <= share <= 1:
            raise ValueError(f"expected {name} in 0..1, shares of the pixels, got {share}")
    return tuple(round(float(share) * jnp.size(saliency)) for share in shares)


def scores_of_steps(
    cut: Cut,
    image_of: Callable[[Any], jax.Array],
    steps: Any,
    target: Target,
    score: Score,
    batch_size: int | None,
) -> jax.Array:
    """The score of the model on `image_of(step)`, for each step."""

    def step_score(step):
        return score_or_nan(score, activations(cut, image_of(step))[1], target)

    return jax.lax.map(
        step_score, steps, batch_size=batch_size_or_default(batch_size, cpu=None, accelerator=STEPS_AT_A_TIME)
    )


@functools.partial(jit_with_target, static_argnames=("steps", "score", "batch_size"))
def _replacement_curve(
    cut: Cut,
    before: jax.Array,
    after: jax.Array,
    saliency: jax.Array,
    target: Target,
    ends: tuple[Any, Any] | None,
    *,
    steps: int,
    score: Score,
    batch_size: int | None,
) -> jax.Array:
    """The scores of `before`, with more and more pixels of `after`."""
    ranks = over_channels(pixel_ranks(saliency), after.ndim, image_axis(cut, after))
    counts = jnp.asarray(np.arange(steps + 1) * ranks.size // steps, jnp.int32)
    if ends is not None:
        counts = counts[1:-1]
    curve = scores_of_steps(
        cut, lambda count: jnp.where(ranks < count, after, before), counts, target, score, batch_size
    )
    if ends is None:
        return unless_nan(saliency, curve)
    first, last = (jnp.asarray(end).astype(curve.dtype)[None] for end in ends)
    return unless_nan(saliency, jnp.concatenate([first, curve, last]))


@functools.partial(jit_with_target, static_argnames=("removed_counts", "score", "batch_size"))
def _relative_confidence(
    cut: Cut,
    image: jax.Array,
    empty: jax.Array,
    saliency: jax.Array,
    target: Target,
    whole: Any,
    *,
    removed_counts: tuple[int, ...],
    score: Score,
    batch_size: int | None,
) -> jax.Array:
    """The scores of the image without its least salient pixels, over the score of the image."""
    ranks = over_channels(pixel_ranks(saliency), image.ndim, image_axis(cut, image))
    # A count of 0 is the image itself.
    counts = tuple(dict.fromkeys(([0] if whole is None else []) + [count for count in removed_counts if count]))
    kept_scores = scores_of_steps(
        cut,
        lambda count: jnp.where(ranks < ranks.size - count, image, empty),
        jnp.asarray(counts, jnp.int32), target, score, batch_size,
    )  # fmt: skip
    score_of_count = dict(zip(counts, kept_scores, strict=True))
    Y = score_of_count[0] if whole is None else jnp.asarray(whole).astype(kept_scores.dtype)
    curve = jnp.stack([score_of_count[count] if count else Y for count in removed_counts])
    return unless_nan(saliency, safe_divide(curve, Y))
