"""What every method promises: its answers to bad input, and its behaviour under JAX's transformations."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

import jaxcam

KEY = jax.random.key(0)
METHODS = {
    "cam": jaxcam.cam,
    "grad_cam": jaxcam.grad_cam,
    "grad_cam_pp": jaxcam.grad_cam_pp,
    "smooth_grad_cam_pp": functools.partial(jaxcam.smooth_grad_cam_pp, key=KEY, n_samples=2),
}


@pytest.fixture(scope="module")
def pooled():
    return jaxcam.cut(jaxcam.vgg_digits(top="average"), "block3_conv2")


@pytest.fixture(params=METHODS)
def explained(request, cut, pooled, image):
    """A method as a function of (image, target), on a cut that it is defined for."""
    return functools.partial(METHODS[request.param], pooled if request.param == "cam" else cut)


def test_a_map(explained, image):
    found = explained(image, 3)
    assert found.shape == (16, 16) and found.dtype == jnp.float32
    assert found.min() >= 0 and jnp.isfinite(found).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda x: x[None],
            ValueError,
            r"expected an image \[64 64 3\] without a batch axis, got shape \(1, 64, 64, 3\)",
        ),
        (lambda x: x[..., :1], ValueError, r"expected an image \[64 64 3\], got shape \(64, 64, 1\)"),
        (lambda x: x[:, :, 0], ValueError, r"expected an image \[64 64 3\], got shape \(64, 64\)"),
        (lambda x: (255 * x).astype(np.uint8), TypeError, "expected an image of floats .* got uint8"),
        (lambda x: np.where(x > 0.5, np.nan, x), ValueError, "values that are NaN or infinite"),
        (lambda x: np.where(x > 0.5, np.inf, x), ValueError, "values that are NaN or infinite"),
    ],
)
def test_images_that_are_refused(explained, image, change, error, message):
    with pytest.raises(error, match=message):
        explained(change(image), 3)


def test_an_image_may_be_closed_over(cut, image):
    """As it stands in a loss: JAX's own array, concrete, inside a jit."""
    array = jnp.asarray(image)
    wanted = jaxcam.grad_cam(cut, array, 3)
    np.testing.assert_allclose(jax.jit(lambda cut: jaxcam.grad_cam(cut, array, 3))(cut), wanted, rtol=1e-5, atol=1e-6)
    many = jax.lax.map(lambda target: jaxcam.grad_cam(cut, array, target), jnp.arange(3, 5))
    np.testing.assert_allclose(many[0], wanted, rtol=1e-5, atol=1e-6)
    strange = array * jnp.nan
    with pytest.raises(ValueError, match="values that are NaN or infinite"):
        jax.jit(lambda cut: jaxcam.grad_cam(cut, strange, 3))(cut)


@pytest.mark.parametrize("method", [jaxcam.cam, jaxcam.grad_cam])
def test_outputs_that_need_a_score_of_ones_own(method):
    cut = jaxcam.Cut((), lambda p, x: x, lambda p, A, x: (A.mean((0, 1)), A))
    x = jax.random.uniform(KEY, (4, 5, 3))
    with pytest.raises(ValueError, match=r"got \[0\]: \[3\], \[1\]: \[4, 5, 3\] for an image \[4, 5, 3\]; .* score="):
        method(cut, x, 1)
    score = lambda outputs, target: outputs[0][target]
    assert jaxcam.grad_cam(cut, x, 1, score=score).shape == (4, 5)
    np.testing.assert_array_equal(
        jaxcam.grad_cam(cut, x, score=lambda outputs, target: outputs[0][2 if target is None else 1]),
        jaxcam.grad_cam(cut, x, 2, score=score),
    )


def test_options_are_static(cut, image):
    with pytest.raises(ValueError, match=r"n_samples is traced: it must be static.*functools.partial"):
        jax.jit(jaxcam.smooth_grad_cam_pp)(cut, image, 3, KEY, n_samples=4)


