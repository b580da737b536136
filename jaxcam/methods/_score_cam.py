"""TODO."""

import jax
import jax.numpy as jnp

from jaxcam._base.types import Image, Score, Target
from jaxcam.cutting import Cut, activations, check_spatial, resolve_target
from jaxcam.formulas import maps, scores, weights
from jaxcam.methods._call import method


@method()
def score_cam(
    cut: Cut,
    image: Image,
    target: Target = None,
    *,
    score: Score = scores.logit,
    select: maps.Select | None = None,
    batch_size: int | None = None,
) -> jax.Array:
    """Score-CAM: w = softmax over channels of u(image * H_k), H_k the channel A^k upsampled and scaled to 0..1.

    One forward pass for each channel, and no gradient. Masked pixels are 0: the model's input should have 0 for
    nothing, as black is in 0..1.

    Args:
      cut: a `Cut`.
      image: one example, floats, without a batch axis; as many spatial axes as the activation.
      target: the class; None for the one with the largest output.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.
      select: as in `jaxcam.select`.
      batch_size: the memory knob: channels at a time.

    Returns:
      `[*spatial]`, at least 0.

    Raises:
      TypeError, ValueError: as `grad_cam`; and for an activation with other spatial axes than the image.

    Wang et al., "Score-CAM: score-weighted visual explanations for convolutional neural networks", CVPR workshops 2020,
    equations 6 and 7.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.score_cam(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (16, 16)
    """
    A, target, valid = _clean(cut, image, target)
    image = jnp.asarray(image)
    if A.ndim != image.ndim:
        raise ValueError(
            f"Score-CAM masks the image by the activation: {list(A.shape)} at {cut.layer or 'this cut'!r} has other "
            f"spatial axes than the image {list(image.shape)}"
        )

    def u(k):
        mask = maps.normalize(maps.resize(A[..., k], image.shape[:-1])).astype(image.dtype)
        masked = image * mask[..., None]
        return score(cut.head(cut.params, cut.features(cut.params, masked), masked), target)

    size = batch_size or (1 if jax.default_backend() == "cpu" else 16)
    found = jax.lax.map(u, jnp.arange(A.shape[-1]), batch_size=size)
    saliency = maps.saliency(A, weights.score_cam(found), select=select)
    return jnp.where(valid, saliency, jnp.nan)


def _clean(cut, image, target):
    """The clean activation, the target as an index, and whether it is in range."""
    A, outputs = activations(cut, image)
    check_spatial(cut.layer, A[cut.layer])
    return A[cut.layer], *resolve_target(outputs, target)
