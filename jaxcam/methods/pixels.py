"""Methods in the input's space: they go through the whole model, and their maps have the image's resolution.

Every one is `method(cut, image, target=None, *, options)` on one example, as in `jaxcam.methods`, and where the cut is
does not matter to any but `guided_grad_cam`. They return an attribution for every value of the image, `[*spatial c]`,
with its sign; `saliency` returns a map.

    >>> import jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> jaxcam.guided_backprop(cut, image).shape, jaxcam.saliency(cut, image).shape
    ((64, 64, 3), (64, 64))

The score is differentiated as it is, Y = u: a link would scale the result and no more, but for integrated gradients,
where it is an option.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base import checks
from jaxcam._base.numerics import even_chunks
from jaxcam._base.types import Image, Score, Target
from jaxcam.cutting import Cut, resolve_target
from jaxcam.formulas import maps, scores
from jaxcam.methods._average import average_maps
from jaxcam.methods._call import method
from jaxcam.methods._cam import grad_cam
from jaxcam.perturbations import noise
from jaxcam.tracing import for_loops, rules

# The options of an average, for the methods that hand theirs on.
_AVERAGED = average_maps(lambda cut, image, target: image)
LINKS = {"identity": lambda u: u, "exp": jnp.exp}


@method()
def input_gradient(cut: Cut, image: Image, target: Target = None, *, score: Score = scores.logit) -> jax.Array:
    """The gradient of the score in the image: du/dx.

    Args:
      cut: a `Cut`, at any layer.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.

    Returns:
      `[*spatial c]`, with its sign.

    Raises:
      TypeError: an image of integers.
      ValueError: an image with NaN or infinity, a target out of range, an option that is not known.

    Baehrens et al., "How to explain individual classification decisions", JMLR 2010, equation 2.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.input_gradient(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image, 3).shape
      (64, 64, 3)
    """
    gradient, _ = _gradient(_outputs(cut), jnp.asarray(image), target, score)
    return gradient


@method()
def saliency(cut: Cut, image: Image, target: Target = None, *, score: Score = scores.logit) -> jax.Array:
    """The class saliency map: the largest |du/dx| among the channels.

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
    gradient, _ = _gradient(_outputs(cut), jnp.asarray(image), target, score)
    return jnp.abs(gradient).max(-1)


@method()
def guided_backprop(cut: Cut, image: Image, target: Target = None, *, score: Score = scores.logit) -> jax.Array:
    """Guided backprop: du/dx, with a gradient g passing each relu of x as g where x > 0 and g > 0.

    Args:
      cut: a `Cut`, at any layer, of a model with relus; `jaxcam.rules` says what counts as one.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output.
      score: `(outputs, target) -> u`; see `jaxcam.scores`. It keeps its own gradient.

    Returns:
      `[*spatial c]`, with its sign.

    Raises:
      TypeError, ValueError: as `input_gradient`; and a ValueError for a model without a relu.

    Springenberg et al., "Striving for simplicity: the all convolutional net", ICLR 2015 workshop, section 3.4.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.guided_backprop(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (64, 64, 3)
    """
    gradient, _ = _gradient(rules.guided(_outputs(cut)), jnp.asarray(image), target, score)
    return gradient


@method()
def deconvnet(cut: Cut, image: Image, target: Target = None, *, score: Score = scores.logit) -> jax.Array:
    """The deconvnet: du/dx, with a gradient g passing each relu as relu(g).

    Args:
      cut: a `Cut`, at any layer, of a model with relus; `jaxcam.rules` says what counts as one.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output.
      score: `(outputs, target) -> u`; see `jaxcam.scores`. It keeps its own gradient.

    Returns:
      `[*spatial c]`, with its sign.

    Raises:
      TypeError, ValueError: as `input_gradient`; and a ValueError for a model without a relu.

    Zeiler & Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 2.1.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.deconvnet(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (64, 64, 3)
    """
    gradient, _ = _gradient(rules.deconvnet(_outputs(cut)), jnp.asarray(image), target, score)
    return gradient