def test_a_model_is_not_a_cut(digits, image):
    with pytest.raises(TypeError, match=r"VGG is not a Cut: make one with jaxcam.cut\(model, layer\)"):
        jaxcam.grad_cam(digits, image)


def test_a_wrong_shape_is_refused_while_tracing(explained, image):
    with pytest.raises(ValueError, match="without a batch axis"):
        jax.jit(explained)(image[None], 3)


@pytest.mark.parametrize("target", [10, -1, 1000])
def test_targets_out_of_range(explained, image, target):
    with pytest.raises(ValueError, match=f"target {target} is out of range: the model has 10 classes"):
        explained(image, target)
    assert jnp.isnan(jax.jit(explained)(image, target)).all(), "traced, it cannot raise, and must not lie"


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64])
def test_targets_of_every_integer_type(dtype):
    weights = jax.random.normal(KEY, (3, 300))
    many = jaxcam.Cut(weights, lambda p, x: x, lambda p, A, x: A.mean((0, 1)) @ p)
    x = jax.random.uniform(KEY, (4, 4, 3))
    np.testing.assert_array_equal(jaxcam.grad_cam(many, x, dtype(100)), jaxcam.grad_cam(many, x, 100))


def test_targets_that_are_no_class(explained, image):
    for target in (1.0, np.array([1, 2])):
        with pytest.raises(TypeError, match="expected one class, an integer, for target"):
            explained(image, target)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_samples": -1}, ValueError, "expected an integer of at least 0 for n_samples, got -1"),
        ({"n_samples": 2.5}, ValueError, "expected an integer of at least 0 for n_samples, got 2.5"),
        ({"std": -0.1}, ValueError, "expected a finite std of at least 0, got -0.1"),
        ({"std": float("nan")}, ValueError, "expected a finite std of at least 0, got nan"),
        ({"std": float("inf")}, ValueError, "expected a finite std of at least 0, got inf"),
        ({"std": "0.1"}, TypeError, "expected one number for std, got '0.1'"),
        ({"samples": 3}, TypeError, "smooth_grad_cam_pp has no option 'samples': choose one of target, key, n_samples"),
        ({"key": None}, ValueError, r"n_samples=5 needs a key: jax.random.key\(0\)"),
        ({"key": 0}, TypeError, "expected a jax.random.key, .* got key=0"),
        ({"numerator": "third"}, ValueError, "numerator is 'third': choose one of second, first"),
        ({"link": "log"}, ValueError, "link is 'log': choose one of identity, exp"),
        ({"derivatives": "guess"}, ValueError, "derivatives is 'guess': choose one of"),
        ({"batch_size": 0}, ValueError, "expected an integer of at least 1 for batch_size, got 0"),
        ({"batch_size": 2.5}, ValueError, "expected an integer of at least 1 for batch_size, got 2.5"),
        ({"link": "identity"}, ValueError, "alpha is 0/0 and the map is zero"),
        ({"select": jaxcam.select(filters=[64])}, ValueError, "filter 64 is outside the layer: it has 64"),
        ({"select": jaxcam.select(subset=[(16, 0)])}, ValueError, "neuron .* is outside the layer"),
    ],
)
def test_options_that_are_refused(cut, image, options, error, message):
    with pytest.raises(error, match=message):
        jaxcam.smooth_grad_cam_pp(cut, image, 3, **{"key": KEY, **options})


def test_layers_that_are_refused(digits, image):
    with pytest.raises(ValueError, match="no layer 'conv': choose one of block1_conv1, block1_conv2"):
        jaxcam.cut(digits, "conv")
    with pytest.raises(ValueError, match=r"'fc1' gives \[128\]: a map needs at least one spatial axis"):
        jaxcam.grad_cam(jaxcam.cut(digits, "fc1"), image)
    with pytest.raises(TypeError, match=r"dict is no model that jaxcam can cut.*jaxcam.Cut\(params, features, head\)"):
        jaxcam.cut({}, "fc1")


