"""Weights from an activation A `[*spatial k]` and derivatives Y1, Y2, Y3 of its shape: a rule for each method.

A rule returns a weight for each channel, `[k]`, or for each neuron, `[*spatial k]`.

>>> import jax.numpy as jnp
>>> A, Y1 = jnp.ones([2, 2, 1]), jnp.full([2, 2, 1], 0.5)
>>> grad_cam(Y1).tolist()
[0.5]
>>> round(float(grad_cam_pp(A, Y1, Y1**2, Y1**3)[0]), 6)
0.5
"""

import jax

from jaxcam._base.numerics import Scaled, relu, safe_divide, times_power_of_two

NUMERATORS = ("second", "first")
ALPHAS = ("defined", "bounded")
ALPHA_RANGE = (0.0, 0.5)
# An alpha that is outside the range by less is taken to be in it: the denominator is a rounded sum.
ALPHA_ROUNDING = 1e-3
# Those of the powers of two that Y2 and Y3 are multiplied by.
Exponents = tuple[jax.Array | int, jax.Array | int]


def cam(Y1: jax.Array) -> jax.Array:
    """w_k = sum over space of Y1: the weights of the linear layer, where Y is linear in the global average of A.

    Zhou et al., "Learning deep features for discriminative localization", CVPR 2016, equation 2.
    """
    return Y1.sum(_space(Y1))


def grad_cam(Y1: jax.Array) -> jax.Array:
    """w_k = mean over space of Y1.

    Selvaraju et al., "Grad-CAM", ICCV 2017, equation 1.
    """
    return Y1.mean(_space(Y1))


def counterfactual_grad_cam(Y1: jax.Array) -> jax.Array:
    """w_k = mean over space of -Y1.

    Selvaraju et al., "Grad-CAM", ICCV 2017, "Counterfactual explanations".
    """
    return -grad_cam(Y1)


def grad_cam_plus(Y1: jax.Array) -> jax.Array:
    """w_k = mean over space of relu(Y1): Grad-CAM++ with alpha the same everywhere.

    Lerma & Lucas, "Grad-CAM++ is equivalent to Grad-CAM with positive gradients", 2022.
    """
    return relu(Y1).mean(_space(Y1))


def xgrad_cam(A: jax.Array, Y1: jax.Array) -> jax.Array:
    """w_k = sum over space of (A^k / S_k) Y1, with S_k = sum over space of A^k; zero where S_k is zero.

    Fu et al., "Axiom-based Grad-CAM", BMVC 2020.
    """
    A = A.astype(Y1.dtype)
    # S_k is the same at every location, so it is divided by once, after the sum.
    return safe_divide((A * Y1).sum(_space(A)), A.sum(_space(A)))


def hires_cam(Y1: jax.Array) -> jax.Array:
    """w = Y1 itself, `[*spatial k]`: nothing is averaged.

    Draelos & Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks",
    2020.
    """
    return Y1


def layer_cam(Y1: jax.Array) -> jax.Array:
    """w = relu(Y1), `[*spatial k]`.

    Jiang et al., "LayerCAM: exploring hierarchical class activation maps for localization", TIP 2021.
    """
    return relu(Y1)


def score_cam(scores: jax.Array) -> jax.Array:
    """w = softmax over channels of the scores `[k]` of the image masked by each channel.

    The paper subtracts the score of a baseline from each of them. It is the same for every channel, so it cancels in
    the softmax.

    Wang et al., "Score-CAM: score-weighted visual explanations for convolutional neural networks", CVPR workshops 2020,
    definition 3 and algorithm 1.
    """
    return jax.nn.softmax(scores)


def grad_cam_pp(
    A: jax.Array,
    Y1: jax.Array,
    Y2: jax.Array,
    Y3: jax.Array,
    *,
    numerator: str = "second",
    alpha: str = "defined",
    exponents: Exponents = (0, 0),
) -> jax.Array:
    """w_k = sum over space of alpha * relu(Y1), with alpha = Y2 / (2 Y2 + S_k Y3) and S_k = sum over space of A^k.

    alpha is zero where its denominator is zero. A common factor of Y1, Y2 and Y3 only scales the weights.

    Args:
      A: activation `[*spatial k]`.
      Y1: the first derivative, of A's shape.
      Y2: the second derivative.
      Y3: the third derivative.
      numerator: as in `alpha_grad_cam_pp`.
      alpha: as in `alpha_grad_cam_pp`.
      exponents: as in `alpha_grad_cam_pp`.

    Returns:
      `[k]`.

    Raises:
      ValueError: as `alpha_grad_cam_pp`.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, equations 5 and 10 (equation 7 is what alpha must fulfill, and is
    solved for alpha in equation 10); with means over noisy inputs for the Y's, Omeiza
    et al., "Smooth Grad-CAM++", 2019, equations 5 to 7.

    Example:
      >>> import jax.numpy as jnp
      >>> A, Y1 = jnp.ones([2, 2, 1]), jnp.full([2, 2, 1], 0.5)
      >>> grad_cam_pp(A, Y1, Y1**2, Y1**3).round(6).tolist()  # alpha = 0.25 / (2 * 0.25 + 4 * 0.125) at 4 locations
      [0.5]
    """
    alphas = _scaled_alpha(A, Y1, Y2, Y3, numerator, alpha, exponents)
    # Equation 5: w_k^c = sum_i sum_j alpha_ij^kc relu(dY^c / dA_ij^k).
    return (alphas.array * times_power_of_two(relu(Y1), alphas.exponent)).sum(_space(A))