@method(traced=("baseline",))
def integrated_gradients(
    cut: Cut,
    image: Image,
    target: Target = None,
    *,
    baseline: jax.Array | float | None = None,
    steps: int = 50,
    score: Score = scores.logit,
    link: str = "identity",
    batch_size: int | None = None,
) -> jax.Array:
    """Integrated gradients: (x - b) times the mean of dY/dx on the straight way from the baseline b to x.

    Their sum is Y(x) - Y(b), up to the error of the integral: the gradient is taken at the nodes of Gauss and Legendre.

    Args:
      cut: a `Cut`, at any layer.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output.
      baseline: an image, or one number for all its values; 0 where absent. It may be traced.
      steps: how many nodes.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.
      link: Y = u for "identity", e^u for "exp": with `scores.log_softmax` that is the probability. Of a large logit it
        overflows.
      batch_size: the memory knob: nodes at a time; 16 where absent, and 1 on a CPU, which one image fills.

    Returns:
      `[*spatial c]`, with its sign.

    Raises:
      TypeError, ValueError: as `input_gradient`; and for a baseline of another shape.

    Sundararajan et al., "Axiomatic attribution for deep networks", ICML 2017, equation 1.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> jaxcam.integrated_gradients(cut, image, baseline=0.5, steps=20).shape
      (64, 64, 3)
    """
    checks.check_count("steps", steps, at_least=1)
    if link not in LINKS:
        raise ValueError(f"link is {link!r}: choose one of {', '.join(LINKS)}")
    x, f = jnp.asarray(image), _outputs(cut)
    start = jnp.asarray(0 if baseline is None else baseline).astype(x.dtype)
    if start.shape not in ((), x.shape):
        raise ValueError(f"baseline has shape {start.shape}: {x.shape} is wanted, as the image, or one number")
    start = jnp.broadcast_to(start, x.shape)
    target, valid = resolve_target(f(x), target)

    def gradient(node):
        at = start + node.astype(x.dtype) * (x - start)
        return jax.grad(lambda x: LINKS[link](score(f(x), target)))(at).astype(wide)

    def add(total, some):
        nodes, shares = some
        if len(nodes) == 1:
            return total + shares[0] * gradient(nodes[0]), None
        return total + jnp.tensordot(shares, jax.vmap(gradient)(nodes), 1, precision="highest"), None

    wide = jnp.float32 if jnp.finfo(x.dtype).bits < 32 else x.dtype
    size = even_chunks(steps, batch_size or (1 if jax.default_backend() == "cpu" else noise.SAMPLES_AT_A_TIME))
    nodes, shares = (jnp.asarray(each, wide).reshape(-1, size) for each in _nodes(steps, -steps % size))
    mean, _ = jax.lax.scan(for_loops(add), jnp.zeros(x.shape, wide), (nodes, shares))
    return _or_nan(((x - start).astype(wide) * mean).astype(x.dtype), valid)


@method(options_of=_AVERAGED)
def smooth_grad(
    cut: Cut,
    image: Image,
    target: Target = None,
    key: jax.Array | None = None,
    *,
    score: Score = scores.logit,
    **options: Any,
) -> Any:
    """SmoothGrad: the mean of du/dx over noisy copies of the image.

    Args:
      cut: a `Cut`, at any layer.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output on the clean image.
      key: a `jax.random.key`.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.
      options: of the noise, `n_samples=50`, `std=0.15` and more, as `jaxcam.average_maps` has them.

    Returns:
      `[*spatial c]`, with its sign; with standard_error=, a `Smoothed`.

    Raises:
      TypeError, ValueError: as `input_gradient`; and for noise that cannot be drawn.

    Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017, section 3.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> jaxcam.smooth_grad(cut, image, 3, jax.random.key(0), n_samples=4).shape
      (64, 64, 3)
    """
    of = functools.partial(input_gradient, score=score)
    return average_maps(of, statistic="mean")(cut, image, target, key, **options)


@method(options_of=_AVERAGED)
def var_grad(
    cut: Cut,
    image: Image,
    target: Target = None,
    key: jax.Array | None = None,
    *,
    score: Score = scores.logit,
    **options: Any,
) -> Any:
    """VarGrad: the variance of du/dx over noisy copies of the image.

    Args, options and errors: as `smooth_grad`; `[*spatial c]`, at least 0.

    Adebayo et al., "Local explanation methods for deep neural networks lack sensitivity to parameter values", 2018.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> jaxcam.var_grad(cut, image, 3, jax.random.key(0), n_samples=4).shape
      (64, 64, 3)
    """
    of = functools.partial(input_gradient, score=score)
    return average_maps(of, statistic="variance")(cut, image, target, key, **options)


