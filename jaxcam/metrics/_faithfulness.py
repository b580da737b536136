"""Does the model see what a map shows? What it says of the image that the map masks, and measures made of that.

>>> import jax.numpy as jnp
>>> import jaxcam
>>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
>>> image, _ = jaxcam.pretrained.digits_canvas(1)
>>> Y = masked_score(cut, image, jnp.ones([1, 1]), 3)
>>> O = masked_score(cut, image, jaxcam.grad_cam_pp(cut, image, 3), 3)
>>> float(average_drop(Y, Y)), bool(0 <= average_drop(Y, O) <= 1)
(0.0, True)

Y is the class's probability on the image, O that on the image masked by the map; all ones masks nothing. A masked image
is one that the model was never trained on: these measure the model on such images as much as the map. Each can be
gamed, and its docstring says how: print controls beside the methods, all ones and a centre Gaussian among them.

`average_drop`, `increase`, `average_gain`, `win` and `adcc` take arrays of any one shape; the others one image, for
`jax.vmap`. All are pure functions, finite on any finite input.
"""

# ruff: noqa: E741  # Y and O are the papers' letters

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._base import checks
from jaxcam._base.numerics import as_floats
from jaxcam.cutting import Cut, activations, check_cut, check_target
from jaxcam.formulas import scores
from jaxcam.perturbations import as_mask, masked


def masked_score(
    cut: Cut,
    image: jax.Array,
    saliency: jax.Array,
    target: jax.Array | int,
    *,
    score: Callable[[Any, Any], jax.Array] = scores.probability,
    baseline: jax.Array | float = 0.0,
) -> jax.Array:
    """The score of the image masked by a map: score(model(masked(image, as_mask(saliency))), target).

    A map of ones masks nothing: with it this is Y, the score of the image, by the same computation.

    Args:
      cut: a `Cut`, at any layer: the whole model is run.
      image: one example `[*spatial c]`, floats.
      saliency: map `[*spatial]`, at any resolution.
      target: the class; None is refused, as the masked image may have another.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.
      baseline: as in `masked`.

    Raises:
      TypeError, ValueError: as `jaxcam.grad_cam_pp` and `masked`; no target.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, section 4.1: the "explanation map" is the image times the map.

    Example:
      >>> import jaxcam
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> image, _ = jaxcam.pretrained.digits_canvas(1)
      >>> round(float(masked_score(cut, image, jnp.ones([16, 16]), 3)), 2)
      0.8...
    """
    check_cut(cut)
    if target is None:
        raise TypeError("target is None: give the class of the whole image, as the masked one may have another")
    image = checks.checked_image(image)
    check_target(cut, image, target, score)
    _, outputs = activations(cut, masked(image, as_mask(saliency, image.shape[:-1]), baseline=baseline))
    return score(outputs, target)


def average_drop(Y: jax.Array, O: jax.Array) -> jax.Array:
    """max(0, Y - O) / Y of each image, in 0..1, and 0 where Y is 0; lower is better.

    The paper's Average Drop % is 100 times the mean over images.

    Gamed by masking nothing: all ones has a drop of 0.

    Args:
      Y: probability of the class on the image.
      O: the same on the masked image.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, section 4.1.

    Example:
      >>> average_drop(jnp.array([0.8, 0.5, 0.0]), jnp.array([0.2, 0.9, 0.0])).tolist()
      [0.75, 0.0, 0.0]
    """
    Y, O = as_floats(Y), as_floats(O)
    return jnp.where(Y == 0, 0, jax.nn.relu(Y - O) / jnp.where(Y == 0, 1, Y))


def increase(Y: jax.Array, O: jax.Array) -> jax.Array:
    """1 where Y < O, else 0; higher is better.

    The paper's "% increase in confidence" is 100 times the mean over images.

    Gamed by masking next to nothing: what little changes raises the score about as often as not, however small the
    rise.

    Args:
      Y: probability of the class on the image.
      O: the same on the masked image.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, section 4.1.

    Example:
      >>> increase(jnp.array([0.8, 0.5, 0.5]), jnp.array([0.2, 0.9, 0.5])).tolist()
      [0.0, 1.0, 0.0]
    """
    Y, O = as_floats(Y), as_floats(O)
    return jnp.where(Y < O, 1, 0).astype(jnp.result_type(Y, O))


def average_gain(Y: jax.Array, O: jax.Array) -> jax.Array:
    """max(0, O - Y) / (1 - Y) of each image, in 0..1, and 0 where Y is 1; higher is better.

    `average_drop` from the other side: of what could still be gained, the share that is. The paper's Average Gain % is
    100 times the mean over images.

    Gamed by a map that is optimised for it: one that masks the image into another that the model is surer of.

    Args:
      Y: probability of the class on the image.
      O: the same on the masked image.

    Zhang et al., "Opti-CAM: optimizing saliency maps for interpretability", 2023.

    Example:
      >>> average_gain(jnp.array([0.5, 0.5, 1.0]), jnp.array([0.75, 0.2, 1.0])).tolist()
      [0.5, 0.0, 0.0]
    """
    Y, O = as_floats(Y), as_floats(O)
    return jnp.where(Y == 1, 0, jax.nn.relu(O - Y) / jnp.where(Y == 1, 1, 1 - Y))