def alpha_grad_cam_pp(
    A: jax.Array,
    Y1: jax.Array,
    Y2: jax.Array,
    Y3: jax.Array,
    *,
    numerator: str = "second",
    alpha: str = "defined",
    exponents: Exponents = (0, 0),
) -> jax.Array:
    """alpha = Y2 / (2 Y2 + S_k Y3), `[*spatial k]`; zero where the denominator is zero.

    Args:
      A: activation `[*spatial k]`.
      Y1: the first derivative, of A's shape.
      Y2: the second derivative.
      Y3: the third derivative.
      numerator: "second" has Y2 above the line, as in equation 10 of the Grad-CAM++ paper and equation 5 of the Smooth
        Grad-CAM++ paper; "first" has Y1, as equation 7 of the latter is printed.
      alpha: "defined" for the equation as it is; "bounded" for its values clipped to [0, 1/2]. Under the assumptions of
        the Grad-CAM++ paper (Y = e^u, a relu network, A >= 0, Y1 > 0) alpha lies in that range. Elsewhere the
        denominator passes through zero, and few locations with huge alphas decide the weights.
      exponents: Y2 and Y3 stand for 2^e times themselves. Squares and cubes of very small or large derivatives
        are outside the range of floats.

    Raises:
      ValueError: an option is not known, or alpha="bounded" with numerator="first", which has no such range.

    Example:
      >>> import jax.numpy as jnp
      >>> A, Y1 = jnp.full([1, 2, 1], -1.5), jnp.ones([1, 2, 1])  # S = -3
      >>> [alpha_grad_cam_pp(A, Y1, Y1, Y1, alpha=alpha)[0, 0].item() for alpha in ALPHAS]
      [-1.0, 0.0]
    """
    return _scaled_alpha(A, Y1, Y2, Y3, numerator, alpha, exponents).value()


def _scaled_alpha(A, Y1, Y2, Y3, numerator, alpha, exponents) -> Scaled:
    check_grad_cam_pp_options(numerator=numerator, alpha=alpha)
    denominator = denominator_grad_cam_pp(A, Y2, Y3, exponents=exponents)
    if numerator == "first":
        # Alpha has the size of 1 / Y1, so half of the power of two goes to either side of the quotient.
        half = exponents[0] // 2
        return Scaled(safe_divide(times_power_of_two(Y1, -half), denominator), half - exponents[0])
    # Grad-CAM++, equation 10: alpha_ij^kc = Y2 / (2 Y2 + sum_a sum_b A_ab^k Y3).
    alphas = safe_divide(Y2, denominator)
    return Scaled(alphas if alpha == "defined" else alphas.clip(*ALPHA_RANGE), 0)


def denominator_grad_cam_pp(A: jax.Array, Y2: jax.Array, Y3: jax.Array, *, exponents: Exponents = (0, 0)) -> jax.Array:
    """2 Y2 + S_k Y3, `[*spatial k]`: the denominator of alpha, to be read as times 2^(exponent of Y2)."""
    S = A.astype(Y3.dtype).sum(_space(A), keepdims=True)
    second, third = exponents
    return 2 * Y2 + times_power_of_two(S * Y3, third - second)


def check_grad_cam_pp_options(*, numerator: str, alpha: str) -> None:
    """Raises a ValueError if an option of Grad-CAM++'s weights is not known, or the two exclude each other."""
    if numerator not in NUMERATORS:
        raise ValueError(f"numerator is {numerator!r}: choose one of {', '.join(NUMERATORS)}")
    if alpha not in ALPHAS:
        raise ValueError(f"alpha is {alpha!r}: choose one of {', '.join(ALPHAS)}")
    if alpha == "bounded" and numerator == "first":
        raise ValueError(
            "alpha='bounded' needs numerator='second': with D1 in the numerator alpha has no range of its own"
        )


def share_outside(
    A: jax.Array, Y1: jax.Array, Y2: jax.Array, Y3: jax.Array, *, exponents: Exponents = (0, 0)
) -> jax.Array:
    """The share of the locations with Y1 > 0 at which alpha is outside [0, 1/2]; 0 if there are none.

    Example:
      >>> import jax.numpy as jnp
      >>> A, Y1 = jnp.full([1, 2, 1], -1.5), jnp.array([[[1.0], [-1.0]]])
      >>> share_outside(A, Y1, Y1**2, Y1**3).item()
      1.0
    """
    alphas = alpha_grad_cam_pp(A, Y1, Y2, Y3, exponents=exponents)
    low, high = ALPHA_RANGE
    outside = (alphas < low - ALPHA_ROUNDING) | (alphas > high + ALPHA_ROUNDING)
    positive = Y1 > 0
    return safe_divide((outside & positive).sum().astype(Y1.dtype), positive.sum().astype(Y1.dtype))


def _space(A):
    return tuple(range(A.ndim - 1))
