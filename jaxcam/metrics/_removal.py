"""Pixels removed in the order of the map: deletion and insertion, the confidence curve, and ROAD.

Every one is `metric(cut, image, saliency, target, *, options)`, on one image `[h w c]`, one map `[h w]` and one class,
and gives the scores of the model on the image with more and more of it removed. Nothing of them asks where the map came
from; for more images, maps or classes use `jax.vmap`, under which the map over the steps stays one at a time.

    >>> import jax, jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(1)
    >>> saliency = jaxcam.resize(jaxcam.grad_cam_pp(cut, image, 3), image.shape[:2])
    >>> deleted = deletion(cut, image, saliency, 3, steps=5)
    >>> inserted = insertion(cut, image, saliency, 3, steps=5)
    >>> deleted.shape, bool(area(deleted) < area(inserted))
    ((6,), True)
    >>> road(cut, image, saliency, 3, jax.random.key(0), shares=(0.2, 0.5)).shape
    (2,)

The score is the softmax probability where nothing else is given, and a removed pixel is the baseline's, or in ROAD what
its neighbours say. Each number can be gamed, and says how; a map has to be shown beside a constant one, which removes
the pixels in a random order, and beside a bright spot in the centre.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base import checks
from jaxcam._base.types import Baseline, Image, Score
from jaxcam.cutting import Cut, activations, check_cut, check_target
from jaxcam.formulas import scores
from jaxcam.perturbations import blurred, impute

FIRST = ("most", "least")
TENTHS = tuple(tenth / 10 for tenth in range(10))


def order(saliency: Image) -> jax.Array:
    """The rank of each pixel `[h w]` in the map: 0 for the most salient, h w - 1 for the least.

    Equal values stand in an order that is random, and the same for every map of that shape: a constant map is a random
    order, and no corner comes first.

    Args:
      saliency: `[h w]`. NaN counts as the least.

    Returns:
      int32 `[h w]`, each of 0 .. h w - 1 once.

    Example:
      >>> order(jnp.array([[0.1, 0.9], [0.5, 0.3]])).tolist()
      [[3, 0], [1, 2]]
    """
    saliency = jnp.asarray(saliency)
    # RandomState, whose numbers NumPy has promised not to change.
    shuffled = np.random.RandomState(0).permutation(saliency.size).astype(np.int32)
    values = saliency.ravel()[shuffled]
    values = jnp.where(jnp.isnan(values), -jnp.inf, values)
    sequence = jnp.asarray(shuffled)[jnp.argsort(values, descending=True)]
    ranks = jnp.arange(saliency.size, dtype=jnp.int32)
    return jnp.zeros_like(ranks).at[sequence].set(ranks, unique_indices=True).reshape(saliency.shape)


def deletion(
    cut: Cut,
    image: Image,
    saliency: Image,
    target: jax.Array | int,
    *,
    steps: int = 10,
    baseline: Baseline = 0.0,
    ends: tuple[Any, Any] | None = None,
    score: Score = scores.probability,
    batch_size: int | None = None,
) -> jax.Array:
    """The score after the share i/steps of the pixels, most salient first, has become the baseline: i = 0 .. steps.

    A good map's curve falls early: its `area` is small.

    Gamed by: single pixels scattered over the object, which make the model fail by what no image looks like.

    Args:
      cut: a `Cut`, at any layer.
      image: one example `[h w c]`, floats, without a batch axis.
      saliency: `[h w]`; only its `order` counts.
      target: the class.
      steps: how many; each removes as many pixels, to a whole number.
      baseline: what a removed pixel becomes, in the image's units: a number, `[c]`, or `[h w c]`.
      ends: the scores of the image and of the baseline, where they are known: the model is not run for them.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.
      batch_size: the memory knob: steps at a time. Where absent 1 on a CPU and 16 elsewhere.

    Returns:
      `[steps + 1]`, in 0..1 for the default score; the first is that of the image, the last that of the baseline.

    Raises:
      TypeError, ValueError: as `jaxcam.grad_cam`; and for a map that has not the image's resolution.

    Petsiuk et al., "RISE: randomized input sampling for explanation of black-box models", BMVC 2018, section 4.1.
    In its code a step removes 224 pixels of 224 x 224, so that there are 224 of them; with ten the `area` is coarser.

    Example:
      >>> cut = Cut((), lambda p, x: x, lambda p, A, x: A.sum((0, 1)))
      >>> of_pixel = lambda outputs, target: outputs[target]
      >>> deletion(cut, jnp.ones([2, 2, 1]), jnp.array([[4.0, 3.0], [2.0, 1.0]]), 0, steps=2, score=of_pixel).tolist()
      [4.0, 2.0, 0.0]
    """
    image = _checked(cut, image, saliency, target, score, batch_size)
    checks.check_count("steps", steps, at_least=1)
    empty = _broadcast(baseline, image)
    return _curve(cut, image, empty, saliency, target, ends, steps=steps, score=score, batch_size=batch_size)


def insertion(
    cut: Cut,
    image: Image,
    saliency: Image,
    target: jax.Array | int,
    *,
    steps: int = 10,
    baseline: Baseline | str = "blur",
    ends: tuple[Any, Any] | None = None,
    score: Score = scores.probability,
    batch_size: int | None = None,
) -> jax.Array:
    """The score after the share i/steps of the pixels, most salient first, has been put back: i = 0 .. steps.

    A good map's curve rises early: its `area` is large.

    Gamed by: a smooth blob, which a blurred baseline turns into a sharp region, on any object it covers.

    Args:
      cut, image, saliency, target, steps, score, batch_size: as in `deletion`.
      baseline: what the image starts from: "blur" for `blurred(image)`, or as in `deletion`.
      ends: the scores of the baseline and of the image, where they are known.

    Returns:
      `[steps + 1]`, in 0..1 for the default score; the first is that of the baseline, the last that of the image.

    Raises:
      TypeError, ValueError: as `deletion`.

    Petsiuk et al., "RISE", BMVC 2018, section 4.1.

    Example:
      >>> cut = Cut((), lambda p, x: x, lambda p, A, x: A.sum((0, 1)))
      >>> of_pixel = lambda outputs, target: outputs[target]
      >>> saliency = jnp.array([[4.0, 3.0], [2.0, 1.0]])
      >>> insertion(cut, jnp.ones([2, 2, 1]), saliency, 0, steps=2, baseline=0.5, score=of_pixel).tolist()
      [2.0, 3.0, 4.0]
    """
    image = _checked(cut, image, saliency, target, score, batch_size)
    checks.check_count("steps", steps, at_least=1)
    if isinstance(baseline, str) and baseline != "blur":
        raise ValueError(f"baseline is {baseline!r}: 'blur', a number or an array is wanted")
    empty = blurred(image) if isinstance(baseline, str) else _broadcast(baseline, image)
    return _curve(cut, empty, image, saliency, target, ends, steps=steps, score=score, batch_size=batch_size)


def area(curve: jax.Array) -> jax.Array:
    """The area under a curve over 0..1, by the trapezoidal rule; for a score in 0..1 in 0..1.

    Petsiuk et al., "RISE", BMVC 2018, section 4.1: AUC.

    Example:
      >>> float(area(jnp.array([1.0, 0.5, 0.0])))
      0.5
    """
    return (curve.sum(-1) - (curve[..., 0] + curve[..., -1]) / 2) / (curve.shape[-1] - 1)


def confidence_curve(
    cut: Cut,
    image: Image,
    saliency: Image,
    target: jax.Array | int,
    *,
    quantiles: Sequence[float] = TENTHS,
    baseline: Baseline = 0.0,
    whole: Any = None,
    score: Score = scores.probability,
    batch_size: int | None = None,
) -> jax.Array:
    """O / Y: the score with the least salient share q of the pixels replaced by the baseline, over that of the image.

    The higher the better, at the same q: what the map keeps is enough for the class.

    Gamed by: any order that keeps the object whole, an edge detector's or a centred blob's; the model need not be used.

    Args:
      cut, image, saliency, target, baseline, score, batch_size: as in `deletion`.
      quantiles: the shares q, in 0..1. Of equal values, such as a relu's zeros, so many are removed that the share is
        q.
      whole: Y, where it is known: the model is not run for it.

    Returns:
      `[len(quantiles)]`, at least 0 for the default score, and above 1 where the model is surer of what is left. It is
      1 at q = 0, for which the model is not run. Where Y is 0 it is 0.

    Raises:
      TypeError, ValueError: as `deletion`; and for a quantile outside 0..1.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, figure 6: relative confidence against the quantile threshold.

    Example:
      >>> cut = Cut((), lambda p, x: x, lambda p, A, x: A.sum((0, 1)))
      >>> options = {"quantiles": (0, 0.25, 0.75), "score": lambda outputs, target: outputs[target]}
      >>> confidence_curve(cut, jnp.ones([2, 2, 1]), jnp.arange(4.0).reshape(2, 2), 0, **options).tolist()
      [1.0, 0.75, 0.25]
    """
    image = _checked(cut, image, saliency, target, score, batch_size)
    removed = _counts("quantiles", quantiles, saliency)
    return _confidence(
        cut, image, _broadcast(baseline, image), saliency, target, whole,
        removed=removed, score=score, batch_size=batch_size,
    )  # fmt: skip


def road(
    cut: Cut,
    image: Image,
    saliency: Image,
    target: jax.Array | int,
    key: jax.Array,
    *,
    shares: Sequence[float] = (0.2, 0.4, 0.6, 0.8),
    first: str = "most",
    noise: float = 0.01,
    score: Score = scores.probability,
    batch_size: int | None = None,
) -> jax.Array:
    """The score after each share of the pixels has been removed and imputed: remove and debias.

    With the most relevant first, MoRF, a good map's score is low; with the least relevant first, LeRF, high. What is
    removed is filled in from its neighbours, so that the outline of what was removed says little about the class.

    Gamed by: a map that is large at the object's outline, from which the imputation cannot find the inside again.

    Args:
      cut, image, saliency, target, score, batch_size: as in `deletion`.
      key: of the imputation's noise, `jax.random.key(0)`; share i has that of `jax.random.fold_in(key, i)`.
      shares: of the pixels, in 0..1.
      first: "most" or "least", which of them are removed.
      noise: as in `jaxcam.imputation.impute`.

    Returns:
      `[len(shares)]`, in 0..1 for the default score.

    Raises:
      TypeError, ValueError: as `deletion`; for a share outside 0..1, and another `first`.

    Rong et al., "A consistent and efficient evaluation strategy for attribution methods", ICML 2022: ROAD.

    Example:
      >>> cut = Cut((), lambda p, x: x, lambda p, A, x: A.mean((0, 1)))
      >>> image, saliency = jnp.arange(4.0).reshape(2, 2, 1), jnp.arange(4.0).reshape(2, 2)
      >>> options = {"shares": (0.25, 0.75), "noise": 0.0, "score": lambda outputs, target: outputs[target]}
      >>> found = road(cut, image, saliency, 0, jax.random.key(0), **options)
      >>> [round(float(each), 2) for each in found]
      [1.05, 0.0]
    """
    image = _checked(cut, image, saliency, target, score, batch_size)
    if first not in FIRST:
        raise ValueError(f"first is {first!r}: it must be {' or '.join(map(repr, FIRST))}")
    removed = _counts("shares", shares, saliency)
    return _road(
        cut, image, saliency, target, key, noise, removed=removed, first=first, score=score, batch_size=batch_size
    )


def road_combined(most: jax.Array, least: jax.Array) -> jax.Array:
    """(mean(least) - mean(most)) / 2, of two results of `road`: pytorch-grad-cam's ROADCombined, not the paper's.

    It is in -0.5..0.5 for a probability, and the higher the better; 0 for a random order, in the mean. The mean is over
    the last axis. pytorch-grad-cam takes the score as a difference to the image's, which cancels here.

    Gamed by: what games `road` from either end.

    Example:
      >>> round(float(road_combined(jnp.array([0.2, 0.0]), jnp.array([0.9, 0.5]))), 6)
      0.3
    """
    return (least.mean(-1) - most.mean(-1)) / 2


def _checked(cut, image, saliency, target, score, batch_size):
    check_cut(cut)
    checks.check_functions({"score": score})
    image = checks.checked_image(image)
    if jnp.ndim(image) != 3 or jnp.shape(saliency) != image.shape[:2]:
        raise ValueError(
            f"the map has shape {jnp.shape(saliency)} and the image {image.shape}: [h w] and [h w c] are wanted; "
            "jaxcam.resize brings a map to the image's resolution"
        )
    if target is None:
        raise TypeError("target is None: a class is wanted, the same for every map that is compared")
    check_target(cut, image, target, score)
    if batch_size is not None:
        checks.check_count("batch_size", batch_size, at_least=1)
    return image


def _counts(name, shares, saliency):
    """Each share as a number of pixels."""
    for share in shares:
        if not 0 <= share <= 1:
            raise ValueError(f"{name} has {share}: shares of the pixels, 0 to 1, are wanted")
    return tuple(round(float(share) * jnp.size(saliency)) for share in shares)


def _broadcast(baseline, image):
    baseline = jnp.asarray(baseline).astype(image.dtype)
    if baseline.shape not in ((), image.shape[-1:], image.shape):
        raise ValueError(
            f"baseline has shape {baseline.shape}: a number, {image.shape[-1:]} or {image.shape} is wanted"
        )
    return jnp.broadcast_to(baseline.reshape((1,) * (image.ndim - baseline.ndim) + baseline.shape), image.shape)


def _scored(cut, images, xs, target, score, batch_size):
    """The score of the model on each of `images(x)`."""

    def one(x):
        return score(activations(cut, images(x))[1], target)

    return jax.lax.map(one, xs, batch_size=batch_size or (None if jax.default_backend() == "cpu" else 16))


@functools.partial(jax.jit, static_argnames=("steps", "score", "batch_size"))
def _curve(cut, before, after, saliency, target, ends, *, steps, score, batch_size):
    """The scores of `before`, with more and more pixels of `after`."""
    rank = order(saliency)[..., None]
    counts = jnp.asarray(np.arange(steps + 1) * rank.size // steps, jnp.int32)
    if ends is not None:
        counts = counts[1:-1]
    found = _scored(cut, lambda count: jnp.where(rank < count, after, before), counts, target, score, batch_size)
    if ends is None:
        return found
    first, last = (jnp.asarray(end).astype(found.dtype)[None] for end in ends)
    return jnp.concatenate([first, found, last])


@functools.partial(jax.jit, static_argnames=("removed", "score", "batch_size"))
def _confidence(cut, image, empty, saliency, target, whole, *, removed, score, batch_size):
    rank = order(saliency)[..., None]
    # The image itself is the one with nothing removed.
    counts = tuple(dict.fromkeys(([0] if whole is None else []) + [count for count in removed if count]))
    found = _scored(
        cut,
        lambda count: jnp.where(rank < rank.size - count, image, empty),
        jnp.asarray(counts, jnp.int32), target, score, batch_size,
    )  # fmt: skip
    by_count = dict(zip(counts, found, strict=True))
    Y = by_count[0] if whole is None else jnp.asarray(whole).astype(found.dtype)
    kept = jnp.stack([by_count[count] if count else Y for count in removed])
    return jnp.where(Y == 0, 0, kept / jnp.where(Y == 0, 1, Y))


@functools.partial(jax.jit, static_argnames=("removed", "first", "score", "batch_size"))
def _road(cut, image, saliency, target, key, noise, *, removed, first, score, batch_size):
    rank = order(saliency)

    def imputed(x):
        i, count = x
        gone = rank < count if first == "most" else rank >= rank.size - count
        return impute(image, gone, jax.random.fold_in(key, i), noise=noise)

    xs = jnp.arange(len(removed)), jnp.asarray(removed, jnp.int32)
    return _scored(cut, imputed, xs, target, score, batch_size)
