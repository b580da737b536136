"""First, second and third derivative of the score at every location of the feature map, for any function.

For each element n of A, with unit direction e_n, u1, u2 and u3 are the derivatives of t -> u(A + t e_n) at 0: the
diagonals of the gradient, the Hessian and the third-derivative tensor. Each has the shape of A.

`exact` traces the function, plans which directions are pushed through which steps (`_choose.py`, `_plan.py`), and
pushes Taylor coefficients along them (`_taylor.py`). `brute_force` takes three nested `jvp` of the whole function; it
shares no code with `exact` and is its oracle in the tests.
"""

import functools
import logging
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base.numerics import Scaled
from jaxcam.derivatives._choose import choose_plan
from jaxcam.derivatives._compile import run_compiled
from jaxcam.derivatives._forward_mode import has_custom_vjp_inside, is_forward_only
from jaxcam.derivatives._link import Derivatives, ScaledDerivatives
from jaxcam.derivatives._program import trace
from jaxcam.derivatives._taylor import second_and_third_derivatives
from jaxcam.tracing import evaluate, typed_as

BRUTE_FORCE_BATCH_SIZE = 128
# The elements of A whose second and third derivatives count: a mask of A's shape, or a function from u1 to it.
Where = jax.Array | Callable[[jax.Array], jax.Array]
FLOPS_WORTH_A_WARNING = 1e11  # from about half a second on two cores, more if memory is the limit


class Cost(NamedTuple):
    """What `exact` pushes through the part of a function that is not affine.

    All are 0 if nothing is pushed: the function is locally affine, or it has a while loop and `exact` is `brute_force`.

    Attributes:
      directions: how many directions are pushed. Directions with the same or independent effects share one push.
      chunks: how many chunks of `batch_size` directions they make.
      flops: floating-point operations of the push, estimated.
    """

    directions: int
    chunks: int
    flops: float


def exact(
    f: Callable[[jax.Array], jax.Array],
    A: jax.Array,
    *,
    where: Where | None = None,
    batch_size: int | None = None,
    progress: Callable[[], None] | None = None,
) -> Derivatives:
    """The derivatives of a scalar function of A at every location, exact to rounding.

    If `jaxcam.certify(f, A)` proves that f is locally affine, u2 = u3 = 0 and the cost is one backward pass. Otherwise
    Taylor coefficients are pushed through the part of f that follows its affine part, `batch_size` directions at a
    time. `exact_cost` tells how many directions and operations that takes.

    The derivatives are those that JAX defines: a custom_jvp is differentiated by its rule. A custom_vjp has no forward
    mode, so u2 and u3 are those of the function inside it. A while loop has no reverse mode, so `brute_force` is used.
    At kinks (relu at 0, ties in max pooling) the result is that of `brute_force`, too.

    It is a pure function and works under jit, vmap and grad. Under jit, long work is announced by a warning of the
    logger "jaxcam". Outside jit, f is traced at each call, and the push is compiled once for all functions whose traced
    programs are equal: a new lambda over other weights compiles nothing. With `progress` it is compiled at each call.

    Args:
      f: from the activation `[*spatial k]` to a scalar: `lambda A: score(head(A), target)`.
      A: the activation, floats.
      where: a boolean mask of A's shape, or a function from u1 to it, such as `lambda u1: u1 > 0`. u2 and u3 are zero
        where it is False; u1 is not masked. Chunks without an element of the mask are skipped, so a mask of half of the
        directions takes about half of the time. Defaults to all elements.
      batch_size: directions at a time, the memory knob. The push holds two coefficients for each direction of a chunk
        and each value after the affine part; the default fills 256 MiB with them, with at most 512 directions.
      progress: called without arguments after each chunk of directions; `exact_cost` has their number. By default
        nothing is called and the program has no side effects.

    Returns:
      `Derivatives(u, u1, u2, u3)`. All are NaN if u is NaN.

    Raises:
      TypeError: A is not floats, f does not return one float, f has a custom_vjp inside a scan or a branch, or `where`
        is not boolean.
      ValueError: A has no elements, `where` has another shape than A, or batch_size is below 1.

    Example:
      >>> u, u1, u2, u3 = exact(lambda A: jnp.tanh(A).sum(), jnp.array([[0.0, 1.0]]))
      >>> u1[0, 0].item(), u2[0, 0].item(), u3[0, 0].item()
      (1.0, 0.0, -2.0)
      >>> exact(lambda A: (A**3).sum(), jnp.array([[1.0, 2.0]]), where=jnp.array([[True, False]])).u2.tolist()
      [[6.0, 0.0]]
    """
    A = jnp.asarray(A)
    u, u1, u2, u3 = exact_scaled(f, A, where=where, batch_size=batch_size, progress=progress)
    return Derivatives(u, u1, u2.value().astype(A.dtype), u3.value().astype(A.dtype))