def test_cam_is_refused_where_it_is_not_defined(cut, image):
    with pytest.raises(ValueError, match="CAM needs a head that is global average pooling and one linear layer"):
        jaxcam.cam(cut, image, 3)
    weights = jax.random.normal(KEY, (48, 2))
    flat = jaxcam.Cut(weights, lambda p, x: x, lambda p, A, x: A.ravel() @ p)
    with pytest.raises(ValueError, match="the map of cam is not finite: the head differs from location to location"):
        jaxcam.cam(flat, jnp.ones((4, 4, 3)), 0)
    assert jnp.isnan(jax.jit(jaxcam.cam)(flat, jnp.ones((4, 4, 3)), 0)).all()


def test_no_target_is_the_most_probable_class(explained, image):
    cut = explained.args[0]
    outputs = cut.head(cut.params, cut.features(cut.params, jnp.asarray(image)), image)
    target = int(outputs.argmax())
    np.testing.assert_allclose(explained(image), explained(image, target), rtol=1e-6)


def test_under_jit_it_is_the_same(explained, image):
    np.testing.assert_allclose(jax.jit(explained)(image, 3), explained(image, 3), rtol=1e-4, atol=1e-5)


def test_vmap_over_classes(explained, image):
    together = jax.vmap(functools.partial(explained, image))(jnp.arange(4))
    alone = jnp.stack([explained(image, target) for target in range(4)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5 * alone.max())


def test_vmap_over_a_batch_knows_no_neighbours(explained, image):
    darker = jnp.stack([image, 0.5 * image, jnp.flip(image, 1)])
    brighter = jnp.stack([image, 0.9 * image, jnp.flip(image, 0)])
    one, other = (jax.vmap(lambda x: explained(x, 3))(batch)[0] for batch in (darker, brighter))
    np.testing.assert_allclose(one, other, rtol=1e-6)
    alone = explained(image, 3)
    np.testing.assert_allclose(one, alone, rtol=1e-4, atol=1e-5 * alone.max())


def test_vmap_over_keys(cut, image):
    keys = jax.random.split(KEY, 3)
    together = jax.vmap(lambda key: jaxcam.smooth_grad_cam_pp(cut, image, 3, key, n_samples=2))(keys)
    alone = jaxcam.smooth_grad_cam_pp(cut, image, 3, keys[1], n_samples=2)
    np.testing.assert_allclose(together[1], alone, rtol=1e-4, atol=1e-5 * alone.max())
    assert not jnp.allclose(together[0], together[1])


def test_a_second_call_traces_nothing(cut, image):
    traces = []

    def features(params, x):
        traces.append(None)
        return cut.features(params, x)

    def explain(params, scale, std, number):
        watched = jaxcam.Cut(params, features, cut.head)
        select = jaxcam.select(filters=[number])
        jaxcam.smooth_grad_cam_pp(watched, scale * image, number, KEY, n_samples=2, std=std, select=select)

    explain(cut.params, 1.0, 0.1, 3)
    first = len(traces)
    explain(jax.tree.map(lambda p: 2 * p, cut.params), 0.5, 0.3, 3)
    assert len(traces) == first
    explain(cut.params, 1.0, 0.1, 4)
    assert len(traces) > first, "this test would see a trace"


@chex.assert_max_traces(n=1)
def _explain_once(cut, image, target, key):
    return jaxcam.smooth_grad_cam_pp(cut, image, target, key, n_samples=2)


def test_one_trace_for_all_cuts_images_targets_and_keys(image):
    explain = jax.jit(_explain_once)
    for number in range(3):
        cut = jaxcam.cut(jaxcam.vgg_digits(rngs=nnx.Rngs(number)), "block3_conv2")
        explain(cut, image / (number + 1), number, jax.random.key(number))


@pytest.mark.parametrize(
    "method",
    [
        pytest.param("grad_cam", marks=pytest.mark.long),
        "grad_cam_pp",
        pytest.param("smooth_grad_cam_pp", marks=pytest.mark.long),
    ],
)
def test_maps_are_differentiable(x64, method):
    """In the image and in the parameters, against central differences along random directions."""
    rng = np.random.default_rng(2)
    params = {"W": jnp.asarray(rng.normal(size=(3, 4))), "V": jnp.asarray(rng.normal(size=(48, 5)) / 7)}
    image = jnp.asarray(rng.uniform(size=(3, 4, 3)))

    def loss(params, image):
        cut = jaxcam.Cut(
            params, lambda p, x: jnp.tanh(x @ p["W"]) + 1, lambda p, A, x: jax.nn.relu(A.ravel() @ p["V"] + 0.1)
        )
        return (METHODS[method](cut, image, 3, score=jaxcam.scores.log_softmax) ** 2).mean()

    assert loss(params, image) > 0
    check_grads(loss, (params, image), order=1, eps=1e-6, rtol=1e-5, atol=1e-7)


@pytest.mark.long
def test_gradients_in_every_parameter_of_a_real_network(cut, image):
    def loss(params):
        return (jaxcam.smooth_grad_cam_pp(jaxcam.Cut(params, cut.features, cut.head), image, 3, KEY) ** 2).mean()

    for leaf in jax.tree.leaves(jax.grad(loss)(cut.params)):
        assert jnp.isfinite(leaf).all()


def test_a_map_that_is_zero_has_a_finite_gradient():
    dead = jaxcam.Cut(jnp.zeros((3, 2)), lambda p, x: x, lambda p, A, x: A.mean((0, 1)) @ p)
    x = jnp.ones((4, 4, 3))
    found, gradient = jax.value_and_grad(lambda x: jaxcam.grad_cam_pp(dead, x, 0).sum())(x)
    assert found == 0 and jnp.isfinite(gradient).all()


def test_a_cut_is_a_pytree_of_its_parameters(cut, image):
    doubled = jax.tree.map(lambda p: 2 * p, cut)
    assert doubled.layer == "block3_conv2" and doubled.features is cut.features
    found = jax.jit(jaxcam.grad_cam)(doubled, image, 3)
    assert not jnp.allclose(found, jaxcam.grad_cam(cut, image, 3))


def test_cutting_twice_gives_the_same_functions(digits):
    one, two = jaxcam.cut(digits, "block3_conv2"), jaxcam.cut(jaxcam.digits(), "block3_conv2")
    assert one.features is two.features and one.head is two.head


def test_the_papers_own_call(digits, cut, image):
    found = jaxcam.grad_cam_plus_smooth(digits, image, layer_name="block3_conv2", nsamples=0, std_dev=0.15)
    np.testing.assert_array_equal(found, jaxcam.grad_cam_pp(cut, image))
    several = jaxcam.grad_cam_plus_smooth(
        digits, image, "block3_conv2", 3, 0.15, [1, 2], True, [(0, 0), (3, 3)], key=KEY, target=3
    )
    assert several.shape == (2, 16, 16) and not several[:, 4:].any()
    wanted = jaxcam.smooth_grad_cam_pp(
        cut, image, 3, KEY, n_samples=3, std=0.15,
        select=jaxcam.select(filters=[1, 2], region=True, subset=[(0, 0), (3, 3)]),
    )  # fmt: skip
    np.testing.assert_array_equal(several, wanted)
    with pytest.raises(ValueError, match="a region is two opposite corners"):
        jaxcam.grad_cam_plus_smooth(digits, image, "block3_conv2", region=True)


@pytest.mark.long
def test_the_noise_axis_can_be_sharded(cut, image):
    """Maps by key over 8 host devices equal those of one."""
    mesh = jax.make_mesh((8,), ("key",))
    keys = jax.random.split(KEY, 8)
    spread = jax.device_put(keys, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("key")))
    explain = jax.jit(jax.vmap(lambda key: jaxcam.smooth_grad_cam_pp(cut, image, 3, key, n_samples=2)))
    one, eight = explain(keys), explain(spread)
    np.testing.assert_allclose(eight, one, rtol=0, atol=1e-6 * float(one.max()))
