"""Right for the right reasons: a penalty on the map outside a mask."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._base.types import Image, Method, Target
from jaxcam.cutting import Cut
from jaxcam.formulas import maps
from jaxcam.losses._maps import check_target_given, map_in_training, scaled
from jaxcam.methods import grad_cam


def right_reasons(
    student: Cut,
    image: Image,
    target: Target,
    mask: ArrayLike,
    key: jax.Array | None = None,
    *,
    method: Method = grad_cam,
    normalize: str | None = None,
) -> jax.Array:
    """The map's squares outside a mask, sum over p outside the mask of M(p)^2: 0 if all evidence lies on the mask.

    Args:
      student: the cut of the network that learns.
      image: one example, floats, without a batch axis.
      target: what is explained, for most scores a class: the example's own.
      mask: where the evidence may lie, `[*spatial]` bool, at any resolution. The map is resized to it.
      key: for a method that draws noise.
      method: `(cut, image, target, [key]) -> map`; bind its options with `functools.partial`.
      normalize: None for the map as it is, which a network can also lower by smaller logits; "max" divides the map by
        its maximum, so that only its form counts.

    Returns:
      A scalar of at least 0. A map of zeros has the penalty 0 and no gradient, so a network can learn weights with
      which the relu makes every map of Grad-CAM zero. Methods with weights of at least 0, such as `jaxcam.layer_cam`
      and `jaxcam.grad_cam_plus`, leave it no such escape.

    Raises:
      TypeError: the student is a model or a cut at several layers; the target is None; the mask is not bool; the
        method's result is not a map.
      ValueError: the mask has another number of axes than the map, or `normalize` is another name.

    Ross, Hughes and Doshi-Velez, "Right for the right reasons: training differentiable models by constraining their
    explanations", IJCAI 2017, with input gradients in the place of the map; Schramowski et al., "Making deep neural
    networks right for the right scientific reasons by interacting with their explanations", 2020, with Grad-CAM.

    Example:
      >>> import jaxcam
      >>> student = jaxcam.Cut(jnp.eye(3, 2), lambda W, x: x, lambda W, A, x: A.mean((0, 1)) @ W)
      >>> image = jnp.zeros([4, 4, 3]).at[0, 0].set(16.0)
      >>> mask = jnp.zeros([4, 4], bool).at[0, 0].set(True)
      >>> float(right_reasons(student, image, 1, mask)), float(right_reasons(student, image, 1, ~mask))
      (0.0, 1.0)
    """
    check_target_given(target)
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"expected a mask of bool, such as trimap == 1, got {mask.dtype}")
    saliency = map_in_training("student", student, image, target, key, method)
    if saliency.ndim != mask.ndim:
        raise ValueError(
            f"expected a mask with the axes of the map, {saliency.shape}, got shape {mask.shape}: use jax.vmap for "
            "batches"
        )
    return jnp.where(mask, 0, scaled(maps.resize(saliency, mask.shape), normalize) ** 2).sum()
