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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxcam import convolutions, plans, progress, scores, taylor
from jaxcam.jaxprs import typed_as
from jaxcam.linearity import Level, certify, trace
from jaxcam.noise import even_chunks

LINKS = ("identity", "exp")
COLUMNS_AT_A_TIME = 32
UNITS_AT_A_TIME = 128
FLOPS_WORTH_A_WORD = 1e11  # from about half a second on two cores, more where memory is the limit


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
    if plans.custom_vjp_inside(program):
        raise TypeError(
            "f has a custom_vjp inside a scan or a branch: it has no forward mode, which second derivatives need; "
            "write it as a custom_jvp, or use the function inside it"
        )
    if plans.forward_only(program):
        # The program, and not f: it has every custom_vjp written out.
        return brute_force(lambda A: _value(program, A), A, batch_size=batch_size)
    u, u1 = jax.value_and_grad(f)(A)
    if program.levels[program.outputs[0]] <= Level.PIECEWISE:
        return Derivatives(u, u1, jnp.zeros_like(u1), jnp.zeros_like(u1))
    plan = plans.plan(program, batch_size)

    def push(constants, A, advance=None):
        values = taylor.run(program.steps, {**constants, program.inputs[0]: A})
        return taylor.along_all(plan, values, progress=advance)

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
    return taylor.run(program.steps, {**program.constants, program.inputs[0]: A})[program.outputs[0]]


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


def at_least_float32(x: jax.Array) -> jax.Array:
    """The array in float32, or as it is where it is wider: squares and cubes of half-precision gradients underflow."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


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
    (variance, third), _ = jax.lax.scan(convolutions.for_loops(add), (jnp.zeros_like(u1), jnp.zeros_like(u1)), chunks)
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
    u, u1, u2, u3 = (at_least_float32(d) for d in derivatives)
    if link == "identity":
        return jnp.zeros_like(u), (u1, u2, u3)
    if link == "exp":
        return u, (u1, u2 + u1**2, u3 + 3 * u1 * u2 + u1**3)
    raise ValueError(f"link is {link!r}: choose one of {', '.join(LINKS)}")
