"""The presets of `jaxcam.compat` against each peer's formula in NumPy loops, and that they differ from the paper's.

`test_compat_peers.py` runs the peers themselves.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.formulas import compat


def case(spatial, scale, seed=0):
    """Activations after a relu, a score, and gradients of that scale, of both signs, some of them zero."""
    rng = np.random.default_rng(seed)
    A = np.maximum(rng.normal(0.2, 1.0, (*spatial, 6)), 0)
    g = scale * rng.normal(0.3, 1.0, A.shape) * (rng.random(A.shape) > 0.2)
    return A, 2.5, g


def places(A):
    return list(itertools.product(*map(range, A.shape[:-1])))


def combined(A, weights):
    """relu(sum_k w_k A^k)."""
    found = np.zeros(A.shape[:-1])
    for place in places(A):
        found[place] = max(0.0, sum(weights[k] * A[(*place, k)] for k in range(A.shape[-1])))
    return found


def min_max(found, epsilon):
    return (found - found.min()) / ((found - found.min()).max() + epsilon)


def paper(A, u, g):
    weights = []
    for k in range(A.shape[-1]):
        S, weight = sum(A[(*p, k)] for p in places(A)), 0.0
        for p in places(A):
            x = g[(*p, k)]
            denominator = 2 * x**2 + S * x**3
            weight += 0.0 if denominator == 0 else x**2 / denominator * max(x, 0.0)
        weights.append(weight)
    return combined(A, weights)


def pytorch_grad_cam(A, u, g):
    weights = []
    for k in range(A.shape[-1]):
        S, weight = sum(A[(*p, k)] for p in places(A)), 0.0
        for p in places(A):
            x = g[(*p, k)]
            if x > 0:
                weight += x * x**2 / (2 * x**2 + S * x**3 + 1e-6)
        weights.append(weight)
    return min_max(min_max(combined(A, weights), 1e-7), 1e-7)


def tf_keras_vis(A, u, g):
    weights = []
    for k in range(A.shape[-1]):
        S, alphas = sum(A[(*p, k)] for p in places(A)), {}
        for p in places(A):
            Y2, Y3 = np.exp(u) * g[(*p, k)] ** 2, np.exp(u) * g[(*p, k)] ** 3
            alphas[p] = Y2 / (2 * Y2 + S * Y3 + (Y2 == 0))
        total = sum(alphas.values())
        total = 1.0 if total == 0 else total
        weights.append(sum(alphas[p] / total * max(np.exp(u) * g[(*p, k)], 0.0) for p in places(A)))
    found = combined(A, weights)
    return (found - found.min()) / (found.max() - found.min() + 1e-7)


def xplique(A, u, g):
    weights = []
    for k in range(A.shape[-1]):
        mean, sum_ = sum(A[(*p, k)] for p in places(A)) / len(places(A)), 0.0
        for p in places(A):
            x = g[(*p, k)]
            denominator = 2 * x**2 + mean * x**3
            sum_ += x**2 / (1e-4 if denominator == 0 else denominator) * max(x, 0.0)
        weights.append(sum_ / len(places(A)))
    return combined(A, weights)


def torch_cam(A, u, g):
    weights = [sum(max(g[(*p, k)], 0.0) ** 3 for p in places(A)) for k in range(A.shape[-1])]
    return min_max(combined(A, weights), 1e-8)


def original(A, u, g):
    weights = []
    for k in range(A.shape[-1]):
        S, alphas = sum(A[(*p, k)] for p in places(A)), {}
        for p in places(A):
            Y2, Y3 = np.exp(u) * g[(*p, k)] ** 2, np.exp(u) * g[(*p, k)] ** 3
            denominator = 2 * Y2 + S * Y3
            alphas[p] = Y2 / (1.0 if denominator == 0 else denominator)
        weights.append(sum(alphas[p] / sum(alphas.values()) * max(np.exp(u) * g[(*p, k)], 0.0) for p in places(A)))
    found = combined(A, weights)
    return found / found.max()


LOOPS = {
    "pytorch-grad-cam": pytorch_grad_cam, "tf-keras-vis": tf_keras_vis, "xplique": xplique, "torch-cam": torch_cam,
    "original": original,
}  # fmt: skip


def test_every_peer_is_tested():
    assert set(LOOPS) == set(compat.PEERS)


@pytest.mark.parametrize("spatial", [(5, 4), (7,), (2, 3, 2)])
@pytest.mark.parametrize("peer", compat.PEERS)
def test_formula(peer, spatial, x64):
    compiled = jax.jit(compat.grad_cam_pp, static_argnums=0)
    for scale in (1.0, 1e-3):
        A, u, g = case(spatial, scale)
        found = compiled(peer, jnp.array(A), jnp.array(u), jnp.array(g))
        wanted = LOOPS[peer](A, u, g)
        assert found.shape == spatial
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9 * wanted.max())


@pytest.mark.parametrize(
    "peer, scale, least",
    [
        ("pytorch-grad-cam", 1e-4, 0.04), ("tf-keras-vis", 1.0, 0.1), ("xplique", 1.0, 0.1), ("torch-cam", 1.0, 0.1),
        ("original", 1.0, 0.1),
    ],
)  # fmt: skip
def test_the_deviation_from_the_paper_is_real(peer, scale, least):
    """Both maps scaled to 0..1 differ somewhere by more than this, where channels differ in size."""
    A, u, g = case((5, 4), scale)
    A, g = (A + 0.5) * 3.0 ** np.arange(-3, 3), np.abs(g)  # no denominator near zero, which would magnify anything
    found = np.asarray(compat.grad_cam_pp(peer, *map(jnp.float32, (A, u, g))))
    difference = np.abs(min_max(found, 0) - min_max(paper(A, u, g), 0)).max()
    print(f"\n{peer}: {difference:.3f}")
    assert difference > least


def test_pytorch_grad_cam_is_the_papers_for_large_gradients():
    """Its only deviation is the epsilon."""
    A, u, g = case((5, 4), 10.0)
    found = np.asarray(compat.grad_cam_pp("pytorch-grad-cam", *map(jnp.float32, (A, u, g))))
    np.testing.assert_allclose(found, min_max(paper(A, u, g), 0), rtol=0, atol=1e-5)


def test_degenerate_cases_are_the_peers_own():
    A, u, g = (jnp.float32(x) for x in case((5, 4), 0.1))

    def nan(A, u, g):
        return {peer for peer in compat.PEERS if np.isnan(compat.grad_cam_pp(peer, A, u, g)).any()}

    assert nan(A, u, g) == set()
    assert nan(A, jnp.float32(100), g) == {"tf-keras-vis", "original"}  # e^u overflows
    assert nan(A, u, g.at[..., 2].set(0)) == {"original"}  # one channel without gradient
    assert nan(A, u, -jnp.abs(g)) == {"original"}  # an all-negative map
    assert nan(jnp.zeros_like(A), u, g) == {"original"}
    for peer in ("pytorch-grad-cam", "tf-keras-vis", "torch-cam", "xplique"):
        assert (compat.grad_cam_pp(peer, A, u, -jnp.abs(g)) == 0).all()
    assert (compat.grad_cam_pp("tf-keras-vis", A, jnp.float32(-200), g) == 0).all()  # e^u underflows


@pytest.mark.parametrize("peer", compat.PEERS)
def test_bfloat16_stays(peer):
    A, u = jax.ShapeDtypeStruct((5, 4, 6), jnp.bfloat16), jax.ShapeDtypeStruct((), jnp.float32)
    found = jax.eval_shape(lambda A, u, g: compat.grad_cam_pp(peer, A, u, g), A, u, A)
    assert (found.shape, found.dtype) == ((5, 4), jnp.bfloat16)


def test_an_unknown_peer_is_refused():
    with pytest.raises(ValueError, match="compat is 'captum': choose one of pytorch-grad-cam, tf-keras-vis"):
        compat.grad_cam_pp("captum", jnp.ones([2, 2, 1]), jnp.ones([]), jnp.ones([2, 2, 1]))
