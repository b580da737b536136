"""The rest of the family against its formulas in NumPy, alone, smoothed, and at several layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from tests.formulas.test_formulas import assert_equal_maps, toy
from tests.oracles import cams as oracle

KEY = jax.random.key(3)


def loops(rule):
    """A rule for one location as a map from A and D: relu(sum_k w_k A^k), in loops."""

    def by_hand(A, D):
        found = np.zeros(A.shape[:-1])
        places = list(np.ndindex(A.shape[:-1]))
        for place in places:
            for k in range(A.shape[-1]):
                found[place] += rule(A, D, place, k, places) * A[(*place, k)]
        return np.maximum(found, 0)

    return by_hand


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def x_weight(A, D, place, k, places):
    S = sum(A[(*p, k)] for p in places)
    return sum(A[(*p, k)] / S * D[(*p, k)] for p in places) if S else 0.0


RULES = {
    "grad_cam": loops(lambda A, D, place, k, places: mean(D[(*p, k)] for p in places)),
    "counterfactual_grad_cam": loops(lambda A, D, place, k, places: -mean(D[(*p, k)] for p in places)),
    "grad_cam_plus": loops(lambda A, D, place, k, places: mean(max(D[(*p, k)], 0) for p in places)),
    "xgrad_cam": loops(x_weight),
    "hires_cam": loops(lambda A, D, place, k, places: D[(*place, k)]),
    "layer_cam": loops(lambda A, D, place, k, places: max(D[(*place, k)], 0)),
}


@functools.cache
def case():
    """A head on which no method's map is zero, its input, and the target."""
    for seed in range(100):
        params, x = oracle.network(np.random.default_rng(seed), (4, 3))
        params = {name: value.astype(np.float32).astype(np.float64) for name, value in params.items()}
        x = x.astype(np.float32).astype(np.float64)
        A = oracle.activation(params, x)
        A[..., 1] = 0  # a dead channel
        z, J = oracle.logits_and_jacobian(params, oracle.activation(params, x))
        if all(rule(oracle.activation(params, x), J[2]).max() > 0.01 for rule in RULES.values()):
            return params, x, 2
    raise AssertionError("no head fits")


@pytest.mark.parametrize("name", RULES)
def test_the_rule(name):
    params, x, target = case()
    A = oracle.activation(params, x)
    wanted = RULES[name](A, oracle.logits_and_jacobian(params, A)[1][target])
    found = getattr(jaxcam, name)(toy(params, "float32"), jnp.asarray(x, "float32"), target)
    assert_equal_maps(found, wanted, 1e-5)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("link", ["identity", "exp"])
def test_the_rule_of_averaged_derivatives(name, link):
    """D1 = mean over noise of Y1, each with its factor e^u for exp; A is the clean one's."""
    params, x, target = case()
    image, std = jnp.asarray(x, "float32"), 0.2
    logs, firsts = [], []
    for m in range(5):
        noisy = np.asarray(jaxcam.noise.noisy(image, KEY, m, std=std), np.float64)
        z, J = oracle.logits_and_jacobian(params, oracle.activation(params, noisy))
        logs.append(z[target] if link == "exp" else 0.0)
        firsts.append(J[target])
    D1 = sum(np.exp(log - max(logs)) * first for log, first in zip(logs, firsts, strict=True)) / 5
    wanted = RULES[name](oracle.activation(params, x), D1)
    found = getattr(jaxcam, name)(toy(params, "float32"), image, target, KEY, n_samples=5, std=std, link=link)
    assert_equal_maps(found, wanted, 2e-5)


def test_a_dead_channel_has_no_weight():
    A = jnp.zeros([2, 2, 1])
    assert jaxcam.weights.xgrad_cam(A, jnp.ones([2, 2, 1])).tolist() == [0.0]


def bilinear(values, size):
    """One axis, upsampled with half-pixel centers."""
    at = (np.arange(size) + 0.5) * len(values) / size - 0.5
    return np.interp(at, np.arange(len(values)), values)


