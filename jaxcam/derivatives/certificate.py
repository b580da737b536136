"""TODO."""

import collections
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxcam.derivatives._program import Level, Stop, _shape, join, trace


class Certificate(NamedTuple):
    """What `certify` found.

    Attributes:
      level: of the function's result.
      argument: the argument's shapes.
      stops: the first smooth primitives on each way, with the shapes that they read; none where it is affine.
      frontier: shapes of the affine values that those read: all that the rest of the function knows of A.
    """

    level: Level
    argument: tuple[tuple[int, ...], ...]
    stops: tuple[Stop, ...]
    frontier: tuple[tuple[int, ...], ...]

    @property
    def affine(self) -> bool:
        """Whether the function is affine near almost every A: second and third derivatives are zero there."""
        return self.level <= Level.PIECEWISE

    @property
    def affine_everywhere(self) -> bool:
        """Whether it is one affine function, without pieces."""
        return self.level in (Level.CONSTANT, Level.AFFINE)

    def as_dict(self) -> dict[str, Any]:
        """As lists and words, ready for JSON."""
        return {
            "locally_affine": self.affine,
            "stops": [str(stop) for stop in self.stops],
            "frontier": [list(shape) for shape in self.frontier],
        }

    def __str__(self) -> str:
        A = "A " + ", ".join(_shape(shape) for shape in self.argument)
        if self.affine:
            how = {
                Level.CONSTANT: f"constant in {A}",
                Level.STEP: f"locally constant in {A}: every derivative is zero",
                Level.AFFINE: f"affine in {A}, everywhere",
                Level.PIECEWISE: f"locally affine in {A}",
            }
            return how[self.level]
        count = f"{len(self.stops)} primitives stop" if len(self.stops) != 1 else "1 primitive stops"
        lines = [f"not locally affine in {A}: {count} it"]
        for stop, times in collections.Counter(map(str, self.stops)).items():
            lines.append(f"  {stop}" + (f" ({times} times)" if times > 1 else ""))
        lines.append("frontier, the affine values that these read: " + ", ".join(map(_shape, self.frontier)))
        return "\n".join(lines)


def certify(f: Callable[[Any], Any], A: Any) -> Certificate:
    """Whether f is locally affine in A, proved at trace time; if not, which primitives stop it.

    jit, remat, custom_jvp and custom_vjp are entered: a custom rule must be affine as well, as it is the rule that JAX
    differentiates. So are scan, while and cond, where the branch taken is locally constant.

    Args:
      f: from `A` to an array, or a pytree of arrays.
      A: the argument, or its shape and dtype: an array or a pytree of them. Nothing is computed.

    Returns:
      A `Certificate`: `.affine`, `.affine_everywhere`, and where it is not, `.stops` and `.frontier`. It prints as a
      short report.

    Example:
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
    )
