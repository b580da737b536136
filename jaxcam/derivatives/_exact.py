"""First, second and third derivative of the score at every location of the feature map.

For each element n of A, with e_n its unit direction, u1, u2 and u3 are the derivatives of t -> u(A + t e_n) at 0: the
diagonals of the gradient, the Hessian and the third-derivative tensor, each of A's shape.

`exact` gives them for any function, and `brute_force` gives them slowly, as the oracle.

The **closed form** takes the outputs to be affine in A near A, as they are in a piecewise linear (relu) network: then
outputs(A + t e_n) = outputs + t J_n, and the derivatives are those of the *score alone* along column J_n of the
Jacobian. It is exact for every score there, softmax included; for a smooth network (gelu, silu) it is an approximation.
"""

import functools
import logging
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base import progress
from jaxcam.derivatives._link import Derivatives
from jaxcam.derivatives._plan import custom_vjp_inside, forward_only
from jaxcam.derivatives._plan import plan as plan_of
from jaxcam.derivatives._program import Level, trace
from jaxcam.derivatives._taylor import along_all
from jaxcam.tracing import evaluate, typed_as

UNITS_AT_A_TIME = 128
FLOPS_WORTH_A_WORD = 1e11  # from about half a second on two cores, more where memory is the limit


def exact(f: Callable[[jax.Array], jax.Array], A: jax.Array, *, batch_size: int | None = None) -> Derivatives:
    """The derivatives of any scalar function of A at every location, exact to rounding.

    Where `jaxcam.certify(f, A)` proves f locally affine: one backward pass, u2 = u3 = 0. Elsewhere Taylor coefficients
    are pushed through what follows the affine part, `batch_size` directions at a time: `jaxcam.taylor` says how, and
    `jaxcam.plans` along which.

    As JAX differentiates: a custom_jvp's own rule counts; through a custom_vjp, which has no forward mode, u2 and u3
    are those of the function inside. A while loop has no reverse mode: there it is `brute_force`. At kinks (relu at 0,
    ties in max pooling) they are those of `brute_force`, too.

    It can be called under jit, vmap and grad. Outside jit it shows a progress bar where the work is long; it compiles
    anew at every call, so for many activations jit a function of A and of the parameters.

    Args:
      f: from the activation `[*spatial k]` to a scalar: `lambda A: score(head(A), target)`.
      A: the activation, floats.
      batch_size: directions at a time; chosen by size where absent. The memory knob.

    Returns:
      `Derivatives(u, u1, u2, u3)`.

    Raises:
      TypeError: A is not floats, f's result is not one float, or f has a custom_vjp inside a scan or a branch.
      ValueError: A has no elements, or batch_size is below 1.

    Example:
      >>> u, u1, u2, u3 = exact(lambda A: jnp.tanh(A).sum(), jnp.array([[0.0, 1.0]]))
      >>> u1[0, 0].item(), u2[0, 0].item(), u3[0, 0].item()
      (1.0, 0.0, -2.0)
    """
    A = _checked(f, A, batch_size)
    program = trace(f, A)
    if custom_vjp_inside(program):
        raise TypeError(
            "f has a custom_vjp inside a scan or a branch: it has no forward mode, which second derivatives need; "
            "write it as a custom_jvp, or use the function inside it"
        )
    if forward_only(program):
        # The program, and not f: it has every custom_vjp written out.
        return brute_force(lambda A: _value(program, A), A, batch_size=batch_size)
    u, u1 = jax.value_and_grad(f)(A)
    if program.levels[program.outputs[0]] <= Level.PIECEWISE:
        return Derivatives(u, u1, jnp.zeros_like(u1), jnp.zeros_like(u1))
    plan = plan_of(program, batch_size)

    def push(constants, A, advance=None):
        values = evaluate(program.steps, {**constants, program.inputs[0]: A})
        return along_all(plan, values, progress=advance)

    if any(isinstance(value, jax.core.Tracer) for value in (A, *program.constants.values())):
        if plan.flops > FLOPS_WORTH_A_WORD:
            logging.getLogger("jaxcam").warning(
                "exact derivatives along %s directions take about %.1e floating-point operations for each activation; "
                "derivatives='closed_form' is the approximation by one backward pass",
                f"{plan.directions:,}", plan.flops,
            )  # fmt: skip
        u2, u3 = push(program.constants, A)
    else:
        label = f"exact derivatives along {plan.directions:,} directions"
        with progress.bar(label, -(-plan.directions // plan.size), flops=plan.flops) as advance:
            # Constants as arguments: a VGG-16's weights inside the program would take seconds to compile.
            u2, u3 = jax.jit(functools.partial(push, advance=advance))(program.constants, A)
            jax.block_until_ready(u2)
            jax.effects_barrier()  # the bar's last steps
    # Where u is NaN, directions that reach nothing would stay zero.
    u2, u3 = (jnp.where(jnp.isnan(u), jnp.nan, each).astype(A.dtype) for each in (u2, u3))
    return Derivatives(u, u1, u2, u3)


def brute_force(f: Callable[[jax.Array], jax.Array], A: jax.Array, *, batch_size: int | None = None) -> Derivatives:
    """The derivatives by three nested `jvp` of the whole function along every unit direction: slow, and the oracle.

    As an oracle it wants float64: in float32 three nested `jvp` of gelu in its tanh form, for one, lose every digit of
    u3 where its argument is far from zero. It shares no code with the fast way, and costs about 8 evaluations of f for
    each element of A. A function with a custom_vjp has no forward mode: JAX raises. `exact` turns here for a function
    with a while loop, which has no reverse mode.

    Args:
      f: as in `exact`.
      A: as in `exact`.
      batch_size: directions at a time; 128 where absent.

    Example:
      >>> u, u1, u2, u3 = brute_force(lambda A: (A**3).sum(), jnp.array([[1.0, 2.0]]))
      >>> u1[0].tolist(), u2[0].tolist(), u3[0].tolist()
      ([3.0, 12.0], [6.0, 12.0], [6.0, 6.0])
    """
    A = _checked(f, A, batch_size)

    def along(n):
        direction = typed_as(jax.nn.one_hot(n, A.size, dtype=A.dtype).reshape(A.shape), A)

        def d(f):
            return lambda A: jax.jvp(f, (A,), (direction,))

        (_, (_, u2)), ((u1, _), (_, u3)) = d(d(d(f)))(A)
        return u1, u2, u3

    u1, u2, u3 = jax.lax.map(along, jnp.arange(A.size), batch_size=min(A.size, batch_size or UNITS_AT_A_TIME))
    return Derivatives(f(A), *(each.reshape(A.shape) for each in (u1, u2, u3)))


def _value(program, A):
    return evaluate(program.steps, {**program.constants, program.inputs[0]: A})[program.outputs[0]]


def _checked(f, A, batch_size):
    A = jnp.asarray(A)
    if not jnp.issubdtype(A.dtype, jnp.floating):
        raise TypeError(f"A is {A.dtype}: derivatives along its elements need real floats, float32 or float64")
    if A.size == 0:
        raise ValueError(f"A has shape {A.shape}: it has no elements")
    if batch_size is not None and (not isinstance(batch_size, int | np.integer) or batch_size < 1):
        raise ValueError(f"batch_size is {batch_size!r}: an integer of at least 1 is wanted")
    out = jax.eval_shape(f, A)
    shape = getattr(out, "shape", None)
    if shape != () or not jnp.issubdtype(out.dtype, jnp.floating):
        found = type(out).__name__ if shape is None else f"{out.dtype}{list(shape)}"
        raise TypeError(f"f(A) is {found}: one real float is wanted, such as score(head(A), target)")
    return A