def exact_scaled(
    f: Callable[[jax.Array], jax.Array],
    A: jax.Array,
    *,
    where: Where | None = None,
    at_most: int | None = None,
    batch_size: int | None = None,
    progress: Callable[[], None] | None = None,
) -> ScaledDerivatives:
    """`exact`, with u2 and u3 times powers of two, so that they neither underflow nor overflow; at least float32.

    Args:
      f: as in `exact`.
      A: as in `exact`.
      where: as in `exact`.
      at_most: the most elements that `where` has, if it is known. It counts for the warning of long work alone.
      batch_size: as in `exact`.
      progress: as in `exact`.

    Raises:
      TypeError, ValueError: as `exact`.

    Example:
      >>> V = jnp.full([2, 3], 1e-25)
      >>> u2 = exact_scaled(lambda A: jnp.exp(A @ V).sum(), jnp.ones([1, 2])).u2
      >>> u2.value().tolist(), bool((u2.array > 0).all())  # 3e-50, which is no float32
      ([[0.0, 0.0]], True)
    """
    A = jnp.asarray(A)
    _check_arguments(f, A, batch_size)
    _check_where(where, A)
    program = trace(f, A)
    _check_forward_mode(program)
    traced = any(isinstance(value, jax.core.Tracer) for value in (A, *program.constants.values()))
    if is_forward_only(program):
        derivatives = functools.partial(_brute_force_of_program, program, batch_size, where)
    elif (plan := choose_plan(program, batch_size)) is None:
        derivatives = functools.partial(_one_gradient, f)
    else:
        if traced:
            _warn_of_long_work(plan, at_most)
        derivatives = functools.partial(_push, f, plan, where, progress)
    if traced:
        return derivatives(A)
    results = run_compiled(derivatives, A)
    if progress is not None:
        jax.effects_barrier()  # the last calls of `progress`
    return results


def exact_cost(f: Callable[[jax.Array], jax.Array], A: jax.Array, *, batch_size: int | None = None) -> Cost:
    """The number of directions and operations that `exact` takes with the same arguments. Nothing is computed.

    Args:
      f: as in `exact`.
      A: the activation, or a `jax.ShapeDtypeStruct` of its shape and type.
      batch_size: as in `exact`.

    Returns:
      `Cost(directions, chunks, flops)`.

    Raises:
      TypeError, ValueError: as `exact`.

    Example:
      >>> A = jnp.ones([7, 7, 16])
      >>> exact_cost(lambda A: jnp.tanh(A.mean((0, 1)) @ jnp.ones([16, 3])).sum(), A).directions
      16
      >>> exact_cost(lambda A: jax.nn.relu(A).sum(), A)
      Cost(directions=0, chunks=0, flops=0.0)
    """
    A = A if isinstance(A, jax.ShapeDtypeStruct) else jnp.asarray(A)
    _check_arguments(f, A, batch_size)
    program = trace(f, A)
    _check_forward_mode(program)
    plan = None if is_forward_only(program) else choose_plan(program, batch_size)
    if plan is None:
        return Cost(0, 0, 0.0)
    return Cost(plan.all_directions, plan.all_chunks, float(plan.flops))


def brute_force(f: Callable[[jax.Array], jax.Array], A: jax.Array, *, batch_size: int | None = None) -> Derivatives:
    """The derivatives by three nested `jvp` of the whole function along each unit direction: slow, and the oracle.

    It costs about 8 evaluations of f for each element of A. As an oracle it needs float64: in float32, three nested
    `jvp` of, for example, the tanh form of gelu lose all digits of u3 if the argument is far from zero. JAX raises for
    a function with a custom_vjp, which has no forward mode.

    Args:
      f: as in `exact`.
      A: as in `exact`.
      batch_size: directions at a time, the memory knob. Defaults to 128.

    Returns:
      `Derivatives(u, u1, u2, u3)`.

    Raises:
      TypeError, ValueError: as `exact`.

    Example:
      >>> u, u1, u2, u3 = brute_force(lambda A: (A**3).sum(), jnp.array([[1.0, 2.0]]))
      >>> u1[0].tolist(), u2[0].tolist(), u3[0].tolist()
      ([3.0, 12.0], [6.0, 12.0], [6.0, 6.0])
    """
    A = jnp.asarray(A)
    _check_arguments(f, A, batch_size)

    def along_unit_direction(n):
        direction = typed_as(jax.nn.one_hot(n, A.size, dtype=A.dtype).reshape(A.shape), A)

        def with_derivative(g):
            return lambda A: jax.jvp(g, (A,), (direction,))

        (_, (_, u2)), ((u1, _), (_, u3)) = with_derivative(with_derivative(with_derivative(f)))(A)
        return u1, u2, u3

    batch_size = min(A.size, batch_size or BRUTE_FORCE_BATCH_SIZE)
    derivatives = jax.lax.map(along_unit_direction, jnp.arange(A.size), batch_size=batch_size)
    return Derivatives(f(A), *(array.reshape(A.shape) for array in derivatives))


