import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam.formulas.maps import weighted_sum

A = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 3)), jnp.float32)
W = jnp.array([1.0, -2.0, 0.5])


def test_the_map_is_the_weighted_sum():
    np.testing.assert_allclose(weighted_sum(A, W), np.maximum(np.asarray(A) @ np.asarray(W), 0), rtol=1e-5, atol=1e-6)


def test_earlier_versions_called_it_saliency():
    assert jaxcam.maps.saliency is jaxcam.maps.weighted_sum is not jaxcam.saliency


def test_permuting_channels_changes_nothing():
    order = jnp.array([2, 0, 1])
    np.testing.assert_allclose(weighted_sum(A[..., order], W[order]), weighted_sum(A, W), rtol=1e-5, atol=1e-6)


def test_filters_are_maps_of_their_own():
    found = weighted_sum(A, W, select=jaxcam.select(filters=[2, 0]))
    wanted = np.maximum(np.stack([A[..., 2] * W[2], A[..., 0] * W[0]]), 0)
    np.testing.assert_allclose(found, wanted)


@pytest.mark.parametrize("corners", [[(1, 2), (2, 4)], [(2, 4), (1, 2)], [(2, 2), (1, 4)]])
def test_a_region_has_both_corners(corners):
    found = weighted_sum(A, W, select=jaxcam.select(region=True, subset=corners))
    wanted = np.zeros((4, 5), np.float32)
    wanted[1:3, 2:5] = weighted_sum(A, W)[1:3, 2:5]
    np.testing.assert_array_equal(found, wanted)


def test_neurons_alone():
    found = weighted_sum(A, W, select=jaxcam.select(subset=[(0, 0), (3, 4)]))
    wanted = np.zeros((4, 5), np.float32)
    for place in ((0, 0), (3, 4)):
        wanted[place] = weighted_sum(A, W)[place]
    np.testing.assert_array_equal(found, wanted)


def test_filters_within_a_region_in_three_dimensions():
    volume = jnp.ones((3, 3, 3, 2))
    selection = jaxcam.select(filters=[1], region=True, subset=[(0, 0, 0), (1, 1, 0)])
    found = weighted_sum(volume, W[:2] ** 2, select=selection)
    assert found.shape == (1, 3, 3, 3) and found.sum() == 4 * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": [3]}, "filter 3 is outside the layer: it has 3, 0..2"),
        ({"filters": [-1]}, "filter -1 is outside the layer"),
        ({"subset": [(0, 5)]}, r"neuron \(0, 5\) is outside the layer: coordinates are 0..3 x 0..4"),
        ({"subset": [(0, 0, 0)]}, r"neuron \(0, 0, 0\) is outside the layer"),
        ({"region": True}, "a region is two opposite corners"),
        ({"region": True, "subset": [(0, 0)]}, "a region is two opposite corners"),
        ({"filters": []}, "filters is empty"),
        ({"subset": []}, "subset is empty"),
        ({}, "nothing is selected"),
    ],
)
def test_what_cannot_be_selected(options, message):
    with pytest.raises(ValueError, match=message):
        weighted_sum(A, W, select=jaxcam.select(**options))


def test_equal_selections_are_one_function():
    assert jaxcam.select(filters=[1, 2]) is jaxcam.select(filters=(1, 2))


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_a_constant_map_normalizes_to_zeros(value):
    assert not jaxcam.normalize(jnp.full((3, 3), value)).any()
    assert jnp.isfinite(jax.grad(lambda m: jaxcam.normalize(m).sum())(jnp.full((3, 3), value))).all()


def test_normalize():
    found = jaxcam.normalize(A[..., 0])
    assert found.min() == 0 and found.max() == 1


def test_resize_keeps_constants_ranges_and_leading_axes():
    np.testing.assert_allclose(jaxcam.resize(jnp.ones((3, 4)), (30, 50)), 1, rtol=1e-6)
    fine = jaxcam.resize(A[..., 0], (16, 20))
    assert fine.shape == (16, 20) and fine.max() <= A[..., 0].max() + 1e-6 and fine.min() >= A[..., 0].min() - 1e-6
    assert jaxcam.resize(jnp.ones((2, 3, 4)), (6, 8)).shape == (2, 6, 8)
    with pytest.raises(ValueError, match="more axes"):
        jaxcam.resize(jnp.ones(3), (6, 8))


MAPS = {
    "coarse": np.array([[0.0, 4.0, 1.0], [2.0, 1.0, 0.0], [0.0, 3.0, 0.5]]),
    "fine": np.array([[0.0, 0.1, 0.0, 0.3], *3 * [4 * [0.2]]]),
}


