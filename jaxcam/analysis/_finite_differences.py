"""Finite differences in float64, which share no code with the derivatives that they check.

The second and third derivatives are differences of gradients. Differences of u itself would be lost in its rounding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base.types import Image, Score
from jaxcam.cutting import Cut

# The step, as a share of the root mean square of the activation.
RELATIVE_STEP = 1e-3
# The points along a location, in steps: those of a coarse and of a fine difference.
POINTS = (-2, -1, -0.5, 0, 0.5, 1, 2)
CENTER, COARSE, FINE = 3, ((1, 5), (0, 6)), ((2, 4), (1, 5))
# Estimates of a derivative that differ by more than this share of its size have a kink within the step.
KINK = 0.01


class Walk(NamedTuple):
    """u and its derivative along each of n locations, at seven points of the location.

    Attributes:
      step: the unit of the points.
      u: `[n 7]`.
      u1: `[n 7]`.
    """

    step: float
    u: np.ndarray
    u1: np.ndarray


class Estimates(NamedTuple):
    """Y1, Y2 and Y3 at n locations by finite differences, `[n]` each.

    Attributes:
      fine: with half a step.
      coarse: with a whole step.
    """

    fine: tuple[np.ndarray, ...]
    coarse: tuple[np.ndarray, ...]

    def is_smooth(self, sizes: Sequence[float]) -> np.ndarray:
        """Whether u is smooth within the step of each location, `[n]`: half the step gives the same derivatives.

        Args:
          sizes: the largest |Y1|, |Y2| and |Y3|.
        """
        pairs = zip(self.fine, self.coarse, sizes, strict=True)
        return np.all([abs(fine - coarse) <= KINK * size for fine, coarse, size in pairs], axis=0)


def sample_locations(A: jax.Array, u1: jax.Array, count: int, key: jax.Array) -> np.ndarray:
    """At most `count` indices into the flattened A, drawn at random from the elements with a gradient.

    Zeros of A are left out: after a relu they are ties of a max pooling, and nearly all of them lie on a kink.
    """
    candidates = jnp.flatnonzero((u1.ravel() != 0) & (A.ravel() != 0))
    if not candidates.size:
        candidates = jnp.arange(u1.size)
    return np.asarray(jax.random.choice(key, candidates, (min(count, candidates.size),), replace=False))


def walk_along(cut: Cut, image: Image, A: jax.Array, score: Score, target: Any, locations: np.ndarray) -> Walk:
    """u and its gradient at points along each location, in float64."""
    with jax.enable_x64(True):
        params, wide_image, wide_A = jax.tree.map(_to_float64, (cut.params, np.asarray(image), np.asarray(A)))
        target = jax.tree.map(_to_float64, target)
        step = RELATIVE_STEP * float(np.sqrt((np.asarray(A, np.float64) ** 2).mean())) or RELATIVE_STEP

        def walk(params, image, A, location):
            def u(t):
                moved = A.ravel().at[location].add(t).reshape(A.shape)
                return score(cut.head(params, moved, image), target)

            return jax.lax.map(jax.value_and_grad(u), step * jnp.array(POINTS, jnp.float64))

        @jax.jit
        def walk_all(params, image, A, locations):
            return jax.lax.map(lambda location: walk(params, image, A, location), locations)

        u, u1 = walk_all(params, wide_image, wide_A, jnp.asarray(locations))
        return Walk(step, np.asarray(u), np.asarray(u1))


def estimate(walk: Walk, link: str) -> Estimates:
    """The derivatives of Y = link(u) at the locations of a walk, to fourth order in the step."""
    coarse = _derivatives_of_u(walk, *COARSE, walk.step)
    fine = _derivatives_of_u(walk, *FINE, walk.step / 2)
    return Estimates(_through_exp(*fine), _through_exp(*coarse)) if link == "exp" else Estimates(fine, coarse)


def _derivatives_of_u(walk, inner, outer, step):
    """u1, u2 and u3 from the points at +-step, `inner`, and at +-2 step, `outer`."""
    (low, high), (lower, higher) = inner, outer
    u, u1 = walk.u, walk.u1
    first = (8 * (u[:, high] - u[:, low]) - (u[:, higher] - u[:, lower])) / (12 * step)
    second = (8 * (u1[:, high] - u1[:, low]) - (u1[:, higher] - u1[:, lower])) / (12 * step)
    third = (16 * (u1[:, high] + u1[:, low]) - (u1[:, higher] + u1[:, lower]) - 30 * u1[:, CENTER]) / (12 * step**2)
    return first, second, third


def _through_exp(u1, u2, u3):
    """The derivatives of e^u without the factor e^u, which `derivatives.through_link` leaves out, too."""
    return u1, u2 + u1**2, u3 + 3 * u1 * u2 + u1**3


def _to_float64(x):
    is_float = hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating)
    return jnp.asarray(x, jnp.float64) if is_float else x
