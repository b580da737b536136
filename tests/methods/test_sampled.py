"""Grad-CAM++ with second derivatives at drawn locations: `derivatives="sampled"`."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam.derivatives import _exact, _taylor

RNG = np.random.default_rng(0)
PARAMS = [jnp.asarray(RNG.normal(size=size), jnp.float32) for size in [(3, 5), (80, 7), (7, 4)]]
IMAGE = jnp.asarray(RNG.uniform(size=(4, 4, 3)), jnp.float32)
KEY = jax.random.key(3)
KEYS = jax.random.split(KEY, 200)
SAMPLED = {"derivatives": "sampled", "n_locations": 4}
NOISE = {"n_samples": 2, "std": 0.1}


def features(params, x):
    return jax.nn.sigmoid(x @ params[0])


def head(params, A, _):
    return jax.nn.silu(A.ravel() @ params[1]) @ params[2]


CUT = jaxcam.Cut(PARAMS, features, head, "smooth")
RELU_CUT = jaxcam.Cut(PARAMS, features, lambda p, A, _: jax.nn.relu(A.ravel() @ p[1]) @ p[2], "relu")


def weights_by_brute_force(images, *, bounded=False):
    """The weights of Grad-CAM++ with the means over images of Y1, Y2, Y3 = e^u times polynomials, by nested grads."""
    A = features(PARAMS, IMAGE)

    def derivatives(x):
        A = features(PARAMS, x)

        def along(unit):
            u = lambda t: head(PARAMS, A + t * unit.reshape(A.shape), x)[1]
            return u(0.0), jax.grad(u)(0.0), jax.grad(jax.grad(u))(0.0), jax.grad(jax.grad(jax.grad(u)))(0.0)

        u, u1, u2, u3 = (value.reshape(A.shape) for value in jax.vmap(along)(jnp.eye(A.size)))
        return [jnp.exp(u) * y for y in (u1, u2 + u1**2, u3 + 3 * u1 * u2 + u1**3)]

    D1, D2, D3 = (jnp.mean(jnp.stack(Y), 0) for Y in zip(*map(derivatives, images), strict=True))
    alpha = D2 / (2 * D2 + A.sum((0, 1), keepdims=True) * D3)
    return ((jnp.clip(alpha, 0, 0.5) if bounded else alpha) * jnp.maximum(D1, 0)).sum((0, 1))


def assert_unbiased(sampled, expected):
    """Over the keys, the differences have mean zero and the variance that the standard errors tell."""
    expected = np.broadcast_to(expected, sampled.weights.shape)
    differences, errors = np.asarray(sampled.weights) - expected, np.asarray(sampled.weights_standard_error)
    assert (errors.mean(0) > 0.01 * np.abs(expected).max()).any()
    of_mean = np.sqrt((errors**2).sum(0)) / len(KEYS)
    z = differences.mean(0) / np.where(of_mean > 0, of_mean, 1)
    assert np.abs(z).max() < 3.5, z
    ratio = (differences**2).sum() / (errors**2).sum()
    assert 0.8 < ratio < 1.25, ratio


def test_weights_are_unbiased_over_200_keys():
    sampled = jax.jit(lambda cut: jax.vmap(lambda key: jaxcam.grad_cam_pp(cut, IMAGE, 1, key, **SAMPLED))(KEYS))(CUT)
    expected = jax.jit(lambda: weights_by_brute_force([IMAGE]))() / jnp.exp(head(PARAMS, features(PARAMS, IMAGE), 0)[1])
    assert_unbiased(sampled, expected)
    # The map has these weights, and before the relu the errors of independent channels add up.
    A = np.asarray(features(PARAMS, IMAGE))
    weighted = np.maximum(np.einsum("nk,hwk->nhw", sampled.weights, A), 0)
    np.testing.assert_allclose(sampled.map, weighted, rtol=1e-4, atol=1e-6)
    variance = np.einsum("nk,hwk->nhw", np.asarray(sampled.weights_standard_error) ** 2, A**2)
    np.testing.assert_allclose(sampled.standard_error, np.sqrt(variance), rtol=1e-4)


@pytest.mark.long
def test_with_noise_the_weights_are_unbiased_for_that_noise():
    def both(key):
        sampled = jaxcam.smooth_grad_cam_pp(CUT, IMAGE, 1, key, **SAMPLED, **NOISE, alpha="bounded")
        noisy = [jaxcam.noise.noisy(IMAGE, key, m, std=0.1) for m in range(2)]
        largest = jnp.exp(jnp.stack([head(PARAMS, features(PARAMS, x), x)[1] for x in noisy]).max())
        return sampled, weights_by_brute_force(noisy, bounded=True) / largest

    assert_unbiased(*jax.jit(jax.vmap(both))(KEYS))


def test_only_drawn_directions_are_pushed(monkeypatch):
    pushed, make_push = [], _taylor._make_push

    def make_counting_push(*arguments):
        push = make_push(*arguments)

        def counting(indices):
            jax.debug.callback(lambda _: pushed.append(None), indices[0])
            return push(indices)

        return counting

    monkeypatch.setattr(_taylor, "_make_push", make_counting_push)
    jaxcam.grad_cam_pp(CUT, IMAGE, 1, KEY, derivatives="sampled", n_locations=2, batch_size=2)
    jax.effects_barrier()
    assert 3 <= len(pushed) <= 5  # two draws for each of five channels, and 80 directions in all


@pytest.mark.long
def test_where_all_directions_are_no_more_than_the_draws_the_map_is_exact():
    """A certified head; more draws than locations; a head that pools, with one direction for each channel."""
    pooled = jaxcam.Cut(PARAMS, features, lambda p, A, _: jax.nn.silu(A.mean((0, 1)) @ p[1][:5]) @ p[2], "pooled")
    for cut, n_locations in [(RELU_CUT, 2), (CUT, 16), (pooled, 2)]:
        sampled = jaxcam.grad_cam_pp(cut, IMAGE, 1, KEY, derivatives="sampled", n_locations=n_locations)
        np.testing.assert_allclose(sampled.map, jaxcam.grad_cam_pp(cut, IMAGE, 1), rtol=1e-5)
        assert not sampled.standard_error.any() and not sampled.weights_standard_error.any() and sampled.weights.any()


def test_several_layers():
    """A record of dicts, in the order of the layers: drawn at one layer, and exact at the one that pools."""

    def tapped(params, deltas, x):
        late = jax.nn.sigmoid(x @ params[0]) + deltas.get("late", 0)
        early = late[:1, :2] + deltas.get("early", 0)
        outputs = jax.nn.silu(late.ravel() @ params[1]) @ params[2] + jax.nn.silu(early.sum((0, 1))).sum()
        return {"late": late, "early": early}, outputs

    cuts = jaxcam.Cuts(PARAMS, tapped, ("late", "early"))
    sampled = jaxcam.grad_cam_pp(cuts, IMAGE, 1, KEY, **SAMPLED)
    assert [list(part) for part in sampled] == [["late", "early"]] * 4
    assert sampled.standard_error["late"].any() and not sampled.standard_error["early"].any()


def test_selected_filters_have_their_own_errors():
    sampled = jaxcam.grad_cam_pp(CUT, IMAGE, 1, KEY, select=jaxcam.select(filters=[3, 0]), **SAMPLED)
    A = np.asarray(features(PARAMS, IMAGE))
    error = np.asarray(sampled.weights_standard_error)
    np.testing.assert_allclose(sampled.standard_error, [error[k] * A[..., k] for k in (3, 0)], rtol=1e-5)


@pytest.mark.long
def test_functions_that_take_a_method_take_its_map():
    method = functools.partial(jaxcam.grad_cam_pp, **SAMPLED)
    assert jaxcam.methods.takes_key(method)
    key = jax.random.fold_in(KEY, 0)
    maps, failed = jaxcam.explain_batch(method, CUT, IMAGE[None], [1], KEY)
    np.testing.assert_allclose(maps["0"], method(CUT, IMAGE, 1, key).map, rtol=1e-4)
    assert not failed
    averaged = jaxcam.average_maps(method)(CUT, IMAGE, 1, KEY, n_samples=2)
    guided = jaxcam.guided_grad_cam(RELU_CUT, IMAGE, 1, KEY, method=method)
    assert averaged.shape == (4, 4) and guided.shape == (4, 4, 3)


@pytest.mark.long
def test_the_gradient_of_the_map_goes_through_the_drawn_derivatives():
    """The mean over keys of the gradients is that of the exact weights, within its error."""
    A = features(PARAMS, IMAGE)

    def gradients(weights_of):
        def loss(b):
            return weights_of(jaxcam.Cut([PARAMS[0], PARAMS[1] * b, PARAMS[2]], features, head)).sum()

        return jax.grad(loss)(1.0)

    def exact_weights(cut):
        u = jaxcam.derivatives.brute_force(lambda A: head(cut.params, A, IMAGE)[1], A)
        return jaxcam.weights.grad_cam_pp(A, *jaxcam.derivatives.through_link(u, link="exp")[1], alpha="bounded")

    def sampled(key):
        options = {**SAMPLED, "alpha": "bounded"}
        return gradients(lambda cut: jaxcam.grad_cam_pp(cut, IMAGE, 1, key, **options).weights)

    estimates, truth = jax.jit(lambda: (jax.vmap(sampled)(KEYS), gradients(exact_weights)))()
    error = float(estimates.std()) / len(KEYS) ** 0.5
    assert abs(float(estimates.mean() - truth)) < 3 * error < abs(float(truth))


def test_long_work_names_the_estimate(caplog, monkeypatch):
    """The work of drawn directions is announced as theirs."""
    monkeypatch.setattr(_exact, "FLOPS_WORTH_A_WARNING", 0)
    with caplog.at_level(logging.WARNING, "jaxcam"):
        for options in ({}, {"derivatives": "sampled", "n_locations": 2}):
            explain = functools.partial(jaxcam.grad_cam_pp, batch_size=79, **options)
            jax.eval_shape(explain, CUT, IMAGE, 1, KEY)
    whole, drawn = (record.getMessage() for record in caplog.records)
    assert "along 80 directions" in whole and "derivatives='sampled' estimates weights" in whole
    assert "along 10 directions" in drawn


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (jaxcam.grad_cam_pp, {"derivatives": "sampled"}, "needs n_locations=, the number of locations"),
        (jaxcam.grad_cam_pp, {"n_locations": 4}, "n_locations=4 goes with derivatives='sampled', got .*'exact'"),
        (jaxcam.grad_cam_pp, {**SAMPLED, "n_locations": 1}, "expected an integer of at least 2 for n_locations, got 1"),
        (jaxcam.grad_cam_pp, SAMPLED, "draws locations and needs a key: jax.random.key"),
        (jaxcam.grad_cam, SAMPLED, "estimates the weights of grad_cam_pp and smooth_grad_cam_pp"),
        (jaxcam.grad_cam_pp, {"derivatives": "some"}, "'some': choose one of exact, closed_form, sampled"),
        (
            jaxcam.smooth_grad_cam_pp,
            {**SAMPLED, "n_samples": 16, "standard_error": 0.1},
            "give it or derivatives='sampled', not both",
        ),
    ],
)
def test_refusals(method, options, message):
    keys = () if "needs a key" in message else (KEY,)
    with pytest.raises(ValueError, match=message):
        method(CUT, IMAGE, 1, *keys, **options)


def test_a_rule_of_a_user_is_no_sum_over_locations():
    with pytest.raises(ValueError, match="for other methods choose exact or closed_form"):
        jaxcam.gradient_cam(CUT, IMAGE, 1, KEY, weigh=jaxcam.weights.grad_cam_pp, order=3, **SAMPLED)
