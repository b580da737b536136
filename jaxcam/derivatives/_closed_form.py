"""TODO."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxcam._base.numerics import at_least_float32, even_chunks
from jaxcam.derivatives._link import Derivatives
from jaxcam.derivatives.certificate import certify
from jaxcam.formulas import scores
from jaxcam.tracing import for_loops, typed_as

COLUMNS_AT_A_TIME = 32


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
    floats, u_of = _float_outputs(head, A, score, target)
    outputs, pull, others = jax.vjp(floats, A, has_aux=True)
    size = batch_size or COLUMNS_AT_A_TIME

    def u(outputs):
        return u_of(outputs, others)

    if certify(u, outputs).affine:
        value, cotangent = jax.value_and_grad(u)(outputs)
        (u1,) = pull(cotangent)
        return Derivatives(value, u1, jnp.zeros_like(u1), jnp.zeros_like(u1))
    if score is scores.log_softmax:
        return Derivatives(u(outputs), *_softmax_moments(outputs[0], lambda c: pull([c]), target, size))
    return Derivatives(u(outputs), *_along_columns(lambda A: floats(A)[0], A, outputs, pull, u, size))


def score_is_affine(head: Callable[[Any], Any], A: Any, score: Callable[[Any, Any], jax.Array], target: Any) -> bool:
    """Whether the score is proved locally affine in the head's outputs, as `logit` is: u2 = u3 = 0 in closed form."""
    floats, u_of = _float_outputs(head, A, score, target)
    outputs, others = jax.eval_shape(floats, A)
    # Integer outputs, a predicted label say, are constants to the score; zeros stand for them while tracing.
    constants = [jnp.zeros(leaf.shape, leaf.dtype) for leaf in others]
    return certify(lambda outputs: u_of(outputs, constants), outputs).affine


def _float_outputs(head, A, score, target):
    """The head's outputs as `A -> (float leaves, other leaves)`, and the score as a function of the two lists."""
    shapes, tree = jax.tree.flatten(jax.eval_shape(head, A))
    is_float = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in shapes]

    def floats(A):
        leaves = jax.tree.leaves(head(A))
        pairs = list(zip(leaves, is_float, strict=True))
        return [leaf for leaf, keep in pairs if keep], [leaf for leaf, keep in pairs if not keep]

    def u(float_leaves, others):
        of = {True: iter(float_leaves), False: iter(others)}
        return score(jax.tree.unflatten(tree, [next(of[bool(keep)]) for keep in is_float]), target)

    return floats, u


def _softmax_moments(logits, pull, target, batch_size):
    """u1, u2, u3 of log_softmax: J_t - mean, minus variance, minus third central moment of J_c under the softmax."""
    count = logits.size
    target = jnp.asarray(target)
    target = jnp.where(target < 0, target + count, target)
    p = jax.nn.softmax(at_least_float32(logits))

    def column(cotangent):
        return at_least_float32(pull(cotangent.astype(logits.dtype))[0])

    # 1 - p_t as the sum of the others, which keeps its digits where the softmax is saturated and p_t rounds to 1.
    others = p.at[target].set(0)
    u1 = column((-others).at[target].set(others.sum()))
    unit = typed_as(jax.nn.one_hot(target, count, dtype=p.dtype), p)

    def central(c):
        # J_c - mean = (J_c - J_t) + u1: for the same reason, and for c = t it is u1 to the last bit.
        return column(jax.nn.one_hot(c, count, dtype=p.dtype) - unit) + u1

    def add(total, classes):
        weight = jnp.where(classes < count, p[jnp.minimum(classes, count - 1)], 0)
        g = jax.vmap(central)(classes)
        second, third = (jnp.tensordot(weight, g**power, 1, precision="highest") for power in (2, 3))
        return (total[0] + second, total[1] + third), None

    size = even_chunks(count, batch_size)
    chunks = jnp.arange(-(-count // size) * size).reshape(-1, size)
    (variance, third), _ = jax.lax.scan(for_loops(add), (jnp.zeros_like(u1), jnp.zeros_like(u1)), chunks)
    return u1, -variance, -third


def _along_columns(head, A, outputs, pull, score, batch_size):
    """u1, u2, u3 of any score along each column of the head's Jacobian."""
    wide, unflatten = ravel_pytree([at_least_float32(leaf) for leaf in outputs])

    def as_outputs(flat):
        return [leaf.astype(like.dtype) for leaf, like in zip(unflatten(flat), outputs, strict=True)]

    def along(column):
        def d(f):
            return lambda t: jax.jvp(f, (t,), (jnp.ones_like(t),))[1]

        def u(t):
            return score(unflatten(wide + t * column))

        zero = jax.lax.full_like(wide, 0, shape=())
        return d(u)(zero), d(d(u))(zero), d(d(d(u)))(zero)

    if wide.size <= A.size:
        units = typed_as(jnp.eye(wide.size, dtype=wide.dtype), wide)
        rows = jax.lax.map(lambda e: at_least_float32(pull(as_outputs(e))[0].ravel()), units, batch_size=batch_size)
        u1, u2, u3 = jax.lax.map(along, rows.T, batch_size=batch_size)
    else:

        def column(n):
            direction = typed_as(jax.nn.one_hot(n, A.size, dtype=A.dtype).reshape(A.shape), A)
            return ravel_pytree([at_least_float32(leaf) for leaf in jax.jvp(head, (A,), (direction,))[1]])[0]

        u1, u2, u3 = jax.lax.map(lambda n: along(column(n)), jnp.arange(A.size), batch_size=batch_size)
    return u1.reshape(A.shape), u2.reshape(A.shape), u3.reshape(A.shape)