@method(options_of=_AVERAGED)
def square_grad(
    cut: Cut,
    image: Image,
    target: Target = None,
    key: jax.Array | None = None,
    *,
    score: Score = scores.logit,
    **options: Any,
) -> Any:
    """SmoothGrad-Squared: the mean of (du/dx)^2 over noisy copies of the image.

    Args, options and errors: as `smooth_grad`; `[*spatial c]`, at least 0.

    Hooker et al., "A benchmark for interpretability methods in deep neural networks", NeurIPS 2019.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> jaxcam.square_grad(cut, image, 3, jax.random.key(0), n_samples=4).shape
      (64, 64, 3)
    """
    of = functools.partial(input_gradient, score=score)
    return average_maps(of, statistic="square")(cut, image, target, key, **options)


@method(options_of=_AVERAGED)
def guided_grad_cam(
    cut: Cut,
    image: Image,
    target: Target = None,
    key: jax.Array | None = None,
    *,
    method: Callable[..., jax.Array] = grad_cam,
    score: Score = scores.logit,
    n_samples: int = 0,
    std: jax.Array | float = 0.15,
    **options: Any,
) -> Any:
    """Guided Grad-CAM: guided backprop times a class activation map at the image's resolution.

    Smoothed, it is the product of the two averages over one noise: of guided backprop, and of the map's derivatives
    where the method averages derivatives (`n_samples` is its option, as for every gradient-weighted method), or else of
    its maps. (`jaxcam.average_maps(jaxcam.guided_grad_cam)` is the average of the products.)

    Args:
      cut: a `Cut`, at the layer of the map.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output on the clean image.
      key: of the noise; also for a method that draws noise of its own.
      method: that makes the map: one of `jaxcam.methods`, or one with its options,
        `functools.partial(jaxcam.grad_cam_pp, link="exp")`. The map is enlarged bilinearly.
      score: `(outputs, target) -> u`, for both factors where the method has a score and none of its own is given.
      n_samples: noisy copies for both factors; 0 for none.
      std: of the noise for both factors.
      options: of the noise, as `jaxcam.average_maps` has them, but for standard_error.

    Returns:
      `[*spatial c]`, with its sign; `[m *spatial c]` for a method that gives m maps.

    Raises:
      TypeError, ValueError: as `guided_backprop` and the method.

    Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization", ICCV 2017,
    section 3.3.

    Example:
      >>> import functools, jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> jaxcam.guided_grad_cam(cut, image, 3, method=jaxcam.grad_cam_pp).shape
      (64, 64, 3)
      >>> jaxcam.guided_grad_cam(cut, image, 3, jax.random.key(0), n_samples=4, std=0.1).shape
      (64, 64, 3)
    """
    if options.get("standard_error") is not None:
        raise ValueError("a product of two averages has no standard_error here: average_maps(guided_grad_cam) has")
    x = jnp.asarray(image)
    target, _ = resolve_target(_outputs(cut)(x), target)
    taken = inspect.signature(method).parameters
    own = isinstance(method, functools.partial) and "score" in method.keywords
    scored = {"score": score} if "score" in taken and not own else {}
    guided = functools.partial(guided_backprop, score=score)
    if n_samples == 0:
        gradient = guided(cut, x, target)
        found = method(cut, x, target, *(() if key is None or "key" not in taken else (key,)), **scored)
    else:
        drawn = {"n_samples": n_samples, "std": std, **options}
        gradient = average_maps(guided)(cut, x, target, key, **drawn)
        if "n_samples" in taken:
            found = method(cut, x, target, key, **scored, **drawn)
        else:
            of = functools.partial(method, **scored)
            found = average_maps(of)(cut, x, target, key, **drawn)
    if found.shape == x.shape:
        raise ValueError(f"the method gives {list(found.shape)}, as the image has: the map of a layer is wanted")
    enlarged = maps.resize(found, x.shape[:-1])[..., None].astype(x.dtype)
    return gradient.reshape((1,) * (enlarged.ndim - x.ndim) + x.shape) * enlarged


def _outputs(cut):
    def model(x):
        return cut.head(cut.params, cut.features(cut.params, x), x)

    return model


def _gradient(f, x, target, score):
    """The gradient of the score of f in x, NaN for a target out of range; and the target."""
    outputs, pull = jax.vjp(f, x)
    target, valid = resolve_target(outputs, target)
    # Outputs beside the score's may be integers.
    slope = jax.grad(score, allow_int=True)(outputs, target)
    (gradient,) = pull(slope)
    return _or_nan(gradient, valid), target


def _nodes(steps, padding):
    """Nodes and weights of Gauss and Legendre on 0..1; the padding has no weight."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return np.pad((nodes + 1) / 2, (0, padding)), np.pad(weights / 2, (0, padding))


def _or_nan(attribution, valid):
    return jnp.where(valid, attribution, jnp.nan)
