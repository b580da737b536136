"""What cannot be explained is refused by one line: images, keys and options of other kinds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam

RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(0, 1, (4, 3, 2)).astype(np.float32)
PARAMS = {"conv": RNG.normal(0, 1, (2, 3)).astype(np.float32), "dense": RNG.normal(0, 1, (3, 4)).astype(np.float32)}
KEY = jax.random.key(0)


def features(params, x):
    return jax.nn.relu(x @ params["conv"])


def logits(params, A, x):
    return A.mean((0, 1)) @ params["dense"]


CUT = jaxcam.Cut(PARAMS, features, logits, "relu")


@pytest.mark.parametrize(
    "same",
    [
        lambda image: image.astype(">f4"),
        lambda image: image.astype(np.longdouble),
        lambda image: image.astype(">f8"),
        lambda image: image.tolist(),
        lambda image: [jnp.asarray(row) for row in image],
        lambda image: [np.asarray(row, ">f4") for row in image],
    ],
)
def test_an_image_in_any_container(same):
    np.testing.assert_array_equal(jaxcam.grad_cam(CUT, same(IMAGE), 1), jaxcam.grad_cam(CUT, IMAGE, 1))


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (None, "a NoneType"),
        ("cat.png", "a str"),
        ({"image": IMAGE}, "a dict"),
        ([[1.0, 2.0], [1.0]], "a list"),
        (len, "a builtin_function_or_method"),
        (IMAGE.astype(object), "an array of object"),
        (np.full((4, 3, 2), "a"), "an array of <U1"),
    ],
)
def test_what_is_no_image(image, kind):
    with pytest.raises(TypeError, match=rf"expected an image, an array of floats \[\*spatial c\], got {kind}"):
        jaxcam.grad_cam(CUT, image, 1)


def test_one_number_is_no_image():
    with pytest.raises(ValueError, match=r"expected an image \[\*spatial c\], got one number"):
        jaxcam.grad_cam(CUT, 0.5, 1)


def test_an_image_beyond_float32():
    with pytest.raises(ValueError, match="image has 24 values that are NaN or infinite in float32"):
        jaxcam.grad_cam(CUT, np.full((4, 3, 2), 1e300), 1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"relative": "yes"}, "expected True or False for relative, got 'yes'"),
        ({"relative": None}, "expected True or False for relative, got None"),
        ({"mesh": 5}, "expected a jax.sharding.Mesh for mesh"),
        ({"link": ["exp"]}, "expected a name for link"),
        ({"derivatives": {}}, "expected a name for derivatives"),
        ({"compat": True}, "expected a name for compat"),
        ({"std": 1j}, "expected one number for std"),
        ({"std": {}}, "expected one number for std"),
        ({"std": True}, "expected one number for std"),
    ],
)
def test_options_of_another_kind(option, message):
    with pytest.raises(TypeError, match=message):
        jaxcam.grad_cam_pp(CUT, IMAGE, 1, **option)


def test_a_static_option_without_a_hash():
    class Choice(list):
        def __call__(self, products):
            return products.sum(-1)

    with pytest.raises(TypeError, match="expected a value with a hash for select, for which .* got a Choice"):
        jaxcam.grad_cam(CUT, IMAGE, 1, select=Choice())


@pytest.mark.parametrize(
    ("baseline", "error", "message"),
    [
        ("black", TypeError, "expected numbers for baseline, got 'black'"),
        ({}, TypeError, "expected numbers for baseline"),
        (1j, TypeError, "expected numbers for baseline"),
        (np.nan, ValueError, "expected finite numbers for baseline"),
        ([0.0, np.inf], ValueError, "expected finite numbers for baseline"),
    ],
)
def test_baselines_that_are_no_numbers(baseline, error, message):
    with pytest.raises(error, match=message):
        jaxcam.integrated_gradients(CUT, IMAGE, 1, baseline=baseline, steps=2)


def test_a_baseline_is_an_array_or_a_list():
    explain = functools.partial(jaxcam.integrated_gradients, CUT, IMAGE, 1, steps=2)
    np.testing.assert_array_equal(explain(baseline=[0.25, 0.5]), explain(baseline=np.array([0.25, 0.5], np.float32)))
    with pytest.raises(ValueError, match="expected a baseline that is one number"):
        explain(baseline=[0.0] * 5)


def test_a_key_is_one_key():
    with pytest.raises(TypeError, match=r"expected one key, got \[2\] keys: use jax.vmap for several"):
        jaxcam.smooth_grad(CUT, IMAGE, 1, jax.random.split(KEY), n_samples=2)
    for method in (jaxcam.controls.random, jaxcam.grad_cam):  # the second draws no noise
        with pytest.raises(TypeError, match="expected a jax.random.key"):
            method(CUT, IMAGE, 1, 0)
    keys = jax.random.split(KEY)
    maps = jax.vmap(lambda key: jaxcam.grad_cam(CUT, IMAGE, 1, key, n_samples=2))(keys)
    np.testing.assert_allclose(maps[1], jaxcam.grad_cam(CUT, IMAGE, 1, keys[1], n_samples=2), rtol=1e-5)


@pytest.mark.parametrize("ask", [jaxcam.diagnose, jaxcam.validate])
def test_the_analysis_takes_functions_and_names(ask):
    plural = "s" if ask is jaxcam.validate else ""
    with pytest.raises(TypeError, match="expected a function for score, such as jaxcam.scores.logit, got 'logit'"):
        ask(CUT, IMAGE, 1, **{f"score{plural}": ["logit"] if plural else "logit"})
    with pytest.raises(TypeError, match="expected a name for link"):
        ask(CUT, IMAGE, 1, **{f"link{plural}": [1] if plural else 1})
