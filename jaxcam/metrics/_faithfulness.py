"""Does the model use what a map shows? The model's score on the image that the map masks, and measures of that score.

>>> import jax.numpy as jnp
>>> import jaxcam
>>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
>>> image, _ = jaxcam.pretrained.digits_canvas(1)
>>> Y = masked_score(cut, image, jnp.ones([1, 1]), 3)
>>> O = masked_score(cut, image, jaxcam.grad_cam_pp(cut, image, 3), 3)
>>> float(average_drop(Y, Y)), bool(0 <= average_drop(Y, O) <= 1)
(0.0, True)

Y is the probability of the class on the image, which `jaxcam.scores.probability` takes from logits and from
probabilities alike, and O its probability on the image masked by the map; all ones masks
nothing. The model was never trained on masked images, so these measures test the model on such images as much as they
test the map. Each measure can be gamed, and its docstring says how: report controls together with the methods, among
them all ones and a center Gaussian.

`average_drop`, `increase`, `average_gain`, `win` and `adcc` take arrays of one shape. The others take one image or one
mask with any number of spatial axes; use `jax.vmap` for several. All are pure functions, finite for finite inputs.
"""

# ruff: noqa: E741  # Y and O are the papers' letters

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._base import checks
from jaxcam._base.numerics import as_floats, safe_divide
from jaxcam._base.types import Baseline, Image, Score, Target
from jaxcam.cutting import Cut, activations, check_cut, check_target, for_score, image_axis, image_spatial, score_or_nan
from jaxcam.formulas import scores
from jaxcam.metrics._inputs import unless_nan
from jaxcam.perturbations import as_mask, masked


def masked_score(
    cut: Cut,
    image: Image,
    saliency: ArrayLike,
    target: Target,
    *,
    score: Score = scores.probability,
    baseline: Baseline = 0.0,
) -> jax.Array:
    """The score of the image masked by a map: score(model(masked(image, as_mask(saliency))), target).

    A map of ones masks nothing. With it this is Y, the score of the image, from the same computation.

    Args:
      cut: a `Cut`, at any layer: the whole model is run.
      image: one example `[*spatial c]`, floats.
      saliency: map `[*spatial]`, at any resolution.
      target: the class, or any target that the score takes. None is refused for outputs `[classes]`, because the model
        may predict another class for the masked image.
      score: `(outputs, target) -> scalar`; see `jaxcam.scores`.
      baseline: the value of a removed pixel, as in `masked`.

    Returns:
      A scalar.

    Raises:
      TypeError, ValueError: as `jaxcam.grad_cam_pp` and `masked`; the target is None.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, section 4.1: the "explanation map" is the image times the map.

    Example:
      >>> import jaxcam
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> image, _ = jaxcam.pretrained.digits_canvas(1)
      >>> round(float(masked_score(cut, image, jnp.ones([16, 16]), 3)), 2)
      0.8...
    """
    check_cut(cut)
    image = checks.checked_image(image)
    check_target(cut, image, target, score, needs_class=True)
    cut, score = for_score(cut, image, score)
    saliency = jnp.asarray(saliency)
    mask = as_mask(saliency, image_spatial(cut, image))
    masked_image = masked(image, mask, baseline=baseline, channel_axis=image_axis(cut, image))
    return unless_nan(saliency, score_or_nan(score, activations(cut, masked_image)[1], target))


def average_drop(Y: ArrayLike, O: ArrayLike) -> jax.Array:
    """max(0, Y - O) / Y of each image, in 0..1, and 0 where Y is 0; lower is better.

    The paper's Average Drop % is 100 times the mean over images.

    Gamed by masking nothing: all ones has a drop of 0.

    Args:
      Y: probability of the class on the image.
      O: probability of the class on the masked image.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, section 4.1.

    Example:
      >>> average_drop(jnp.array([0.8, 0.5, 0.0]), jnp.array([0.2, 0.9, 0.0])).tolist()
      [0.75, 0.0, 0.0]
    """
    Y, O = as_floats(Y), as_floats(O)
    return safe_divide(jax.nn.relu(Y - O), Y)


def increase(Y: ArrayLike, O: ArrayLike) -> jax.Array:
    """1 where Y < O, else 0; higher is better.

    The paper's "% increase in confidence" is 100 times the mean over images.

    Gamed by masking almost nothing: the small change raises the score about half of the time, and the size of the rise
    does not matter.

    Args:
      Y: probability of the class on the image.
      O: probability of the class on the masked image.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, section 4.1.

    Example:
      >>> increase(jnp.array([0.8, 0.5, 0.5]), jnp.array([0.2, 0.9, 0.5])).tolist()
      [0.0, 1.0, 0.0]
    """
    Y, O = as_floats(Y), as_floats(O)
    return jnp.where(jnp.isnan(Y) | jnp.isnan(O), jnp.nan, jnp.where(Y < O, 1, 0).astype(jnp.result_type(Y, O)))


def average_gain(Y: ArrayLike, O: ArrayLike) -> jax.Array:
    """max(0, O - Y) / (1 - Y) of each image, in 0..1, and 0 where Y is 1; higher is better.

    The counterpart of `average_drop`: the share of the possible gain that is gained. The paper's Average Gain % is 100
    times the mean over images.

    Gamed by a map that is optimized for it, which turns the image into another one that the model is more certain of.

    Args:
      Y: probability of the class on the image.
      O: probability of the class on the masked image.

    Zhang et al., "Opti-CAM: optimizing saliency maps for interpretability", 2023.

    Example:
      >>> average_gain(jnp.array([0.5, 0.5, 1.0]), jnp.array([0.75, 0.2, 1.0])).tolist()
      [0.5, 0.0, 0.0]
    """
    Y, O = as_floats(Y), as_floats(O)
    return safe_divide(jax.nn.relu(O - Y), 1 - Y)