def test_score_cam():
    """With masks upsampled from 3 x 4 to 6 x 8, one channel constant, and the softmax over channels."""
    rng = np.random.default_rng(0)
    W, V = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=(60, 4)).astype(np.float32)
    W[:, 2] = 0

    def features(p, x):
        return jax.nn.relu(x.reshape(3, 2, 4, 2, 3).mean((1, 3)) @ p["W"])

    cut = jaxcam.Cut({"W": W, "V": V}, features, lambda p, A, x: A.ravel() @ p["V"])
    image = rng.uniform(size=(6, 8, 3)).astype(np.float32)

    def A_of(x):
        return np.maximum(x.reshape(3, 2, 4, 2, 3).mean((1, 3)) @ W.astype(np.float64), 0)

    A, scores = A_of(image), []
    for k in range(5):
        mask = np.apply_along_axis(bilinear, 1, np.apply_along_axis(bilinear, 0, A[..., k], 6), 8)
        flat = mask.max() == mask.min()
        mask = np.zeros_like(mask) if flat else (mask - mask.min()) / (mask.max() - mask.min())
        scores.append((A_of(image * mask[..., None]).ravel() @ V)[1])
    weights = np.exp(scores - max(scores))
    wanted = oracle.saliency(A, weights / weights.sum())
    for batch_size in (None, 2):
        assert_equal_maps(jaxcam.score_cam(cut, image, 1, batch_size=batch_size), wanted, 1e-5)


def test_score_cam_wants_the_images_axes():
    cut = jaxcam.Cut((), lambda p, x: x.reshape(-1, 3), lambda p, A, x: A.mean(0))
    with pytest.raises(ValueError, match=r"\[12, 3\] at 'this cut' has other spatial axes than the image \[3, 4, 3\]"):
        jaxcam.score_cam(cut, jnp.ones([3, 4, 3]), 0)


@pytest.mark.parametrize(("statistic", "of"), [("mean", np.mean), ("variance", np.var), ("square", None)])
def test_averages_of_maps(statistic, of):
    params, x, target = case()
    image = jnp.asarray(x, "float32")
    each = []
    for m in range(6):
        noisy = np.asarray(jaxcam.noise.noisy(image, KEY, m, std=0.2), np.float64)
        A = oracle.activation(params, noisy)
        each.append(RULES["layer_cam"](A, oracle.logits_and_jacobian(params, A)[1][target]))
    wanted = np.mean(np.square(each), 0) if of is None else of(each, 0)
    method = jaxcam.average_maps(jaxcam.layer_cam, statistic=statistic)
    for batch_size in (None, 4):
        found = method(toy(params, "float32"), image, target, KEY, n_samples=6, std=0.2, batch_size=batch_size)
        assert_equal_maps(found, wanted, 1e-5)


def test_averages_take_the_clean_images_class(cut, image):
    loud = functools.partial(jaxcam.average_maps(jaxcam.grad_cam), n_samples=4, std=2.0)
    target = cut.head(cut.params, cut.features(cut.params, image), image).argmax()
    np.testing.assert_array_equal(loud(cut, image, None, KEY), loud(cut, image, target, KEY))


def test_an_average_of_nothing_is_the_method(cut, image):
    found = jaxcam.average_maps(jaxcam.grad_cam)(cut, image, 3, n_samples=0)
    np.testing.assert_allclose(found, jaxcam.grad_cam(cut, image, 3), rtol=1e-5, atol=1e-7)


def test_noise_in_the_images_own_units():
    params, x, target = case()
    image = jnp.asarray(x, "float32")
    spread = image.max() - image.min()
    share, own = (
        jaxcam.layer_cam(toy(params, "float32"), image, target, KEY, n_samples=3, std=std, relative=relative)
        for std, relative in ((0.1, True), (0.1 * spread, False))
    )
    np.testing.assert_allclose(own, share, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [pytest.param("smooth_grad_cam_pp", marks=pytest.mark.long), "average_maps"])
def test_a_grown_map_is_that_of_its_samples(name):
    params, x, target = case()
    method = jaxcam.smooth_grad_cam_pp if name == "smooth_grad_cam_pp" else jaxcam.average_maps(jaxcam.layer_cam)
    call = functools.partial(method, toy(params, "float32"), jnp.asarray(x, "float32"), target, KEY, std=0.1)
    found = call(n_samples=400, standard_error=0.05)
    n = int(found.n_samples)
    assert 16 <= n < 400 and n % 8 == 0
    assert found.standard_error.shape == found.map.shape == (4, 3)
    assert found.standard_error.max() <= 0.05 * found.map.max()
    assert_equal_maps(found.map, np.asarray(call(n_samples=n), np.float64), 1e-5)
    assert call(n_samples=n - 8, standard_error=0.0).standard_error.max() > 0.05 * found.map.max() * 0.9
    assert int(call(n_samples=27, standard_error=0.0).n_samples) == 24


