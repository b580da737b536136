"""The call that the Smooth Grad-CAM++ paper prints."""

from collections.abc import Sequence
from typing import Any

import jax

from jaxcam._base.types import Image, Target
from jaxcam.cutting import cut as cut_model
from jaxcam.formulas import maps
from jaxcam.methods._cam import smooth_grad_cam_pp


def grad_cam_plus_smooth(
    model: Any,
    img: Image,
    layer_name: str = "block5_conv3",
    nsamples: int = 0,
    std_dev: float = 0.15,
    filters: Sequence[int] | None = None,
    region: bool = False,
    subset: Sequence[Sequence[int]] | None = None,
    *,
    target: Target = None,
    key: jax.Array | None = None,
) -> jax.Array:
    """The call of the Smooth Grad-CAM++ paper, with its argument names.

    Args:
      model: a model that `jaxcam.cut` takes.
      img: one image, floats, without a batch axis.
      layer_name: the layer to explain.
      nsamples: number of noisy copies; 0 for Grad-CAM++.
      std_dev: standard deviation of the noise, as a share of the image's range.
      filters: feature maps to show, one map for each; None for the map of all.
      region: True if `subset` is two corners of a rectangle, False if it is a list of neurons.
      subset: coordinates of neurons on the layer.
      target: the class; None for the one with the largest output.
      key: a `jax.random.key` for the noise; defaults to `jax.random.key(0)`.

    Returns:
      `[*spatial]`, or `[len(filters) *spatial]`.

    Omeiza et al., "Smooth Grad-CAM++", 2019, section 3.7.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.grad_cam_plus_smooth(jaxcam.digits(), image, "block3_conv2", nsamples=5, filters=[3, 7]).shape
      (2, 16, 16)
    """
    everything = filters is None and subset is None and not region
    return smooth_grad_cam_pp(
        cut_model(model, layer_name),
        img,
        target,
        jax.random.key(0) if key is None else key,
        n_samples=nsamples,
        std=std_dev,
        select=None if everything else maps.select(filters=filters, region=region, subset=subset),
    )