def win(drop: jax.Array, other_drop: jax.Array) -> jax.Array:
    """1 where a method's drop is lower than another's, 1/2 where they are equal, else 0; higher is better.

    The paper's Win % is 100 times the mean over images; it does not say what equal drops count. Two drops of 0 are
    common, as every rise is one, and with halves for both the two methods' shares add up to 1.

    Gamed as `average_drop` is; and it depends on the method that one is compared with.

    Args:
      drop: `average_drop` of the method.
      other_drop: that of the other, on the same images.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, section 4.1.

    Example:
      >>> win(jnp.array([0.1, 0.0, 0.3]), jnp.array([0.2, 0.0, 0.2])).tolist()
      [1.0, 0.5, 0.0]
    """
    drop, other_drop = as_floats(drop), as_floats(other_drop)
    return jnp.where(drop < other_drop, 1, jnp.where(drop == other_drop, 0.5, 0)).astype(
        jnp.result_type(drop, other_drop)
    )


def coherency(mask: jax.Array, mask_of_masked: jax.Array) -> jax.Array:
    """(pearson + 1) / 2 of the map of the image and that of the masked image, in 0..1; higher is better.

    A constant has no correlation: 1 if both are the same constant, else 1/2, which is that of maps that have nothing to
    do with each other.

    Gamed by a map that does not look at the image: a fixed one has 1.

    Args:
      mask: map of the image as a mask `[h w]`; see `as_mask`.
      mask_of_masked: the same method's map of the image masked by it, and of the same class, as a mask `[h w]`.

    Poppi et al., "Revisiting the evaluation of class activation mapping for explainability: a novel metric and
    experimental analysis", CVPR workshops 2021.

    Example:
      >>> mask = jnp.array([[0.0, 1.0], [0.5, 0.5]])
      >>> float(coherency(mask, mask)), float(coherency(mask, 1 - mask)), float(coherency(mask, jnp.ones([2, 2])))
      (1.0, 0.0, 0.5)
    """
    a, b = as_floats(mask), as_floats(mask_of_masked)
    if a.shape != b.shape:
        raise ValueError(f"the masks have shapes {a.shape} and {b.shape}: one shape is wanted; see as_mask")
    constant, same = (a.max() == a.min()) | (b.max() == b.min()), (a == b).all()
    a, b = a - a.mean(), b - b.mean()
    # A product of roots: the variances' own product may underflow.
    spread = jnp.sqrt(jnp.where(constant, 1, (a * a).sum())) * jnp.sqrt(jnp.where(constant, 1, (b * b).sum()))
    pearson = jnp.clip((a * b).sum() / jnp.where(spread == 0, 1, spread), -1, 1)
    return jnp.where(constant, jnp.where(same, 1, 0.5), (pearson + 1) / 2)


def complexity(mask: jax.Array) -> jax.Array:
    """The mean of a mask, in 0..1; lower is better.

    Gamed by showing nothing: a map of zeros has 0.

    Args:
      mask: map as a mask `[h w]`; see `as_mask`.

    Poppi et al., "Revisiting the evaluation of class activation mapping for explainability: a novel metric and
    experimental analysis", CVPR workshops 2021, as the map's L1 norm, here divided by the number of pixels.

    Example:
      >>> float(complexity(jnp.array([[0.0, 1.0], [0.5, 0.5]])))
      0.5
    """
    # Its distance from 1, so that all ones has 1 and not what rounding leaves of a sum that is divided.
    return 1 - (1 - as_floats(mask)).mean()


def adcc(coherency: jax.Array, complexity: jax.Array, average_drop: jax.Array) -> jax.Array:
    """The harmonic mean 3 / (1/coherency + 1/(1 - complexity) + 1/(1 - drop)), in 0..1; higher is better.

    0 where any of the three terms is, as the harmonic mean's limit: all ones, of complexity 1, has 0.

    Gamed by a small fixed spot where objects usually are: coherent, of little complexity, and often enough to keep the
    class.

    Args:
      coherency: of each image; see `coherency`.
      complexity: of its map; see `complexity`.
      average_drop: of its masked image; see `average_drop`.

    Poppi et al., "Revisiting the evaluation of class activation mapping for explainability: a novel metric and
    experimental analysis", CVPR workshops 2021. The mean of it over images and it of the three means are two numbers:
    say which.

    Example:
      >>> adcc(jnp.array([1.0, 1.0]), jnp.array([0.5, 1.0]), jnp.array([0.5, 0.0])).tolist()
      [0.6..., 0.0]
    """
    coherency, complexity, average_drop = as_floats(coherency), as_floats(complexity), as_floats(average_drop)
    terms = jnp.stack([coherency, 1 - complexity, 1 - average_drop])
    zero = (terms <= 0).any(0)
    return jnp.where(zero, 0, 3 / jnp.where(zero[None], 1, 1 / jnp.where(terms <= 0, 1, terms)).sum(0))
