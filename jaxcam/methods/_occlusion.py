"""Occlusion: how much the score falls where a patch of the image is covered. It takes forward passes only."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base import checks
from jaxcam._base.axes import over_channels
from jaxcam._base.numerics import at_least_float32, batch_size_or_default
from jaxcam._base.types import Image, Score, Target
from jaxcam.cutting import Cut, image_axis, image_spatial, resolve_target
from jaxcam.formulas import scores
from jaxcam.methods._call import explanation_method
from jaxcam.methods._gradients import model_of


@explanation_method(traced=("baseline",))
def occlusion(
    cut: Cut,
    image: Image,
    target: Target = None,
    *,
    patch: int | tuple[int, ...] = 16,
    stride: int | tuple[int, ...] = 8,
    baseline: Any = None,
    score: Score = scores.probability,
    batch_size: int | None = None,
) -> jax.Array:
    """Occlusion: at each pixel, the mean of u(image) - u(covered image) over the patches that cover it.

    It asks the network itself and no layer, so it is what the maps of gradients are compared with: the Grad-CAM paper
    calls their rank correlation with it faithfulness. `jaxcam.metrics.rank_correlation` computes that.

    Args:
      cut: a `Cut`, at any layer.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output.
      patch: the sides of the patch, one number for each spatial axis or one for all.
      stride: the steps between patches, likewise; at most `patch`, so that every pixel is covered. The last patch of
        a row ends at the image's edge.
      baseline: what covers the patch: a value for each channel, one number, or an image; defaults to 0.
      score: `(outputs, target) -> u`; see `jaxcam.scores`. Defaults to the probability.
      batch_size: patches at a time, which limits memory; defaults to 16, and to 1 on a CPU.

    Returns:
      `[*spatial]` of the image, signed: below 0 where covering helps the score.

    Raises:
      TypeError, ValueError: as `score_cam`; also a ValueError for a patch that is larger than the image, or a stride
        that is larger than the patch.

    Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 4.2; Selvaraju et al.,
    IJCV 2019, section 5.3.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> occluded = jaxcam.occlusion(cut, image, patch=16, stride=16)
      >>> saliency = jaxcam.resize(jaxcam.grad_cam(cut, image), occluded.shape)
      >>> occluded.shape, bool(jaxcam.metrics.rank_correlation(saliency, occluded) > 0)
      ((64, 64), True)
    """
    x, model = jnp.asarray(image), model_of(cut)
    channels, spatial = image_axis(cut, x), image_spatial(cut, x)
    patches, strides = (_sides(name, value, len(spatial)) for name, value in (("patch", patch), ("stride", stride)))
    starts = [_starts(*sides) for sides in zip(spatial, patches, strides, strict=True)]
    covered = [_covered(first, side, size) for first, side, size in zip(starts, patches, spatial, strict=True)]
    value = checks.broadcast_baseline(0 if baseline is None else jnp.asarray(baseline), x, channels)
    outputs = model(x)
    target, in_range = resolve_target(outputs, target)

    def score_without(place):
        along_axes = [jnp.asarray(along)[i] for along, i in zip(covered, place, strict=True)]
        mask = functools.reduce(lambda mask, along: jnp.logical_and.outer(mask, along), along_axes)
        return score(model(jnp.where(over_channels(mask, x.ndim, channels), value, x)), target)

    counts = tuple(map(len, starts))
    places = jnp.unravel_index(jnp.arange(np.prod(counts)), counts)
    at_a_time = batch_size_or_default(batch_size, cpu=1, accelerator=16)
    falls = score(outputs, target) - jax.lax.map(score_without, places, batch_size=at_a_time)
    return jnp.where(in_range, _mean_over_patches(at_least_float32(falls).reshape(counts), covered), jnp.nan)


def _sides(name: str, value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """One number for each spatial axis."""
    sides = (value,) * axes if isinstance(value, int | np.integer) else tuple(value)
    if len(sides) != axes:
        raise ValueError(f"expected {name} to be one integer or {axes}, one for each axis, got {value!r}")
    for side in sides:
        checks.check_count(name, side, at_least=1)
    return sides


def _starts(size: int, side: int, step: int) -> np.ndarray:
    """Where the patches along an axis begin."""
    if side > size:
        raise ValueError(f"expected a patch of at most the image's {size} pixels, got {side}")
    if step > side:
        raise ValueError(
            f"expected a stride of at most the patch's {side} pixels, got {step}: pixels would be left out"
        )
    return np.unique(np.minimum(np.arange(0, size - side + step, step), size - side))


def _covered(starts: np.ndarray, side: int, size: int) -> np.ndarray:
    """The pixels of each patch along an axis, `[patches size]`."""
    pixels = np.arange(size)
    return (pixels >= starts[:, None]) & (pixels < starts[:, None] + side)


def _mean_over_patches(values: jax.Array, covered: Sequence[np.ndarray]) -> jax.Array:
    """At each pixel the mean of the values of the patches that cover it."""
    for along in covered:
        shares = jnp.asarray(along / along.sum(0), values.dtype)
        values = jnp.tensordot(values, shares, ((0,), (0,)), precision="highest")
    return values
