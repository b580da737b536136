"""ROAD: pixels removed in the order of the map, and imputed from their neighbors.

    >>> import jax, jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(1)
    >>> saliency = jaxcam.resize(jaxcam.grad_cam_pp(cut, image, 3), image.shape[:2])
    >>> road(cut, image, saliency, 3, jax.random.key(0), shares=(0.2, 0.5)).shape
    (2,)

Arguments are those of `jaxcam.metrics.deletion`. Compare a map with a constant map, which removes pixels in a random
order, and with a bright spot in the center.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._base.targets import jit_with_target
from jaxcam._base.types import Image, Score, Target
from jaxcam.cutting import Cut, image_axis
from jaxcam.formulas import scores
from jaxcam.metrics._inputs import unless_nan
from jaxcam.metrics._removal import checked_arguments, pixel_counts, scores_of_steps
from jaxcam.perturbations import impute, pixel_ranks

FIRST = ("most", "least")


def road(
    cut: Cut,
    image: Image,
    saliency: ArrayLike,
    target: Target,
    key: jax.Array,
    *,
    shares: Sequence[float] = (0.2, 0.4, 0.6, 0.8),
    first: str = "most",
    noise: float = 0.01,
    score: Score = scores.probability,
    batch_size: int | None = None,
) -> jax.Array:
    """The score after each share of the pixels has been removed and imputed: remove and debias.

    With the most relevant pixels first (MoRF) a good map's score is low; with the least relevant first (LeRF) it is
    high. Removed pixels are imputed from their neighbors, so the outline of the removed region reveals little about
    the class.

    Gamed by a map that is large at the object's outline: the imputation cannot reconstruct the inside from there.

    Args:
      cut, image, saliency, target, score, batch_size: as in `deletion`.
      key: a `jax.random.key` for the imputation's noise; share i uses `jax.random.fold_in(key, i)`.
      shares: of the pixels, in 0..1.
      first: "most" or "least": which pixels are removed first.
      noise: standard deviation of the imputation's noise, as in `jaxcam.metrics.impute`.

    Returns:
      `[len(shares)]`, in 0..1 for the default score.

    Raises:
      TypeError, ValueError: as `deletion`; a share is outside 0..1; another `first`.

    Rong et al., "A consistent and efficient evaluation strategy for attribution methods", ICML 2022: ROAD.

    Example:
      >>> cut = Cut((), lambda p, x: x, lambda p, A, x: A.mean((0, 1)))
      >>> image, saliency = jnp.arange(4.0).reshape(2, 2, 1), jnp.arange(4.0).reshape(2, 2)
      >>> options = {"shares": (0.25, 0.75), "noise": 0.0, "score": lambda outputs, target: outputs[target]}
      >>> curve = road(cut, image, saliency, 0, jax.random.key(0), **options)
      >>> [round(float(value), 2) for value in curve]
      [1.05, 0.0]
    """
    image, cut, score = checked_arguments(cut, image, saliency, target, score, batch_size)
    if first not in FIRST:
        raise ValueError(f"expected first to be {' or '.join(map(repr, FIRST))}, got {first!r}")
    removed_counts = pixel_counts("shares", shares, saliency)
    return _imputation_curve(
        cut, image, saliency, target, key, noise,
        removed_counts=removed_counts, first=first, score=score, batch_size=batch_size,
    )  # fmt: skip


def road_combined(most: jax.Array, least: jax.Array) -> jax.Array:
    """(mean(least) - mean(most)) / 2 of two results of `road`: ROADCombined of pytorch-grad-cam, not of the paper.

    Higher is better. It is in -0.5..0.5 for a probability, and 0 on average for a random order. The mean is taken over
    the last axis. pytorch-grad-cam subtracts the image's score from each score, which cancels here.

    Gamed by whatever games `road`, from either end.

    Args:
      most, least: results of `road` with the most, and with the least relevant pixels first.

    Example:
      >>> round(float(road_combined(jnp.array([0.2, 0.0]), jnp.array([0.9, 0.5]))), 6)
      0.3
    """
    return (least.mean(-1) - most.mean(-1)) / 2


@functools.partial(jit_with_target, static_argnames=("removed_counts", "first", "score", "batch_size"))
def _imputation_curve(
    cut: Cut,
    image: jax.Array,
    saliency: jax.Array,
    target: Target,
    key: jax.Array,
    noise: jax.Array | float,
    *,
    removed_counts: tuple[int, ...],
    first: str,
    score: Score,
    batch_size: int | None,
) -> jax.Array:
    """The scores of the image with removed pixels imputed."""
    ranks, channels = pixel_ranks(saliency), image_axis(cut, image)

    def imputed_image(step):
        number, count = step
        removed = ranks < count if first == "most" else ranks >= ranks.size - count
        return impute(image, removed, jax.random.fold_in(key, number), noise=noise, channel_axis=channels)

    steps = jnp.arange(len(removed_counts)), jnp.asarray(removed_counts, jnp.int32)
    return unless_nan(saliency, scores_of_steps(cut, imputed_image, steps, target, score, batch_size))
