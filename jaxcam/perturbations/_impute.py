"""Noisy linear imputation: pixels that were removed, filled in from those around them.

Every removed pixel is to be the weighted mean of its neighbours, removed ones among them: a linear system, with as many
unknowns as there are removed pixels. Conjugate gradients solve it, preconditioned by multigrid V-cycles on a pyramid of
ever coarser images, in a few steps whatever the size and shape of what was removed.

    >>> import jax, jax.numpy as jnp
    >>> ramp = jnp.broadcast_to(jnp.linspace(0, 1, 32)[:, None, None], (32, 32, 1))
    >>> removed = jnp.zeros([32, 32], bool).at[8:20, 8:20].set(True)
    >>> filled = impute(jnp.where(removed[..., None], 5.0, ramp), removed, jax.random.key(0), noise=0.0)
    >>> bool(jnp.abs(filled - ramp).max() < 1e-3)
    True
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Of the known pixels' range: where the steps end. The last of them is still added, and takes most of that away.
TOLERANCE = 3e-4
AT_MOST = 30
COARSEST = 4


class Level(NamedTuple):
    """One image of the pyramid, `[1 h w]` each: the pixels that are unknown, as 1, and the diagonal of the system."""

    unknown: jax.Array
    diagonal: jax.Array


def impute(
    image: jax.Array | np.ndarray, removed: jax.Array | np.ndarray, key: jax.Array, *, noise: jax.Array | float = 0.01
) -> jax.Array:
    """The image with each removed pixel the weighted mean of its neighbours, and noise: sum_j w_j (x - x_j) = 0.

    w is 1/6 for the four direct neighbours and 1/12 for the four diagonal ones; at the image's border those inside
    count, renormalised. Where everything is removed, all is the image's mean.

    Args:
      image: `[h w c]`, floats. What stands at removed pixels does not matter, unless all are removed.
      removed: `[h w]`, booleans.
      key: of the noise, `jax.random.key(0)`.
      noise: the standard deviation of the normal noise that is added to removed pixels, in the image's units.

    Returns:
      `[h w c]`, equal to the image where nothing is removed. The system is solved to a few 1e-4 of the range of the
      known pixels, at most 1e-3.

    Raises:
      ValueError: shapes that do not fit.

    Rong et al., "A consistent and efficient evaluation strategy for attribution methods", ICML 2022: noisy linear
    imputation.

    Example:
      >>> image = jnp.array([[[0.0], [9.0], [3.0]]])
      >>> jnp.round(impute(image, jnp.array([[False, True, False]]), jax.random.key(0), noise=0.0), 4).ravel().tolist()
      [0.0, 1.5, 3.0]
    """
    image, removed = jnp.asarray(image), jnp.asarray(removed).astype(bool)
    if image.ndim != 3 or removed.shape != image.shape[:2]:
        raise ValueError(f"image has shape {image.shape} and removed {removed.shape}: [h w c] and [h w] are wanted")
    normal = jax.random.normal(key, image.shape, image.dtype)
    filled = _filled(image, removed) + jnp.asarray(noise).astype(image.dtype) * normal
    return jnp.where(removed[..., None], filled, image)


@jax.jit
def _filled(image, removed):
    wide = jnp.promote_types(image.dtype, jnp.float32)
    x = jnp.moveaxis(image, -1, 0).astype(wide)
    known = (~removed).astype(wide)[None]
    shift = jnp.where(removed.all(), x.mean((1, 2)), (known * x).sum((1, 2)) / jnp.maximum(known.sum(), 1))
    # About their mean, as a few known pixels pin many others, and rounding is a share of what is added.
    x = known * (x - shift[:, None, None])
    tolerance = TOLERANCE * jnp.ptp(x)
    solved = _conjugate_gradients(_pyramid(1 - known), _guess(x, known), tolerance)
    return jnp.moveaxis(solved + shift[:, None, None], 0, -1).astype(image.dtype)


def _conjugate_gradients(pyramid, x, tolerance):
    """The solution of `_apply(x) = 0` at the unknown pixels, for each channel of `[c h w]`; known ones stay."""

    def dot(a, b):
        return (a * b).sum((1, 2), keepdims=True)

    def ratio(a, b):
        return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)

    def goes_on(state):
        step, _, _, correction, _, _ = state
        return (step < AT_MOST) & (jnp.abs(correction).max() > tolerance)

    def advance(state):
        step, x, residual, _, direction, size = state
        image = _apply(pyramid[0], direction)
        length = ratio(size, dot(direction, image))
        x, residual = x + length * direction, residual - length * image
        correction = _v_cycle(pyramid, residual)
        new_size = dot(residual, correction)
        return step + 1, x, residual, correction, correction + ratio(new_size, size) * direction, new_size

    residual = -_apply(pyramid[0], x)
    correction = _v_cycle(pyramid, residual)
    state = jnp.int32(0), x, residual, correction, correction, dot(residual, correction)
    _, x, _, correction, _, _ = jax.lax.while_loop(goes_on, advance, state)
    return x + correction


def _pyramid(unknown):
    """The levels, from the finest.

    The system keeps its weights from level to level, as two dimensions want; a known pixel stays as what binds the
    unknown ones around it to zero, on the diagonal.
    """
    levels, binding = [], jnp.zeros_like(unknown)
    while True:
        levels.append(Level(unknown, _blur(jnp.ones_like(unknown)) + binding))
        if max(unknown.shape) <= COARSEST:
            return levels
        binding = _down(unknown * (_blur(1 - unknown) + binding))
        unknown = (_down(unknown) > 0).astype(unknown.dtype)


def _apply(level, x):
    """sum_j w_j (x - x_j), and what binds x to zero; zero at known pixels."""
    return level.unknown * (level.diagonal * x - _blur(x))


def _v_cycle(pyramid, residual):
    """Nearly the solution of `_apply(x) = residual`, from zero; symmetric, as conjugate gradients want."""
    level, *coarser = pyramid
    # A third is a pixel's own part of the blur; what is left is at least a sixth, but for an image of one pixel.
    scale = level.unknown / jnp.maximum(level.diagonal - 1 / 3, 1 / 12)
    x = scale * residual
    if coarser:
        x = x + level.unknown * _up(_v_cycle(coarser, _down(residual - _apply(level, x))), x.shape)
    else:
        for _ in range(2 * COARSEST):
            x = x + scale * (residual - _apply(level, x))
    return x + scale * (residual - _apply(level, x))


def _guess(x, known):
    """The unknown pixels from ever coarser means of the known ones."""
    if max(known.shape) == 1:
        return x / jnp.maximum(known, 1)
    total = _down(known)
    coarse = _guess(_down(x) / jnp.maximum(total, 1), jnp.minimum(total, 1))
    return x + (1 - known) * _up(coarse, x.shape)


def _blur(x):
    """[1 2 1] along both axes, a twelfth of it, with zeros beyond the border: all w_j x_j, and x / 3."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1)))
    x = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]
    return (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 12


def _up(x, shape):
    """Twice as fine, bilinearly, at `[* h w]`."""
    *_, h, w = shape
    before = jnp.concatenate([x[:, :1], x[:, :-1]], 1)
    after = jnp.concatenate([x[:, 1:], x[:, -1:]], 1)
    rows = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], 2)
    rows = rows.reshape(x.shape[0], -1, x.shape[2])[:, :h]
    # A matrix along the other axis: XLA would otherwise compute the levels of the pyramid anew inside each other.
    return jnp.matmul(rows, jnp.asarray(_finer(w), x.dtype), precision="highest")


def _down(x):
    """Twice as coarse, the transpose of `_up`: a pixel has the sum of four, with overlap."""
    c, h, w = x.shape
    coarse = jax.ShapeDtypeStruct((c, -(-h // 2), -(-w // 2)), x.dtype)
    (found,) = jax.linear_transpose(functools.partial(_up, shape=x.shape), coarse)(x)
    return found


def _finer(width):
    """The matrix of `_up` along a row, `[ceil(width / 2) width]`."""
    same = np.eye(-(-width // 2))
    before, after = np.vstack([same[:1], same[:-1]]), np.vstack([same[1:], same[-1:]])
    matrix = np.stack([0.75 * same + 0.25 * before, 0.75 * same + 0.25 * after], 1).reshape(-1, len(same))
    return matrix[:width].T
