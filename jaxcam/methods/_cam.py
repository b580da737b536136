"""The named methods at a layer: CAM, and the gradient-weighted ones, each a rule for `jaxcam.gradient_cam`.

Every method is `method(cut, image, target=None, [key], *, options)` on **one example without a batch axis**. It returns
the map at the layer's resolution, `[*spatial]`, at least 0. `target=None` is the class of the largest output. For more
examples, classes or keys use `jax.vmap`: the work that they share is done once.

    >>> import functools, jax, jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> jaxcam.smooth_grad_cam_pp(cut, image, None, jax.random.key(0), n_samples=5, std=0.3).shape
    (16, 16)
    >>> ten = jax.vmap(functools.partial(jaxcam.grad_cam_pp, cut, image))(jax.numpy.arange(10))
    >>> ten.shape
    (10, 16, 16)

All methods but CAM and Score-CAM are gradient-weighted, and take the options of `jaxcam.gradient_cam`. Each can be
smoothed by noise (`n_samples`, `std`, and a key), as Smooth Grad-CAM++ smooths Grad-CAM++, or grown until its standard
error is small (`standard_error`). Each takes `Cuts` of several layers.

    >>> several = jaxcam.cut(jaxcam.digits(), ["block2_conv2", "block3_conv2"])
    >>> {layer: saliency.shape for layer, saliency in jaxcam.layer_cam(several, image).items()}
    {'block2_conv2': (32, 32), 'block3_conv2': (16, 16)}
    >>> jaxcam.grad_cam(cut, image, 3, jax.random.key(0), n_samples=8, std=0.2).shape
    (16, 16)

The methods are jitted; inside another `jit` they are part of it. Options are static, except `std`: bind them with
`functools.partial` before `jit`. Values are checked only outside `jit`: there a NaN image or a target out of range
raises an error, and under `jit` such a target gives a map of NaN.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._base.types import Image, Target
from jaxcam.cutting import Cut, Cuts
from jaxcam.derivatives import certify
from jaxcam.formulas import compat as peers
from jaxcam.formulas import maps, scores, weights
from jaxcam.methods._activation import activation_and_target
from jaxcam.methods._call import explanation_method
from jaxcam.methods._gradient_cam import compute_gradient_cam, compute_plus_plus, gradient_method, plus_plus_method
from jaxcam.methods._locally_constant import message_of_zero_gradient, refuse_locally_constant
from jaxcam.methods._types import Key, Maps

# The names that the papers print.
METHOD_TITLES = {
    "cam": "CAM",
    "grad_cam": "Grad-CAM",
    "grad_cam_plus": "Grad-CAM+",
    "grad_cam_pp": "Grad-CAM++",
    "smooth_grad_cam_pp": "Smooth Grad-CAM++",
    "counterfactual_grad_cam": "Counterfactual Grad-CAM",
    "xgrad_cam": "XGrad-CAM",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "score_cam": "Score-CAM",
}


@explanation_method(
    score=scores.logit,
    undefined="the head differs from location to location, where CAM is not defined: Grad-CAM is",
)
def cam(cut: Cut, image: Image, target: Target = None, *, select: maps.Select | None = None) -> jax.Array:
    """CAM: relu(sum_k w_k A^k), w_k the weights of the linear layer after global average pooling.

    Args:
      cut: a network whose head is global average pooling and one linear layer, such as `VGG(..., top="average")` cut
        at its last convolution.
      image: one example, floats.
      target: the class; None for the one with the largest output.
      select: as in `jaxcam.select`.

    Returns:
      `[*spatial]`. The paper has no relu. Here, as in the other methods, negative sums are zero. Under jit
      the map is NaN if the head is affine but differs from location to location (a flattened activation and a dense
      layer).

    Raises:
      ValueError: the head is not affine in A, or is locally constant; outside jit, it differs from location to
        location. CAM is not defined for it. Grad-CAM is.

    Zhou et al., "Learning deep features for discriminative localization", CVPR 2016, equations 1 and 2.

    Example:
      >>> import jaxcam
      >>> model = jaxcam.vgg_digits(top="average")
      >>> jaxcam.cam(jaxcam.cut(model, "block3_conv2"), jax.numpy.ones([64, 64, 3]), 7).shape
      (16, 16)
    """
    A, target, in_range = activation_and_target(cut, image, target)

    def u(A):
        return scores.logit(cut.head(cut.params, A, image), target)

    certificate = certify(u, A)
    if certificate.locally_constant:
        raise ValueError(message_of_zero_gradient(certificate, f"the activation at {cut.layer!r}"))
    if not certificate.affine_everywhere:
        raise ValueError(
            "CAM needs a head that is global average pooling and one linear layer: "
            f"the head after {cut.layer or 'this cut'!r} is not affine. Grad-CAM extends CAM to any head"
        )
    value, gradient = jax.value_and_grad(u)(A)
    first = gradient[(slice(0, 1),) * (A.ndim - 1)]
    uniform = jnp.abs(gradient - first).max() <= 1e-3 * jnp.abs(first).max()
    is_defined = in_range & uniform & ~jnp.isnan(value)
    return jnp.where(is_defined, maps.weighted_sum(A, weights.cam(gradient), select=select), jnp.nan)


@gradient_method
def grad_cam(cut: Cut | Cuts, image: Image, target: Target = None, key: Key = None, **options: Any) -> Maps:
    """Grad-CAM: relu(sum_k w_k A^k), w_k the mean over space of the derivative of Y.

    Arguments, options, result and errors are those of `jaxcam.gradient_cam`.

    Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization", ICCV 2017,
    equations 1 and 2.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.grad_cam(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (16, 16)
    """
    return compute_gradient_cam(cut, image, target, key, weigh=lambda A, Y1: weights.grad_cam(Y1), order=1, **options)


@gradient_method
def grad_cam_plus(cut: Cut | Cuts, image: Image, target: Target = None, key: Key = None, **options: Any) -> Maps:
    """Grad-CAM+: w_k = mean over space of relu(Y1); the simpler rule that Grad-CAM++ is compared with.

    Arguments, options, result and errors are those of `jaxcam.gradient_cam`.

    Lerma & Lucas, "Grad-CAM++ is equivalent to Grad-CAM with positive gradients", 2022.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.grad_cam_plus(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (16, 16)
    """
    return compute_gradient_cam(
        cut, image, target, key, weigh=lambda A, Y1: weights.grad_cam_plus(Y1), order=1, **options
    )


@plus_plus_method
def grad_cam_pp(
    cut: Cut | Cuts,
    image: Image,
    target: Target = None,
    key: Key = None,
    *,
    link: str = "exp",
    numerator: str = "second",
    alpha: str = "defined",
    compat: str | None = None,
    **options: Any,
) -> tuple[Maps, Any]:
    """Grad-CAM++: w_k = sum over space of alpha * relu(Y1), alpha = Y2 / (2 Y2 + S_k Y3), S_k = sum over space of A^k.

    Arguments, options, result and errors are those of `jaxcam.gradient_cam`, with another default and three more
    options.

    Args:
      link: Y = e^u for "exp", u for "identity". The default is "exp".
      numerator: "second" has Y2 in alpha's numerator; "first" has Y1, as equation 7 of the Smooth Grad-CAM++ paper is
        printed. The maps differ.
      alpha: "defined" for the equation as it is, "bounded" for alphas clipped to [0, 1/2], their range under the
        paper's assumptions (the logit of a relu network, A >= 0). Elsewhere the denominator passes through zero and few
        locations may decide the map: the first call with such alphas logs one line on the logger "jaxcam", and
        `jaxcam.diagnose` shows what bounding changes. "bounded" needs numerator="second".
      compat: compute the map as another library does, with its deviations and its normalization, to explain a
        difference: one of "pytorch-grad-cam", "tf-keras-vis", "xplique", "torch-cam", "original"; see `jaxcam.compat`.
        It allows no other option but `score`.

    Chattopadhay et al., "Grad-CAM++: improved visual explanations for deep convolutional networks", WACV 2018,
    equations 5, 10 and 11.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> jaxcam.grad_cam_pp(cut, image, score=jaxcam.scores.log_softmax).shape
      (16, 16)
    """
    if compat is not None:
        if (
            options.keys() - {"score"}
            or key is not None
            or (link, numerator, alpha)
            != (
                "exp",
                "second",
                "defined",
            )
        ):
            raise ValueError(f"compat={compat!r} is what that library computes: it goes with no option but score")
        return _grad_cam_pp_of_peer(compat, cut, image, target, options.get("score", scores.logit)), None
    return compute_plus_plus(cut, image, target, key, numerator=numerator, alpha=alpha, link=link, **options)


def _grad_cam_pp_of_peer(peer, cut, image, target, score):
    if isinstance(cut, Cuts):
        raise TypeError(f"compat={peer!r} takes one layer: the cut is at {', '.join(cut.layers)}")
    A, target, in_range = activation_and_target(cut, image, target)

    def score_at(points):
        return score(cut.head(cut.params, points[cut.layer], image), target)

    refuse_locally_constant(score_at, {cut.layer: A})
    u, g = jax.value_and_grad(lambda A: score_at({cut.layer: A}))(A)
    return jnp.where(in_range, peers.grad_cam_pp(peer, A, u, g), jnp.nan)


@plus_plus_method
def smooth_grad_cam_pp(
    cut: Cut | Cuts,
    image: Image,
    target: Target = None,
    key: Key = None,
    *,
    n_samples: int = 5,
    std: jax.Array | float = 0.3,
    link: str = "exp",
    numerator: str = "second",
    alpha: str = "defined",
    **options: Any,
) -> tuple[Maps, Any]:
    """Smooth Grad-CAM++: Grad-CAM++ with D_p, the mean over noisy inputs of Y_p, instead of Y_p.

    alpha = D2 / (2 D2 + S_k D3); w_k = sum over space of alpha * relu(D1); S_k and the A of the map are those of the
    clean image. Sample m enters the means with its own factor e^(u_m), as in the paper.

    Arguments, options, result and errors are those of `jaxcam.grad_cam_pp` without `compat`, with other defaults:

      n_samples: number of noisy copies; 0 for no noise, which is Grad-CAM++. The default is 5.
      std: standard deviation of the noise, as a share of the image's range. The default is 0.3.

    Omeiza et al., "Smooth Grad-CAM++: an enhanced inference level visualization technique for deep convolutional neural
    network models", 2019, equations 5 to 8.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> jaxcam.smooth_grad_cam_pp(cut, image, None, jax.random.key(0), n_samples=20, std=0.15).shape
      (16, 16)
    """
    return compute_plus_plus(
        cut, image, target, key, numerator=numerator, alpha=alpha, n_samples=n_samples, std=std, link=link, **options
    )


@gradient_method
def counterfactual_grad_cam(
    cut: Cut | Cuts, image: Image, target: Target = None, key: Key = None, **options: Any
) -> Maps:
    """Counterfactual Grad-CAM: Grad-CAM of the negated derivative: the regions that speak against the class.

    Arguments, options, result and errors are those of `jaxcam.gradient_cam`.

    Selvaraju et al., "Grad-CAM", ICCV 2017, "Counterfactual explanations".

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.counterfactual_grad_cam(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (16, 16)
    """
    return compute_gradient_cam(
        cut, image, target, key, weigh=lambda A, Y1: weights.counterfactual_grad_cam(Y1), order=1, **options
    )


@gradient_method
def xgrad_cam(cut: Cut | Cuts, image: Image, target: Target = None, key: Key = None, **options: Any) -> Maps:
    """XGrad-CAM: w_k = sum over space of (A^k / S_k) Y1, S_k = sum over space of A^k.

    Arguments, options, result and errors are those of `jaxcam.gradient_cam`.

    Fu et al., "Axiom-based Grad-CAM: towards accurate visualization and explanation of CNNs", BMVC 2020.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.xgrad_cam(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (16, 16)
    """
    return compute_gradient_cam(cut, image, target, key, weigh=weights.xgrad_cam, order=1, **options)


@gradient_method
def hires_cam(cut: Cut | Cuts, image: Image, target: Target = None, key: Key = None, **options: Any) -> Maps:
    """HiResCAM: relu(sum_k Y1 A^k), location by location.

    Arguments, options, result and errors are those of `jaxcam.gradient_cam`.

    Draelos & Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks",
    2020.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.hires_cam(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (16, 16)
    """
    return compute_gradient_cam(cut, image, target, key, weigh=lambda A, Y1: weights.hires_cam(Y1), order=1, **options)


@gradient_method
def layer_cam(cut: Cut | Cuts, image: Image, target: Target = None, key: Key = None, **options: Any) -> Maps:
    """LayerCAM: relu(sum_k relu(Y1) A^k), location by location; made for layers before the last.

    Arguments, options, result and errors are those of `jaxcam.gradient_cam`.

    Jiang et al., "LayerCAM: exploring hierarchical class activation maps for localization", TIP 2021.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> jaxcam.layer_cam(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image).shape
      (16, 16)
    """
    return compute_gradient_cam(cut, image, target, key, weigh=lambda A, Y1: weights.layer_cam(Y1), order=1, **options)
