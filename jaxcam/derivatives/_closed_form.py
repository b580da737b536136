"""The derivatives of the score where the outputs are affine in A, as in piecewise linear (relu) networks.

Near such an A, outputs(A + t e_n) = outputs + t J_n, with J_n the column of the Jacobian for element n. The derivatives
are then those of the *score alone* along J_n. That is exact for every score, softmax included. On smooth networks
(gelu, silu) it is an approximation, because it leaves out the second derivatives of the outputs.
"""

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

DEFAULT_BATCH_SIZE = 32


def closed_form(
    head: Callable[[jax.Array], Any],
    A: jax.Array,
    score: Callable[[Any, Any], jax.Array] = scores.logit,
    target: Any = 0,
    *,
    batch_size: int | None = None,
) -> Derivatives:
    """The derivatives of `score(head(A), target)` if the head is locally affine in A.

    The cost depends on the score:

    - An affine score, such as `logit`: u1 is the gradient and u2 = u3 = 0. One backward pass.
    - `log_softmax`: u2 and u3 are minus the variance and minus the third central moment, under the softmax, of the
      logits' gradients J_c at each location. They are summed over classes, `batch_size` at a time, so the Jacobian
      `[classes N]` is never held. One backward pass for each class.
    - `sequence_log_prob`: the same for each step. The moments do not depend on the tokens, so under `jax.vmap` over
      targets they are computed once. One backward pass for each step and word.
    - Any other score: three derivatives of the score along each column of the Jacobian. With fewer outputs than
      locations, reverse mode builds the whole Jacobian, `[outputs N]`. Otherwise forward mode builds `batch_size`
      columns at a time.

    Args:
      head: from the activation `[*spatial k]` to outputs: logits `[classes]`, or what the score takes.
      A: the activation.
      score: `(outputs, target) -> scalar`.
      target: the second argument of the score, such as a class.
      batch_size: classes, or columns of the Jacobian, at a time: the memory knob. Defaults to 32.

    Returns:
      `Derivatives(u, u1, u2, u3)`.

    Example:
      >>> head = lambda A: A.sum(0) @ jnp.array([[1.0, 2.0], [3.0, 4.0]])
      >>> u, u1, u2, u3 = closed_form(head, jnp.ones([5, 2]), scores.logit, 1)
      >>> u1[0].tolist(), u2[0].tolist()
      ([2.0, 4.0], [0.0, 0.0])
    """
    float_outputs, score_of_floats = _split_float_outputs(head, A, score, target)
    outputs, vjp_of_A, other_outputs = jax.vjp(float_outputs, A, has_aux=True)
    size = batch_size or DEFAULT_BATCH_SIZE

    def score_of(outputs):
        return score_of_floats(outputs, other_outputs)

    if certify(score_of, outputs).affine:
        u, cotangent = jax.value_and_grad(score_of)(outputs)
        (u1,) = vjp_of_A(cotangent)
        return Derivatives(u, u1, jnp.zeros_like(u1), jnp.zeros_like(u1))
    if score is scores.log_softmax:
        moments = _softmax_moments(outputs[0], lambda cotangent: vjp_of_A([cotangent])[0], target, size)
        return Derivatives(score_of(outputs), *moments)
    if score is scores.sequence_log_prob:
        return Derivatives(score_of(outputs), *_sequence_moments(outputs[0], vjp_of_A, target, size))
    along_columns = _along_jacobian_columns(lambda A: float_outputs(A)[0], A, outputs, vjp_of_A, score_of, size)
    return Derivatives(score_of(outputs), *along_columns)


def score_is_affine(head: Callable[[Any], Any], A: Any, score: Callable[[Any, Any], jax.Array], target: Any) -> bool:
    """Whether the score is proved locally affine in the head's outputs, as `logit` is: u2 = u3 = 0 in closed form.

    Args:
      head: as in `closed_form`. Nothing is computed.
      A: the activation, or its shape and type.
      score: `(outputs, target) -> scalar`.
      target: the second argument of the score.

    Example:
      >>> head = lambda A: A.sum((0, 1))
      >>> [score_is_affine(head, jnp.ones([2, 2, 3]), score, 1) for score in (scores.logit, scores.log_softmax)]
      [True, False]
    """
    float_outputs, score_of_floats = _split_float_outputs(head, A, score, target)
    outputs, other_outputs = jax.eval_shape(float_outputs, A)
    # Integer outputs, such as a predicted label, are constants to the score. Zeros replace them in the trace.
    constants = [jnp.zeros(leaf.shape, leaf.dtype) for leaf in other_outputs]
    return certify(lambda outputs: score_of_floats(outputs, constants), outputs).affine


def _split_float_outputs(head, A, score, target):
    """The head as `A -> (float leaves, other leaves)` of its outputs, and the score as a function of both lists."""
    shapes, tree = jax.tree.flatten(jax.eval_shape(head, A))
    is_float = [bool(jnp.issubdtype(leaf.dtype, jnp.inexact)) for leaf in shapes]

    def float_outputs(A):
        leaves = list(zip(jax.tree.leaves(head(A)), is_float, strict=True))
        return [leaf for leaf, is_kept in leaves if is_kept], [leaf for leaf, is_kept in leaves if not is_kept]

    def score_of_floats(floats, others):
        remaining = {True: iter(floats), False: iter(others)}
        return score(jax.tree.unflatten(tree, [next(remaining[kind]) for kind in is_float]), target)

    return float_outputs, score_of_floats