def win(drop: ArrayLike, other_drop: ArrayLike) -> jax.Array:
    """1 where a method's drop is lower than another method's, 1/2 where they are equal, else 0; higher is better.

    The paper's Win % is 100 times the mean over images. The paper does not say how to count equal drops. Two drops of
    0 are common, because every rise is a drop of 0; with halves the shares of the two methods add up to 1.

    Gamed as `average_drop` is. It also depends on the method that the comparison is made with.

    Args:
      drop: `average_drop` of the method.
      other_drop: `average_drop` of the other method, on the same images.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, section 4.1.

    Example:
      >>> win(jnp.array([0.1, 0.0, 0.3]), jnp.array([0.2, 0.0, 0.2])).tolist()
      [1.0, 0.5, 0.0]
    """
    drop, other_drop = as_floats(drop), as_floats(other_drop)
    points = jnp.where(drop < other_drop, 1, jnp.where(drop == other_drop, 0.5, 0))
    return jnp.where(jnp.isnan(drop) | jnp.isnan(other_drop), jnp.nan, points.astype(jnp.result_type(drop, other_drop)))


def coherency(mask: ArrayLike, mask_of_masked: ArrayLike) -> jax.Array:
    """(pearson + 1) / 2 of the map of the image and the map of the masked image, in 0..1; higher is better.

    A constant mask has no correlation: the result is 1 if both masks are the same constant, else 1/2, the value of
    unrelated maps.

    Gamed by a map that does not depend on the image: a fixed map scores 1.

    Args:
      mask: map of the image as a mask `[*spatial]`; see `as_mask`.
      mask_of_masked: the same method's map, for the same class, of the image masked by `mask`; as a mask `[*spatial]`.

    Raises:
      ValueError: the shapes differ.

    Poppi et al., "Revisiting the evaluation of class activation mapping for explainability: a novel metric and
    experimental analysis", CVPR workshops 2021.

    Example:
      >>> mask = jnp.array([[0.0, 1.0], [0.5, 0.5]])
      >>> float(coherency(mask, mask)), float(coherency(mask, 1 - mask)), float(coherency(mask, jnp.ones([2, 2])))
      (1.0, 0.0, 0.5)
    """
    a, b = as_floats(mask), as_floats(mask_of_masked)
    if a.shape != b.shape:
        raise ValueError(f"expected two masks of one shape, got {a.shape} and {b.shape}: see as_mask")
    is_constant, is_same = (a.max() == a.min()) | (b.max() == b.min()), (a == b).all()
    a, b = a - a.mean(), b - b.mean()
    # A product of roots, because the product of the variances may underflow.
    spread = jnp.sqrt(jnp.where(is_constant, 1, (a * a).sum())) * jnp.sqrt(jnp.where(is_constant, 1, (b * b).sum()))
    pearson = jnp.clip((a * b).sum() / jnp.where(spread == 0, 1, spread), -1, 1)
    return jnp.where(is_constant, jnp.where(is_same, 1, 0.5), (pearson + 1) / 2)


def complexity(mask: ArrayLike) -> jax.Array:
    """The mean of a mask, in 0..1; lower is better.

    Gamed by showing nothing: a map of zeros scores 0.

    Args:
      mask: map as a mask `[*spatial]`; see `as_mask`.

    Poppi et al., "Revisiting the evaluation of class activation mapping for explainability: a novel metric and
    experimental analysis", CVPR workshops 2021, where it is the map's L1 norm; here it is divided by the number of
    pixels.

    Example:
      >>> float(complexity(jnp.array([[0.0, 1.0], [0.5, 0.5]])))
      0.5
    """
    # 1 minus the mean distance from 1, so that all ones scores exactly 1; a sum over n would be divided with rounding.
    return 1 - (1 - as_floats(mask)).mean()


def adcc(coherency: ArrayLike, complexity: ArrayLike, average_drop: ArrayLike) -> jax.Array:
    """The harmonic mean 3 / (1/coherency + 1/(1 - complexity) + 1/(1 - drop)), in 0..1; higher is better.

    0 where any of the three terms is 0, the limit of the harmonic mean: all ones, of complexity 1, scores 0.

    Gamed by a small fixed spot where objects usually are: it is coherent, of low complexity, and often enough to keep
    the class.

    Args:
      coherency: of each image; see `coherency`.
      complexity: of each image's map; see `complexity`.
      average_drop: of each masked image; see `average_drop`.

    Poppi et al., "Revisiting the evaluation of class activation mapping for explainability: a novel metric and
    experimental analysis", CVPR workshops 2021. The mean of ADCC over images and the ADCC of the three means are
    different numbers: report which one it is.

    Example:
      >>> adcc(jnp.array([1.0, 1.0]), jnp.array([0.5, 1.0]), jnp.array([0.5, 0.0])).tolist()
      [0.6..., 0.0]
    """
    coherency, complexity, average_drop = as_floats(coherency), as_floats(complexity), as_floats(average_drop)
    terms = jnp.stack([coherency, 1 - complexity, 1 - average_drop])
    has_zero = (terms <= 0).any(0)
    return jnp.where(has_zero, 0, 3 / jnp.where(has_zero[None], 1, 1 / jnp.where(terms <= 0, 1, terms)).sum(0))