@pytest.mark.parametrize("name", [pytest.param("smooth_grad_cam_pp", marks=pytest.mark.long), "average_maps"])
def test_the_standard_error_is_the_spread_over_keys(name):
    params, x, target = case()
    method = jaxcam.smooth_grad_cam_pp if name == "smooth_grad_cam_pp" else jaxcam.average_maps(jaxcam.layer_cam)
    cut, image = toy(params, "float32"), jnp.asarray(x, "float32")
    keys = jax.random.split(KEY, 200)
    found = jax.vmap(lambda key: method(cut, image, target, key, n_samples=64, std=0.05, standard_error=0.0))(keys)
    factor = np.ones([200, 1, 1])
    if name == "smooth_grad_cam_pp":
        # The largest e^u is left out of a map, and is another for each key.
        at = lambda key, m: jaxcam.noise.noisy(image, key, m, std=0.05)
        u = lambda x: cut.head(cut.params, cut.features(cut.params, x), x)[target]
        each = jax.vmap(lambda key: jax.vmap(lambda m: u(at(key, m)))(jnp.arange(64)))(keys)
        factor = np.exp(np.asarray(each.max(1) - each.max()))[:, None, None]
    spread = (factor * np.asarray(found.map)).std(0)
    claimed = np.sqrt(((factor * np.asarray(found.standard_error)) ** 2).mean(0))
    busy = spread > 0.1 * spread.max()
    np.testing.assert_allclose(claimed[busy] / spread[busy], 1, atol=0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"standard_error": 0.1, "n_samples": 8}, "expected n_samples of at least 16 with standard_error=, got 8"),
        ({"standard_error": -1.0, "n_samples": 20}, "expected standard_error of at least 0, .* got -1.0"),
        ({"n_samples": 5, "key": None}, "n_samples=5 needs a key"),
        ({"smoth": 5}, "has no option 'smoth': choose one of target, key, "),
    ],
)
def test_options_that_are_refused(cut, image, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        jaxcam.xgrad_cam(cut, image, 3, **{"key": KEY, **options})


def test_a_statistic_that_is_not_known():
    with pytest.raises(ValueError, match="statistic is 'median': choose one of mean, variance, square"):
        jaxcam.average_maps(jaxcam.grad_cam, statistic="median")


SEVERAL = {
    "layer_cam": {},
    "grad_cam_pp": {"score": jaxcam.scores.log_softmax},
    "smooth_grad_cam_pp": {"n_samples": 3, "key": KEY, "batch_size": 1},
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_layers_are_as_each_alone(digits, image, name):
    layers = ["block3_conv2", "block3_conv1"]
    method = functools.partial(getattr(jaxcam, name), **SEVERAL[name])
    found = method(jaxcam.cut(digits, layers), image, 3)
    assert list(found) == layers
    for layer in layers:
        wanted = method(jaxcam.cut(digits, layer), image, 3)
        np.testing.assert_allclose(found[layer], wanted, rtol=0, atol=1e-5 * float(wanted.max()))


def test_several_layers_of_a_smooth_head():
    rng = np.random.default_rng(1)
    params = {name: jnp.asarray(rng.normal(size=(4, 4)), "float32") for name in "WVZ"}

    def tapped(p, deltas, x):
        a = jnp.tanh(x @ p["W"]) + deltas.get("a", 0.0)
        b = jax.nn.silu(a @ p["V"]) + deltas.get("b", 0.0)
        return {"a": a, "b": b}, jax.nn.silu(b.sum(0)) @ p["Z"]

    both = jaxcam.Cuts(params, tapped, ("a", "b"))
    a = jaxcam.Cut(
        params, lambda p, x: jnp.tanh(x @ p["W"]), lambda p, A, x: jax.nn.silu(jax.nn.silu(A @ p["V"]).sum(0)) @ p["Z"]
    )
    x = jnp.asarray(rng.normal(size=(5, 4)), "float32")
    found = jaxcam.grad_cam_pp(both, x, 1)
    wanted = jaxcam.grad_cam_pp(a, x, 1)
    assert wanted.max() > 0
    np.testing.assert_allclose(found["a"], wanted, rtol=1e-4, atol=1e-5 * float(wanted.max()))


def test_layers_stand_in_the_order_of_the_cut():
    """Also in a `Smoothed`. jit sorts the keys of a dict."""

    def tapped(p, deltas, x):
        late = x + deltas.get("late", 0.0)
        early = late + deltas.get("early", 0.0)
        return {"late": late, "early": early}, early.sum((0, 1))

    cuts, x = jaxcam.Cuts((), tapped, ("late", "early")), jnp.ones((2, 2, 3))
    assert list(jaxcam.layer_cam(cuts, x, 1)) == ["late", "early"]
    smoothed = jaxcam.layer_cam(cuts, x, 1, KEY, n_samples=16, standard_error=0.0)
    assert list(smoothed.map) == list(smoothed.standard_error) == ["late", "early"]


@pytest.mark.parametrize("name", ["cam", "score_cam", "validate"])
def test_several_layers_where_one_is_wanted(digits, image, name):
    cuts = jaxcam.cut(digits, ["block2_conv1", "block3_conv2"])
    with pytest.raises(
        TypeError, match="expected a cut at one layer, .* got one at several: block2_conv1, block3_conv2"
    ):
        getattr(jaxcam, name)(cuts, image)


SQUARES = {"smooth_grad": np.mean, "var_grad": np.var, "square_grad": lambda each, axis: np.mean(np.square(each), axis)}


@pytest.mark.parametrize("name", SQUARES)
def test_gradients_over_noise(name):
    """du/dx of the toy by hand: through A = relu(x W)."""
    params, x, target = case()
    image, each = jnp.asarray(x, "float32"), []
    for m in range(6):
        noisy = np.asarray(jaxcam.noise.noisy(image, KEY, m, std=0.2), np.float64)
        A = oracle.activation(params, noisy)
        each.append((oracle.logits_and_jacobian(params, A)[1][target] * (noisy @ params["W"] > 0)) @ params["W"].T)
    found = getattr(jaxcam, name)(toy(params, "float32"), image, target, KEY, n_samples=6, std=0.2)
    wanted = SQUARES[name](each, 0)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("method", [jaxcam.layer_cam, jaxcam.score_cam])
def test_guided_grad_cam_smoothed_is_a_product_of_averages(method):
    params, x, target = case()
    arguments = toy(params, "float32"), jnp.asarray(x, "float32"), target, KEY
    noise = {"n_samples": 5, "std": 0.2}
    found = jaxcam.guided_grad_cam(*arguments, method=method, **noise)
    guided = jaxcam.average_maps(jaxcam.guided_backprop)(*arguments, **noise)
    averaged = method if method is jaxcam.layer_cam else jaxcam.average_maps(method)
    wanted = guided * averaged(*arguments, **noise)[..., None]  # of the image's resolution as it is
    assert jnp.abs(wanted).max() > 0
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6 * float(jnp.abs(wanted).max()))


def test_equal_partials_are_one_average():
    one, other = (functools.partial(jaxcam.grad_cam, score=jaxcam.scores.log_softmax) for _ in range(2))
    assert jaxcam.average_maps(one) is jaxcam.average_maps(other)
    assert jaxcam.average_maps(one) is not jaxcam.average_maps(jaxcam.grad_cam)


def test_compat_goes_with_a_score_alone(cut, image):
    found = jaxcam.grad_cam_pp(cut, image, 3, compat="torch-cam", score=jaxcam.scores.log_softmax)
    assert found.shape == (16, 16) and found.max() == 1
    A = cut.features(cut.params, image)
    u, g = jax.value_and_grad(lambda A: cut.head(cut.params, A, image)[3])(A)
    wanted = jaxcam.compat.grad_cam_pp("xplique", A, u, g)
    np.testing.assert_allclose(jaxcam.grad_cam_pp(cut, image, 3, compat="xplique"), wanted, rtol=1e-4, atol=1e-6)
    for options in ({"n_samples": 5, "key": KEY}, {"link": "identity"}, {"derivatives": "closed_form"}):
        with pytest.raises(ValueError, match="compat='xplique' is what that library computes: it goes with no option"):
            jaxcam.grad_cam_pp(cut, image, 3, compat="xplique", **options)
    with pytest.raises(ValueError, match="compat is 'captum': choose one of pytorch-grad-cam, "):
        jaxcam.grad_cam_pp(cut, image, 3, compat="captum")


def test_a_method_of_ones_own(cut, image):
    own = functools.partial(jaxcam.gradient_cam, weigh=jaxcam.weights.xgrad_cam, order=1)
    np.testing.assert_array_equal(own(cut, image, 3), jaxcam.xgrad_cam(cut, image, 3))
    with pytest.raises(ValueError, match="n_samples=5 needs a key"):
        own(cut, image, 3, n_samples=5)
    with pytest.raises(ValueError, match="order is 2: choose one of 1, 3"):
        jaxcam.gradient_cam(cut, image, 3, weigh=jaxcam.weights.xgrad_cam, order=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda c, x: jaxcam.hires_cam(c, x, 3, KEY, standard_error=0.02),
            "expected n_samples of at least 16 with standard_error=, got 0",
        ),
        (lambda c, x: jaxcam.score_cam(c, x, 3, KEY), "score_cam takes no key: it draws no noise"),
        (lambda c, x: jaxcam.grad_cam(c, x, 3, select=[3, 7]), r"expected a function for select, .* got \[3, 7\]"),
        (lambda c, x: jaxcam.grad_cam(c, x, 3, score="logit"), "expected a function for score, .* got .logit."),
        (lambda c, x: jaxcam.grad_cam(c, x, "3"), "expected an integer for target, got '3'"),
        (lambda c, x: jaxcam.grad_cam(c, x, KEY), "target is a key: the order is"),
        (lambda c, x: jaxcam.smooth_grad_cam_pp(c, x, KEY), "target is a key: the order is"),
        (
            lambda c, x: jaxcam.gradient_cam(c, x, 3, weigh=lambda A, Y1: 1.0, order=1),
            r"expected weights of shape \(64,\) or .*, got \(\)",
        ),
        (
            lambda c, x: jaxcam.guided_grad_cam(c, x, 3, method=jaxcam.input_gradient),
            "expected the map of a layer, got a map",
        ),
        (lambda c, x: jaxcam.fuse(jnp.ones([4, 4])), "expected a dict or a list of maps, got "),
    ],
)
def test_mistakes_get_one_line(cut, image, call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(cut, image)


def test_an_average_of_a_method_with_noise_of_its_own():
    params, x, target = case()
    found = jaxcam.average_maps(functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=2))(
        toy(params, "float32"), jnp.asarray(x, "float32"), target, KEY, n_samples=3
    )
    assert found.shape == (4, 3) and jnp.isfinite(found).all() and found.max() > 0