def _softmax_moments(logits, gradient_along, target, batch_size):
    """u1, u2, u3 of log_softmax: J_t - mean, minus variance, minus third central moment of J_c under the softmax.

    `gradient_along(v)` is the gradient of <v, logits> in A, one backward pass.
    """
    count = logits.size
    target = jnp.asarray(target)
    target = jnp.where(target < 0, target + count, target)
    p = jax.nn.softmax(at_least_float32(logits))

    def combined_gradient(weights):
        return at_least_float32(gradient_along(weights.astype(logits.dtype)))

    # 1 - p_t as the sum of the others, which keeps its digits if the softmax is saturated and p_t rounds to 1.
    p_of_others = p.at[target].set(0)
    u1 = combined_gradient((-p_of_others).at[target].set(p_of_others.sum()))
    unit_of_target = typed_as(jax.nn.one_hot(target, count, dtype=p.dtype), p)

    def deviation(c):
        # J_c - mean = (J_c - J_t) + u1: for the same reason, and for c = t it is u1 to the last bit.
        return combined_gradient(jax.nn.one_hot(c, count, dtype=p.dtype) - unit_of_target) + u1

    def add_classes(moments, classes):
        weights = jnp.where(classes < count, p[jnp.minimum(classes, count - 1)], 0)
        deviations = jax.vmap(deviation)(classes)
        second, third = (jnp.tensordot(weights, deviations**power, 1, precision="highest") for power in (2, 3))
        return (moments[0] + second, moments[1] + third), None

    size = even_chunks(count, batch_size)
    chunks = jnp.arange(-(-count // size) * size).reshape(-1, size)
    zeros = jnp.zeros_like(u1)
    (variance, third_moment), _ = jax.lax.scan(for_loops(add_classes), (zeros, zeros), chunks)
    return u1, -variance, -third_moment


def _sequence_moments(logits, vjp_of_A, target, batch_size):
    """u1, u2, u3 of `sequence_log_prob`, sums over steps of those of `log_softmax`.

    The moments of a step are taken around its most probable word, not around the target's, which other targets share.
    """
    target, references = jnp.asarray(target), logits.argmax(-1)

    def moments_of_step(step):
        def gradient_along(cotangent):
            return vjp_of_A([jnp.zeros_like(logits).at[step].set(cotangent)])[0]

        return _softmax_moments(logits[step], gradient_along, references[step], batch_size)

    around_reference, u2, u3 = jax.lax.map(moments_of_step, jnp.arange(len(logits)))
    counts = (target >= 0).astype(u2.dtype)
    is_reference = jax.nn.one_hot(references, logits.shape[1], dtype=logits.dtype)
    is_target = jax.nn.one_hot(target, logits.shape[1], dtype=logits.dtype)  # zeros for padding
    to_target = vjp_of_A([(is_target - is_reference) * counts[:, None].astype(logits.dtype)])[0]
    u1, u2, u3 = (jnp.tensordot(counts, moment, 1, precision="highest") for moment in (around_reference, u2, u3))
    return at_least_float32(to_target) + u1, u2, u3


def _along_jacobian_columns(float_outputs, A, outputs, vjp_of_A, score_of, batch_size):
    """u1, u2, u3 of any score along each column of the Jacobian of the outputs."""
    flat_outputs, unflatten = ravel_pytree([at_least_float32(leaf) for leaf in outputs])

    def as_cotangents(flat):
        return [leaf.astype(output.dtype) for leaf, output in zip(unflatten(flat), outputs, strict=True)]

    def along(column):
        def derivative(f):
            return lambda t: jax.jvp(f, (t,), (jnp.ones_like(t),))[1]

        def u(t):
            return score_of(unflatten(flat_outputs + t * column))

        zero = jax.lax.full_like(flat_outputs, 0, shape=())
        return derivative(u)(zero), derivative(derivative(u))(zero), derivative(derivative(derivative(u)))(zero)

    if flat_outputs.size <= A.size:
        units = typed_as(jnp.eye(flat_outputs.size, dtype=flat_outputs.dtype), flat_outputs)

        def row_of_jacobian(unit):
            return at_least_float32(vjp_of_A(as_cotangents(unit))[0].ravel())

        rows = jax.lax.map(row_of_jacobian, units, batch_size=batch_size)
        derivatives = jax.lax.map(along, rows.T, batch_size=batch_size)
    else:

        def column_of_jacobian(n):
            direction = typed_as(jax.nn.one_hot(n, A.size, dtype=A.dtype).reshape(A.shape), A)
            tangents = jax.jvp(float_outputs, (A,), (direction,))[1]
            return ravel_pytree([at_least_float32(leaf) for leaf in tangents])[0]

        elements = jnp.arange(A.size)
        derivatives = jax.lax.map(lambda n: along(column_of_jacobian(n)), elements, batch_size=batch_size)
    return tuple(array.reshape(A.shape) for array in derivatives)
