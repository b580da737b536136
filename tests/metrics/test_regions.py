"""Inside over outside, Loc(delta) and the pointing game with rejection, beside loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam import metrics

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(7,), (5, 6), (3, 4, 5)])
def test_beside_loops(shape):
    saliency = RNG.uniform(size=shape).astype(np.float32)
    mask, ignore = RNG.uniform(size=shape) > 0.5, RNG.uniform(size=shape) > 0.8
    inside = [v for v, m, i in zip(saliency.flat, mask.flat, ignore.flat, strict=True) if m and not i]
    outside = [v for v, m, i in zip(saliency.flat, mask.flat, ignore.flat, strict=True) if not m and not i]
    ratio = metrics.inside_over_outside(saliency, mask, ignore=ignore)
    np.testing.assert_allclose(ratio, np.mean(inside) / np.mean(outside), rtol=1e-5)
    low, high = min(inside + outside), max(inside + outside)
    for delta in (0.0, 0.25, 0.5):
        bright_inside, bright_outside = (
            sum((v - low) / (high - low) > delta for v in values) for values in (inside, outside)
        )
        np.testing.assert_allclose(
            metrics.loc(saliency, mask, threshold=delta, ignore=ignore),
            bright_inside / (len(inside) + bright_outside), rtol=1e-6,
        )  # fmt: skip


def test_their_extremes():
    mask = jnp.array([True, False, False])
    assert metrics.inside_over_outside(jnp.zeros(3), mask) == 0
    assert metrics.inside_over_outside(jnp.array([1.0, 0, 0]), mask) == jnp.inf
    assert jnp.isnan(metrics.inside_over_outside(jnp.ones(3), mask & False))
    assert metrics.loc(jnp.array([1.0, 0, 0]), mask) == 1 and metrics.loc(jnp.ones(3), mask) == 0
    with pytest.raises(ValueError, match=r"expected a threshold in 0\.\.1, got 2"):
        metrics.loc(jnp.ones(3), mask, threshold=2)


@pytest.mark.parametrize(
    ("present", "top", "expected"), [(True, 0.9, 1.0), (True, 0.3, 0.0), (False, 0.9, 0.0), (False, 0.3, 1.0)]
)
def test_pointing_or_rejection(present, top, expected):
    saliency, mask = jnp.array([0.1, top, 0.0]), jnp.array([False, present, False])
    score = lambda saliency, mask: metrics.pointing_or_rejection(saliency, mask, reject_below=0.5)
    assert score(saliency, mask) == expected
    assert jax.vmap(score)(saliency[None], mask[None])[0] == expected
    if present and top > 0.5:
        assert score(saliency, jnp.roll(mask, 1)) == 0
