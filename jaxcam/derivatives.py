"""First, second and third derivative of the score at every location of the feature map.

For each element n of A, with e_n its unit direction, u1, u2 and u3 are the derivatives of t -> u(A + t e_n) at 0: the
diagonals of the gradient, the Hessian and the third-derivative tensor, each of A's shape.

The **closed form** takes the outputs to be affine in A near A, as they are in a piecewise linear (relu) network: then
outputs(A + t e_n) = outputs + t J_n, and the derivatives are those of the *score alone* along column J_n of the
Jacobian. It is exact for every score there, softmax included; for a smooth network (gelu, silu) it is an approximation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxcam import scores
from jaxcam.linearity import is_affine
from jaxcam.noise import even_chunks

LINKS = ("identity", "exp")
COLUMNS_AT_A_TIME = 32


class Derivatives(NamedTuple):
    """The score u, a scalar, and its derivatives along each element of A, each `[*spatial k]`."""

    u: jax.Array
    u1: jax.Array
    u2: jax.Array
    u3: jax.Array


def closed_form(
    head: Callable[[jax.Array], Any],
    A: jax.Array,
    score: Callable[[Any, Any], jax.Array] = scores.logit,
    target: Any = 0,
    *,
    batch_size: int | None = None,
) -> Derivatives:
    """The derivatives of `score(head(A), target)` where the head is locally affine in A.

    - An affine score, such as `logit`: u1 is the gradient, u2 = u3 = 0. One backward pass.
    - `log_softmax`: u2 and u3 are minus the variance and minus the third central moment, under the softmax, of the
      logits' gradients J_c at each location; they are summed over classes `batch_size` at a time, so no Jacobian
      `[classes N]` is held. One backward pass a class.
    - Any other score: three derivatives of the score along each column of the Jacobian, which is built by reverse
      mode and held, `[outputs N]`, where there are fewer outputs than locations, and by forward mode, a few columns
      at a time, where there are more.

    Args:
      head: from the activation `[*spatial k]` to outputs; logits `[classes]`, or whatever the score takes.
      A: the activation.
      score: `(outputs, target) -> scalar`.
      target: what the score takes second, a class.
      batch_size: how many classes, or columns of the Jacobian, at a time; 32 where absent. The memory knob.

    Returns:
      `Derivatives(u, u1, u2, u3)`.

    Example:
      >>> head = lambda A: A.sum(0) @ jnp.array([[1.0, 2.0], [3.0, 4.0]])
      >>> u, u1, u2, u3 = closed_form(head, jnp.ones([5, 2]), scores.logit, 1)
      >>> u1[0].tolist(), u2[0].tolist()
      ([2.0, 4.0], [0.0, 0.0])
    """
    outputs, pull = jax.vjp(head, A)
    size = batch_size or COLUMNS_AT_A_TIME
    if is_affine(lambda o: score(o, target), outputs):
        u, cotangent = jax.value_and_grad(score)(outputs, target)
        (u1,) = pull(cotangent)
        return Derivatives(u, u1, jnp.zeros_like(u1), jnp.zeros_like(u1))
    if score is scores.log_softmax:
        return Derivatives(score(outputs, target), *_softmax_moments(outputs, pull, target, size))
    return Derivatives(
        score(outputs, target), *_along_columns(head, A, outputs, pull, lambda o: score(o, target), size)
    )


def _softmax_moments(logits, pull, target, batch_size):
    """u1, u2, u3 of log_softmax: J_t - mean, minus variance, minus third central moment of J_c under the softmax."""
    p = jax.nn.softmax(logits)
    # 1 - p_t as the sum of the others, which keeps its digits where the softmax is saturated and p_t rounds to 1.
    others = p.at[target].set(0)
    (u1,) = pull((-others).at[target].set(others.sum()))
    unit = jax.nn.one_hot(target, logits.size, dtype=logits.dtype)

    def central(c):
        # J_c - mean = (J_c - J_t) + u1: for the same reason, and for c = t it is u1 to the last bit.
        return pull(jax.nn.one_hot(c, logits.size, dtype=logits.dtype) - unit)[0] + u1

    def add(total, classes):
        weight = jnp.where(classes < logits.size, p[jnp.minimum(classes, logits.size - 1)], 0)
        g = jax.vmap(central)(classes)
        second, third = (jnp.tensordot(weight, g**power, 1, precision="highest") for power in (2, 3))
        return (total[0] + second, total[1] + third), None

    size = even_chunks(logits.size, batch_size)
    chunks = jnp.arange(-(-logits.size // size) * size).reshape(-1, size)
    (variance, third), _ = jax.lax.scan(add, (jnp.zeros_like(u1), jnp.zeros_like(u1)), chunks)
    return u1, -variance, -third


def _along_columns(head, A, outputs, pull, score, batch_size):
    """u1, u2, u3 of any score along each column of the head's Jacobian."""
    flat, unflatten = ravel_pytree(outputs)

    def along(column):
        def d(f):
            return lambda t: jax.jvp(f, (t,), (jnp.ones_like(t),))[1]

        def u(t):
            return score(unflatten(flat + t * column))

        zero = jnp.zeros((), flat.dtype)
        return d(u)(zero), d(d(u))(zero), d(d(d(u)))(zero)

    if flat.size <= A.size:
        rows = jax.lax.map(
            lambda e: pull(unflatten(e))[0].ravel(), jnp.eye(flat.size, dtype=flat.dtype), batch_size=batch_size
        )
        u1, u2, u3 = jax.lax.map(along, rows.T, batch_size=batch_size)
    else:

        def column(n):
            direction = jax.nn.one_hot(n, A.size, dtype=A.dtype).reshape(A.shape)
            return ravel_pytree(jax.jvp(head, (A,), (direction,))[1])[0]

        u1, u2, u3 = jax.lax.map(lambda n: along(column(n)), jnp.arange(A.size), batch_size=batch_size)
    return u1.reshape(A.shape), u2.reshape(A.shape), u3.reshape(A.shape)


def through_link(derivatives: Derivatives, *, link: str) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    """The derivatives of Y = link(u), as `(scale, (Y1, Y2, Y3))`, each Y to be read as times e^scale.

    For "identity", Y = u: scale is 0 and the derivatives are those of u. For "exp", Y = e^u:
    Y1 = Y u1, Y2 = Y (u2 + u1^2), Y3 = Y (u3 + 3 u1 u2 + u1^3); the factor Y, which overflows float32 at u > 88, is
    carried as scale = u. It cancels in alpha, and matters only where samples of different u are averaged.

    They are float32 at least, whatever the activation's type: cubes of half-precision gradients underflow.

    Example:
      >>> one = jnp.ones([1, 1])
      >>> scale, (y1, y2, y3) = through_link(Derivatives(jnp.float32(500.0), 2 * one, 0 * one, 0 * one), link="exp")
      >>> float(scale), y1.item(), y2.item(), y3.item()
      (500.0, 2.0, 4.0, 8.0)
    """
    half = jnp.finfo(derivatives.u.dtype).bits < 32
    u, u1, u2, u3 = (d.astype(jnp.float32) if half else d for d in derivatives)
    if link == "identity":
        return jnp.zeros_like(u), (u1, u2, u3)
    if link == "exp":
        return u, (u1, u2 + u1**2, u3 + 3 * u1 * u2 + u1**3)
    raise ValueError(f"link is {link!r}: choose one of {', '.join(LINKS)}")