def test_a_mean_of_half_precision_does_not_stand_still(image):
    half = jaxcam.Cut(jnp.bfloat16(0.1), lambda p, x: p * x, lambda p, A, x: A.sum((0, 1)), "half")
    x = jnp.asarray(image[:4, :4], jnp.bfloat16)
    wanted = jaxcam.input_gradient(half, x, 1)
    found = jaxcam.smooth_grad(half, x, 1, KEY, n_samples=1000, std=np.float32(0.0))
    assert found.dtype == wanted.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(found, np.float32), np.asarray(wanted, np.float32), rtol=1e-2)


def test_a_variance_keeps_its_sign():
    """Where the clean image is far from its noisy copies: 1000 tanh' there is 0."""
    steep = jaxcam.Cut((), lambda p, x: 1e3 * jnp.tanh(50 * x), lambda p, A, x: A.sum((0, 1)))
    x = jnp.zeros([3, 3, 2]).at[0, 0].set(1.0)
    assert jaxcam.var_grad(steep, x, 1, KEY, n_samples=5, std=0.5).min() >= 0


def test_every_sample_is_taken_where_no_error_is_allowed(cut, image):
    found = jaxcam.average_maps(jaxcam.layer_cam)(cut, image, 3, KEY, n_samples=24, std=0.0, standard_error=0.0)
    assert int(found.n_samples) == 24