def _push(f, plan, where, progress, A):
    u, u1 = jax.value_and_grad(f)(A)
    mask = _mask(where, u1)
    second, third = (
        scaled._replace(array=_nan_where_nan(u, scaled.array))
        for scaled in second_and_third_derivatives(plan, A, where=mask, progress=progress)
    )
    return ScaledDerivatives(u, u1, second, third)


def _one_gradient(f, A):
    u, u1 = jax.value_and_grad(f)(A)
    zeros = Scaled(jnp.zeros_like(u1), jnp.int32(0))
    return ScaledDerivatives(u, u1, zeros, zeros)


def _brute_force_of_program(program, batch_size, where, A):
    # In the program, unlike in f, each custom_vjp is replaced by the function inside it.
    def f(A):
        return evaluate(program.steps, {**program.constants, program.inputs[0]: A})[program.outputs[0]]

    u, u1, u2, u3 = brute_force(f, A, batch_size=batch_size)
    mask = _mask(where, u1)
    if mask is not None:
        u2, u3 = (_nan_where_nan(u, jnp.where(mask, derivative, 0)) for derivative in (u2, u3))
    return ScaledDerivatives(u, u1, Scaled(u2, jnp.int32(0)), Scaled(u3, jnp.int32(0)))


def _mask(where, u1):
    """The mask of A's shape, or None for all elements."""
    if not callable(where):
        return where
    mask = where(u1)
    _check_where(mask, u1)
    return mask


def _nan_where_nan(u, derivative):
    """NaN everywhere if u is NaN. The push alone leaves zeros at locations that it skips."""
    return jnp.where(jnp.isnan(u), jnp.nan, derivative)


def _warn_of_long_work(plan, at_most):
    directions = plan.all_directions if at_most is None else min(at_most, plan.all_directions)
    flops = plan.flops * directions / plan.all_directions
    if flops > FLOPS_WORTH_A_WARNING:
        logging.getLogger("jaxcam").warning(
            "exact derivatives along %s directions take about %.1e floating-point operations for each activation; "
            "derivatives='sampled' estimates weights from n_locations= of each channel, and derivatives='closed_form' "
            "is the approximation by one backward pass",
            f"{directions:,}", flops,
        )  # fmt: skip


def _check_forward_mode(program):
    if has_custom_vjp_inside(program):
        raise TypeError(
            "f has a custom_vjp inside a scan or a branch: it has no forward mode, which second derivatives need; "
            "write it as a custom_jvp, or use the function inside it"
        )


def _check_where(where, A):
    if where is None or callable(where):
        return
    where = jnp.asarray(where)
    if where.dtype != bool:
        raise TypeError(f"expected a boolean mask for where, got {where.dtype}: write where=u1 > 0 or the like")
    if where.shape != A.shape:
        raise ValueError(f"expected a mask of A's shape {A.shape} for where, got {where.shape}")


def _check_arguments(f, A, batch_size):
    if not jnp.issubdtype(A.dtype, jnp.floating):
        raise TypeError(f"A is {A.dtype}: derivatives along its elements need real floats, float32 or float64")
    if A.size == 0:
        raise ValueError(f"A has shape {A.shape}: it has no elements")
    if batch_size is not None and (not isinstance(batch_size, int | np.integer) or batch_size < 1):
        raise ValueError(f"expected an integer of at least 1 for batch_size, got {batch_size!r}")
    result = jax.eval_shape(f, A)
    shape = getattr(result, "shape", None)
    if shape != () or not jnp.issubdtype(result.dtype, jnp.floating):
        description = type(result).__name__ if shape is None else f"{result.dtype}{list(shape)}"
        raise TypeError(f"expected one real float for f(A), such as score(head(A), target), got {description}")
