"""The loss of the networks that learn for the right reasons: cross-entropy and a penalty on maps outside of masks."""

import dataclasses
from typing import Any

import jax

import jaxcam
import jaxcam.losses


def mean_loss(cut: jaxcam.Cut, params: Any, images: Any, labels: Any, masks: Any, *, penalty: float) -> jax.Array:
    """The mean over a batch of the cross-entropy, and of `penalty` times the squares of the map outside the mask.

    The map is LayerCAM's, because a network can escape from Grad-CAM by maps that the ReLU makes zero everywhere.

    Args:
      cut: of the network.
      params: that are trained, in the place of the cut's.
      images: `[n *spatial c]`.
      labels: the classes, `[n]`.
      masks: where the evidence may lie, `[n *spatial]` bool; not read if `penalty` is 0.
      penalty: the weight, a Python number; 0 leaves the map out.
    """
    own = dataclasses.replace(cut, params=params)

    def of_example(image, label, mask):
        entropy = -jaxcam.scores.log_softmax(own.head(params, own.features(params, image), image), label)
        if not penalty:
            return entropy
        outside = jaxcam.losses.right_reasons(own, image, label, mask, method=jaxcam.layer_cam, normalize="max")
        return entropy + penalty * outside

    return jax.vmap(of_example)(images, labels, masks).mean()
