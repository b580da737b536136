"""What can be proved about a function's linearity while it is traced, before any number is computed.

The closed form of the second and third derivatives is exact if the head is affine in A near A. `certify` proves that,
or names the primitives that stop it. It traces the function and gives every value of the program a level:

- `CONSTANT`: does not depend on A.
- `STEP`: locally constant, such as a comparison, an argmax, the mask of a relu.
- `AFFINE`: affine in A everywhere.
- `PIECEWISE`: affine near almost every A: relu, max pooling, abs, sort.
- `SMOOTH`: anything else, and anything unknown.

`_program.py` decides the level of each value; this file asks for it.

The proof is sound before it is complete. A primitive that jaxcam does not know counts as smooth, so a smooth function
is never certified, but a piecewise affine function that is written in an unusual way may be refused.

    >>> import jax, jax.numpy as jnp
    >>> A = jnp.ones([4, 4, 8])
    >>> certify(lambda A: jax.nn.relu(A).sum((0, 1)), A).affine
    True
    >>> print(certify(lambda A: jax.lax.stop_gradient(A).sum(), A))
    locally constant in A [4 4 8]: every derivative is zero behind stop_gradient of [4 4 8]
    >>> print(certify(lambda A: jax.nn.silu(A @ jnp.ones([8, 3])).sum(), A))
    not locally affine in A [4 4 8]: 1 primitive stops it
      logistic of [4 4 3], in silu
    frontier, the affine values that these read: [4 4 3]
"""

import collections
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxcam.derivatives._program import Level, Stop, _shape, join, trace


class Certificate(NamedTuple):
    """The result of `certify`.

    Attributes:
      level: of the function's result; the highest of them if it has several.
      argument: the argument's shapes.
      stops: the first smooth primitive on each smooth path from A, with the shapes of its operands. Empty if `affine`.
      frontier: the shapes of the affine values that those primitives read.
      halts: the primitives behind which nothing changes with A near A, such as `stop_gradient`, `round` and `argmax`.
        Other paths may go round them, unless `locally_constant`.
    """

    level: Level
    argument: tuple[tuple[int, ...], ...]
    stops: tuple[Stop, ...]
    frontier: tuple[tuple[int, ...], ...]
    halts: tuple[Stop, ...] = ()

    @property
    def affine(self) -> bool:
        """Whether the function is affine near almost every A. Its second and third derivatives are zero there."""
        return self.level <= Level.PIECEWISE

    @property
    def affine_everywhere(self) -> bool:
        """Whether the function is affine everywhere, without pieces."""
        return self.level in (Level.CONSTANT, Level.AFFINE)

    @property
    def locally_constant(self) -> bool:
        """Whether every derivative is zero: f does not read A, or every path from A passes one of `halts`."""
        return self.level <= Level.STEP

    def as_dict(self) -> dict[str, Any]:
        """The verdict, stops and frontier, ready for JSON."""
        return {
            "locally_affine": self.affine,
            "locally_constant": self.locally_constant,
            "halts": [str(halt) for halt in self.halts],
            "stops": [str(stop) for stop in self.stops],
            "frontier": [list(shape) for shape in self.frontier],
        }

    def __str__(self) -> str:
        A = "A " + ", ".join(_shape(shape) for shape in self.argument)
        if self.affine:
            verdicts = {
                Level.CONSTANT: f"constant in {A}",
                Level.STEP: f"locally constant in {A}: every derivative is zero behind {self.halts_text()}",
                Level.AFFINE: f"affine in {A}, everywhere",
                Level.PIECEWISE: f"locally affine in {A}",
            }
            return verdicts[self.level]
        return self._stops_text(A)

    def halts_text(self) -> str:
        """The primitives of `halts`, for messages; a comparison if there are none but comparisons."""
        return ", ".join(dict.fromkeys(map(str, self.halts))) or "a comparison"

    def _stops_text(self, A):
        count = f"{len(self.stops)} primitives stop" if len(self.stops) != 1 else "1 primitive stops"
        lines = [f"not locally affine in {A}: {count} it"]
        for stop, times in collections.Counter(map(str, self.stops)).items():
            lines.append(f"  {stop}" + (f" ({times} times)" if times > 1 else ""))
        lines.append("frontier, the affine values that these read: " + ", ".join(map(_shape, self.frontier)))
        return "\n".join(lines)


def certify(f: Callable[[Any], Any], A: Any) -> Certificate:
    """Whether f is locally affine in A, proved at trace time, and which primitives stop it if it is not.

    jit, remat, custom_jvp and custom_vjp are entered. A custom rule must be affine as well, because JAX differentiates
    the rule. scan, while and cond are entered, too; which branch is taken is locally constant.

    Args:
      f: from `A` to an array or a pytree of arrays.
      A: the argument, an array or a pytree of arrays. `jax.ShapeDtypeStruct` is enough: nothing is computed.

    Returns:
      A `Certificate` with `.affine`, `.affine_everywhere`, `.stops` and `.frontier`. It prints as a short report.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> head = lambda A: jax.nn.gelu(A.reshape(-1) @ jnp.ones([18, 5])) @ jnp.ones([5, 2])
      >>> certificate = certify(head, jnp.ones([3, 3, 2]))
      >>> certificate.affine, certificate.frontier
      (False, ((5,),))
    """
    program = trace(f, A)
    return Certificate(
        join(*(program.levels[out] for out in program.outputs)),
        tuple(program.avals[v].shape for v in program.inputs),
        program.stops,
        tuple(program.avals[v].shape for v in program.frontier),
        program.halts,
    )
