"""TODO."""

import jax
import jax.numpy as jnp
import numpy as np

KINK = 0.01


def _locations(A, u1, count, key):
    # Zeros of a relu are ties of a max pooling: hardly one of them is off a kink.
    alive = jnp.flatnonzero((u1.ravel() != 0) & (A.ravel() != 0))
    alive = alive if alive.size else jnp.arange(u1.size)
    return np.asarray(jax.random.choice(key, alive, (min(count, alive.size),), replace=False))


def _finite_differences(cut, image, A, score, target, at):
    """u along each location at 0, +-h/2, +-h, +-2h, and the gradient there, in float64: `(h, u [n 7], u1 [n 7])`.

    The second and third derivatives are differences of gradients: those of u itself would be lost in its rounding.
    """
    with jax.enable_x64(True):
        wide = jax.tree.map(_float64, (cut.params, np.asarray(image), np.asarray(A)))
        h = 1e-3 * float(np.sqrt((np.asarray(A, np.float64) ** 2).mean())) or 1e-3
        steps = h * jnp.array([-2, -1, -0.5, 0, 0.5, 1, 2], jnp.float64)

        def walk(params, image, A, n):
            def u(t):
                moved = A.ravel().at[n].add(t).reshape(A.shape)
                return score(cut.head(params, moved, image), target)

            return jax.lax.map(jax.value_and_grad(u), steps)

        walk_all = jax.jit(lambda params, image, A, at: jax.lax.map(lambda n: walk(params, image, A, n), at))
        u, u1 = walk_all(*wide, jnp.asarray(at))
        return h, np.asarray(u), np.asarray(u1)


def _float64(x):
    return jnp.asarray(x, jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x