def bilinear(values, shape):
    """A map at a higher resolution, pixel by pixel: pixels are squares, and values are known at their centers."""
    found = np.zeros(shape)
    for place in np.ndindex(*shape):
        at = [np.clip((i + 0.5) * n / m - 0.5, 0, n - 1) for i, n, m in zip(place, values.shape, shape, strict=True)]
        for corner in np.ndindex(*values.shape):
            near = [max(0.0, 1 - abs(a - c)) for a, c in zip(at, corner, strict=True)]
            found[place] += np.prod(near) * values[corner]
    return found


@pytest.mark.parametrize(("how", "fused"), [("mean", np.mean), ("maximum", np.max)])
@pytest.mark.parametrize("shape", [None, (5, 7)])
def test_fused_maps(how, fused, shape):
    """Each over its maximum first, whatever its scale, then at one resolution, that of the finest."""
    wanted = fused([bilinear(each / each.max(), shape or (4, 4)) for each in MAPS.values()], axis=0)
    given = {
        name: jnp.asarray(scale * each, jnp.float32) for scale, (name, each) in zip((1, 1e3), MAPS.items(), strict=True)
    }
    np.testing.assert_allclose(jaxcam.fuse(given, shape=shape, how=how), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        jaxcam.fuse(list(given.values()), shape=shape, how=how), jaxcam.fuse(given, shape=shape, how=how)
    )


def test_fused_maps_of_zeros_and_one_alone():
    fine = jnp.asarray(MAPS["fine"], jnp.float32)
    zeros = jnp.zeros((2, 2))
    assert not jaxcam.fuse([zeros]).any()
    np.testing.assert_allclose(jaxcam.fuse([fine, zeros]), fine / 0.6, rtol=1e-6)
    np.testing.assert_allclose(jaxcam.fuse([fine, zeros], how="maximum"), fine / 0.3, rtol=1e-6)
    assert jaxcam.fuse([jnp.ones((2, 6)), jnp.ones((3, 4))]).shape == (3, 6)
    for how in ("mean", "maximum"):
        slope = jax.grad(lambda m, how=how: jaxcam.fuse([m, fine], how=how).sum())(zeros)
        assert jnp.isfinite(slope).all()


def test_fusing_is_differentiable_jittable_and_goes_under_vmap():
    coarse, fine = (jnp.asarray(each, jnp.float32) for each in MAPS.values())
    many = jnp.stack([fine, fine.T, fine**2])
    found = jax.jit(jax.vmap(lambda fine: jaxcam.fuse([coarse, fine])))(many)
    np.testing.assert_allclose(found[1], jaxcam.fuse([coarse, fine.T]), rtol=1e-6)
    step = 1e-2 * jax.random.normal(jax.random.key(0), coarse.shape)
    _, slope = jax.jvp(lambda m: jaxcam.fuse([m, fine]), (coarse,), (step,))
    gap = jaxcam.fuse([coarse + step, fine]) - jaxcam.fuse([coarse - step, fine])
    np.testing.assert_allclose(slope, gap / 2, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize(
    ("maps", "options", "message"),
    [
        ([], {}, "no maps: give at least one to fuse"),
        ({}, {}, "no maps"),
        ([jnp.ones((2, 2))], {"how": "sum"}, "how is 'sum': choose one of mean, maximum"),
        ([jnp.ones((2, 2)), jnp.ones(3)], {}, r"expected maps with the same number of axes, got \(2, 2\), \(3,\)"),
        (
            [jnp.ones((5, 2, 2))],
            {"shape": (4, 4)},
            r"expected maps with the 2 of shape=\(4, 4\), got \(5, 2, 2\); use jax.vm",
        ),
    ],
)
def test_what_cannot_be_fused(maps, options, message):
    with pytest.raises(ValueError, match=message) as refused:
        jaxcam.fuse(maps, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("jitted", [False, True])
def test_nan_is_no_zero(jitted):
    """XLA makes 0 of NaN in a maximum behind a sum: a map that is not finite would look like zeros."""
    A, ones = jnp.full([64, 64, 3], jnp.nan), jnp.ones([64, 64, 3])
    weighted_sum = jax.jit(jaxcam.maps.weighted_sum) if jitted else jaxcam.maps.weighted_sum
    assert np.isnan(weighted_sum(A, ones)).all() and np.isnan(weighted_sum(ones, A)).all()
    for weigh in (jaxcam.weights.grad_cam_plus, jaxcam.weights.layer_cam):
        weigh = jax.jit(weigh) if jitted else weigh
        assert np.isnan(weigh(A)).all()