def test_layers_of_two_types():
    def tapped(p, deltas, x):
        a = x.astype(jnp.bfloat16) * p.astype(jnp.bfloat16) + deltas.get("a", jnp.zeros((), jnp.bfloat16))
        b = a.astype(jnp.float32) + deltas.get("b", jnp.zeros(()))
        return {"a": a, "b": b}, jax.nn.relu(b).sum((0, 1))

    found = jaxcam.grad_cam_pp(jaxcam.Cuts(jnp.float32(0.5), tapped, ("a", "b")), jnp.ones([3, 4, 2]), 1)
    assert found["a"].shape == found["b"].shape == (3, 4) and found["a"].max() > 0


def test_the_standard_error_of_half_precision_maps_is_none_of_theirs():
    """Groups of samples that differ by less than bfloat16 can tell."""
    half = jaxcam.Cut(jnp.bfloat16(1), lambda p, x: p * x, lambda p, A, x: A.sum((0, 1)), "half")
    big = jaxcam.average_maps(lambda cut, x, target: jnp.bfloat16(100) + cut.features(cut.params, x))
    found = big(
        half, jnp.linspace(0, 1, 48).reshape(4, 4, 3).astype(jnp.bfloat16), 1, KEY, n_samples=64, standard_error=0.0
    )
    assert found.map.dtype == jnp.bfloat16 and found.standard_error.dtype == jnp.float32
    assert (found.standard_error > 0).all()
