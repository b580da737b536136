"""One explained picture: its classes, its maps, and where they lie on the picture."""

import dataclasses
import io
import json

import jax
import numpy as np
import pytest
from PIL import Image

import jaxcam
from jaxcam.datasets import images

WIDE = (50, 80)


@pytest.fixture(scope="module")
def opened():
    return jaxcam.open_model("digits")


@pytest.fixture(scope="module")
def wide():
    """A smooth picture that is not square."""
    return images.fit(np.random.default_rng(0).uniform(size=(5, 8, 3)), WIDE)


@pytest.fixture(scope="module")
def explanation(opened, wide):
    return jaxcam.explain(opened, wide, methods="grad_cam")


def test_the_classes_and_the_map_are_those_of_the_cut(opened, explanation, wide):
    cropped = images.fit(wide[:, 15:65], (64, 64))  # the largest square in the center
    np.testing.assert_allclose(explanation.fitted, cropped, atol=0.03)
    logits = np.asarray(
        opened.cut.head(opened.cut.params, opened.cut.features(opened.cut.params, explanation.fitted), 0)
    )
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    order = np.argsort(-probabilities)[:5]
    assert [number for number, _, _ in explanation.top] == order.tolist() and explanation.target == order[0]
    np.testing.assert_allclose([p for *_, p in explanation.top], probabilities[order], rtol=1e-4)
    expected = jaxcam.grad_cam(opened.cut, explanation.fitted, int(order[0]))
    np.testing.assert_allclose(explanation.maps["grad_cam"], expected, rtol=1e-6)


def test_the_map_lies_where_the_network_looked(explanation):
    assert explanation.region == (0.0, pytest.approx(15.0, abs=0.7), 50.0, pytest.approx(65.0, abs=0.7))
    on_image = explanation.on_image("grad_cam")
    seen = ~on_image.mask
    assert on_image.shape == WIDE and seen[:, 15:65].all() and not seen[:, :15].any() and not seen[:, 65:].any()
    expected = np.asarray(jaxcam.resize(explanation.maps["grad_cam"], (50, 50)))
    np.testing.assert_array_equal(on_image.data[:, 15:65], expected)
    with pytest.raises(ValueError, match="no map 'cam': choose one of grad_cam"):
        explanation.on_image("cam")


@pytest.mark.parametrize(("fit", "seen"), [("stretch", WIDE), ("pad", WIDE), ("square", (50, 50)), ("crop", (44, 44))])
def test_every_fit_draws_the_map_at_the_size_of_the_photograph(fit, seen, wide):
    fitted = jaxcam.explain(jaxcam.open_model("digits", fit=fit), wide, 3, methods="grad_cam")
    on_image = fitted.on_image("grad_cam")
    rows, columns = (~on_image.mask).any(1).sum(), (~on_image.mask).any(0).sum()
    assert on_image.shape == WIDE and abs(rows - seen[0]) <= 1 and abs(columns - seen[1]) <= 1


def test_it_shows_itself_and_says_what_it_is(explanation):
    with Image.open(io.BytesIO(explanation._repr_png_())) as shown:
        assert shown.width > shown.height > 200
    assert f"class {explanation.class_name!r}" in str(explanation) and "block3_conv2, Grad-CAM" in str(explanation)
    record = json.loads(json.dumps(explanation.as_dict()))
    assert record["top"][0]["class"] == record["class"] and record["map_shape"] == {"grad_cam": [16, 16]}
    assert repr(explanation).startswith("Explanation('the image', ")


def test_methods_of_a_dict_and_their_key(opened, wide):
    key = jax.random.key(3)
    given = {"mine": lambda cut, image, target, key: jax.random.uniform(key, (4, 4))}
    saliency = jaxcam.explain(opened, wide, "7", key, methods=given).maps["mine"]
    np.testing.assert_array_equal(saliency, jax.random.uniform(key, (4, 4)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"opened": "digits"}, "expected a network of jaxcam.open_model, got str: open it first"),
        ({"target": 10}, "no class 10: there are 10, from 0"),
        ({"target": "cat"}, "no class 'cat'"),
        ({"methods": "lime"}, "no method 'lime': choose one of cam"),
        ({"methods": jaxcam.grad_cam}, "expected names of methods, got a function: give a dict, methods={'mine'"),
        ({"methods": [jaxcam.grad_cam]}, "expected names of methods, got a function: give a dict"),
        ({"methods": []}, "no methods"),
        ({"methods": {}}, "no methods"),
        ({"top": 0}, "expected an integer of at least 1 for top, got 0"),
        ({"image": np.zeros([4, 4])}, r"expected an image \[h w 3\] or the path of a picture, got shape \(4, 4\)"),
        ({"image": np.full([4, 4, 3], 255.0)}, "expected RGB in 0..1, got values from 255 to 255"),
        ({"image": np.full([4, 4, 3], np.nan)}, "expected RGB in 0..1"),
        ({"methods": {"m": lambda cut, image, target: np.full([4, 4], np.nan)}}, "the map is not finite: m"),
    ],
)
def test_mistakes_are_one_line(change, message, opened, wide):
    arguments = {"opened": opened, "image": wide, "target": 3, **change}
    with pytest.raises((ValueError, TypeError), match=message):
        jaxcam.explain(arguments.pop("opened"), arguments.pop("image"), **arguments)


def test_the_photograph_of_the_package_is_small():
    path = jaxcam.datasets.sample_photograph()
    assert path.stat().st_size < 60_000 and images.read(path).shape == (300, 451, 3)


def test_a_map_that_is_not_finite_says_why(opened, wide):
    """Also of methods that are computed together, which are traced and know no values."""
    broken = jaxcam.Cut(np.float32(np.nan), lambda params, x: x * params, lambda params, A, x: A.sum((0, 1)), "product")
    with pytest.raises(ValueError, match="the map of grad_cam is not finite: the activation at 'product' is not"):
        jaxcam.explain(dataclasses.replace(opened, cut=broken), wide, 1, methods=["grad_cam", "hires_cam"])
