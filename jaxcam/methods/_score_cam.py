"""Score-CAM, which takes forward passes only."""

import jax
import jax.numpy as jnp

from jaxcam._base.axes import over_channels
from jaxcam._base.numerics import batch_size_or_default
from jaxcam._base.types import Image, Score, Target
from jaxcam.cutting import Cut, image_axis, image_spatial
from jaxcam.formulas import maps, scores, weights
from jaxcam.methods._activation import activation_and_target
from jaxcam.methods._call import explanation_method


@explanation_method()
def score_cam(
    cut: Cut,
    image: Image,
    target: Target = None,
    *,
    score: Score = scores.logit,
    select: maps.Select | None = None,
    batch_size: int | None = None,
) -> jax.Array:
    """Score-CAM: w = softmax over channels of u(image * H_k), with H_k the channel A^k resized and scaled to 0..1.

    It takes one forward pass for each channel, and no gradient. Masked pixels are 0, so 0 should mean "nothing" in the
    model's input, as black does in 0..1.

    Args:
      cut: a `Cut`.
      image: one example, floats, without a batch axis, with as many spatial axes as the activation.
      target: the class; None for the one with the largest output.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.
      select: as in `jaxcam.select`.
      batch_size: channels at a time, which limits memory; defaults to 16, and to 1 on a CPU.

    Returns:
      `[*spatial]`, at least 0.

    Raises:
      TypeError, ValueError: as `grad_cam`; also if the activation and the image differ in their number of spatial axes.

    Wang et al., "Score-CAM: score-weighted visual explanations for convolutional neural networks", CVPR workshops 2020,
    equations 6 and 7.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.score_cam(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (16, 16)
    """
    A, target, in_range = activation_and_target(cut, image, target)
    image = jnp.asarray(image)
    channels, spatial = image_axis(cut, image), image_spatial(cut, image)
    if A.ndim - 1 != len(spatial):
        raise ValueError(
            f"Score-CAM masks the image by the activation: {list(A.shape)} at {cut.layer or 'this cut'!r} has other "
            f"spatial axes than the image {list(image.shape)}"
        )

    def score_of_masked_image(k):
        mask = maps.normalize(maps.resize(A[..., k], spatial)).astype(image.dtype)
        masked = image * over_channels(mask, image.ndim, channels)
        return score(cut.head(cut.params, cut.features(cut.params, masked), masked), target)

    channels_at_a_time = batch_size_or_default(batch_size, cpu=1, accelerator=16)
    channel_scores = jax.lax.map(score_of_masked_image, jnp.arange(A.shape[-1]), batch_size=channels_at_a_time)
    saliency = maps.weighted_sum(A, weights.score_cam(channel_scores), select=select)
    return jnp.where(in_range, saliency, jnp.nan)
