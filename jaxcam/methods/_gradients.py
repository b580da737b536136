"""Gradients of the score with respect to the image, by the plain backward pass or with other rules for relus."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._base.types import Image, Score, Target
from jaxcam.cutting import Cut, image_axis, resolve_target
from jaxcam.formulas import scores
from jaxcam.methods._call import explanation_method
from jaxcam.methods._locally_constant import check_gradient_of_image
from jaxcam.tracing import rules


@explanation_method()
def input_gradient(cut: Cut, image: Image, target: Target = None, *, score: Score = scores.logit) -> jax.Array:
    """The gradient of the score with respect to the image: du/dx.

    Args:
      cut: a `Cut`, at any layer.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.

    Returns:
      An array of the image's shape, `[*spatial c]`, signed.

    Raises:
      TypeError: the image is not floats, or an option is not known.
      ValueError: the image has NaN or infinity, or the target is out of range.

    Baehrens et al., "How to explain individual classification decisions", JMLR 2010, equation 2.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.input_gradient(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image, 3).shape
      (64, 64, 3)
    """
    return gradient_of_score(model_of(cut), image, target, score)


@explanation_method()
def saliency(cut: Cut, image: Image, target: Target = None, *, score: Score = scores.logit) -> jax.Array:
    """The class saliency map: the maximum over channels of |du/dx|.

    Args:
      cut: a `Cut`, at any layer.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.

    Returns:
      `[*spatial]`, at least 0.

    Raises:
      TypeError, ValueError: as `input_gradient`.

    Simonyan et al., "Deep inside convolutional networks: visualising image classification models and saliency maps",
    2014, section 3.1.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.saliency(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (64, 64)
    """
    gradient = gradient_of_score(model_of(cut), image, target, score)
    channels = image_axis(cut, image)
    return jnp.abs(gradient) if channels is None else jnp.abs(gradient).max(channels)


@explanation_method()
def guided_backprop(cut: Cut, image: Image, target: Target = None, *, score: Score = scores.logit) -> jax.Array:
    """Guided backprop: du/dx, in which a gradient g passes a relu of z only where z > 0 and g > 0.

    Args:
      cut: a `Cut`, at any layer, of a model with relus; `jaxcam.rules` documents what counts as one.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output.
      score: `(outputs, target) -> u`; see `jaxcam.scores`. Relus in the score keep their usual gradient.

    Returns:
      `[*spatial c]`, signed.

    Raises:
      TypeError, ValueError: as `input_gradient`; also a ValueError if the model has no relu.

    Springenberg et al., "Striving for simplicity: the all convolutional net", ICLR 2015 workshop, section 3.4.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.guided_backprop(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (64, 64, 3)
    """
    return gradient_of_score(rules.guided(model_of(cut)), image, target, score)


@explanation_method()
def deconvnet(cut: Cut, image: Image, target: Target = None, *, score: Score = scores.logit) -> jax.Array:
    """The deconvnet: du/dx, in which a gradient g passes a relu as relu(g).

    Args:
      cut: a `Cut`, at any layer, of a model with relus; `jaxcam.rules` documents what counts as one.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output.
      score: `(outputs, target) -> u`; see `jaxcam.scores`. Relus in the score keep their usual gradient.

    Returns:
      `[*spatial c]`, signed.

    Raises:
      TypeError, ValueError: as `input_gradient`; also a ValueError if the model has no relu.

    Zeiler & Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 2.1.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.deconvnet(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (64, 64, 3)
    """
    return gradient_of_score(rules.deconvnet(model_of(cut)), image, target, score)


def model_of(cut: Cut) -> Callable[[jax.Array], Any]:
    """The whole model, `x -> outputs`."""

    def model(x):
        return cut.head(cut.params, cut.features(cut.params, x), x)

    return model


def gradient_of_score(model: Callable[[jax.Array], Any], image: Image, target: Target, score: Score) -> jax.Array:
    """The gradient of the score with respect to the image; NaN if the target is out of range or the score is NaN.

    The score is differentiated apart from the model, so rules for the relus of the model do not change its gradient.
    """
    image = jnp.asarray(image)
    outputs, vjp_of_model = jax.vjp(model, image)
    target, in_range = resolve_target(outputs, target)
    check_gradient_of_image(lambda x: score(model(x), target), image)
    # The outputs may have integer leaves, which the score does not differentiate.
    u, slope = jax.value_and_grad(lambda outputs: score(outputs, target), allow_int=True)(outputs)
    (gradient,) = vjp_of_model(slope)
    return jnp.where(in_range & ~jnp.isnan(u), gradient, jnp.nan)
