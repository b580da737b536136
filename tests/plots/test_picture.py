"""An image in a model's range is drawn as the picture that it was made from."""

import copy
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import jaxcam.plots
from jaxcam.plots import as_picture

# Black, white and colors; a dark and a bright picture; one of a single color.
RNG = np.random.default_rng(0)
WHOLE = np.concatenate([np.zeros([1, 7, 3]), np.ones([1, 7, 3]), RNG.uniform(size=(8, 7, 3))]).astype(np.float32)
PICTURES = {
    "whole": WHOLE,
    "dark": WHOLE * 0.25,
    "bright": 0.75 + WHOLE * 0.25,
    "black": np.zeros([10, 7, 3], np.float32),
    "white": np.ones([10, 7, 3], np.float32),
}
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
ENCODINGS = {
    "0..1": lambda p: p,
    "float64": lambda p: p.astype(np.float64),
    "bfloat16": lambda p: jnp.asarray(p, jnp.bfloat16),
    "uint8": lambda p: np.round(255 * p).astype(np.uint8),
    "int32": lambda p: np.round(255 * p).astype(np.int32),
    "uint16": lambda p: np.round(65535 * p).astype(np.uint16),
    "0..255": lambda p: 255 * p,
    "-1..1": lambda p: 2 * p - 1,
    "ImageNet": lambda p: (p - MEAN) / STD,
    "caffe": lambda p: 255 * p[..., ::-1] - np.array([103.939, 116.779, 123.68]),
    "channels first": lambda p: np.moveaxis(2 * p - 1, -1, 0),
    "opaque": lambda p: np.concatenate([np.round(255 * p), np.full([10, 7, 1], 255)], -1).astype(np.uint8),
}
# What the values alone do not tell: a bright image in -1..1 has no negative value, a black one in 0..255 no large one.
AMBIGUOUS = {("-1..1", "bright"), ("-1..1", "white"), ("uint16", "dark"), ("channels first", "bright")}
AMBIGUOUS |= {("channels first", "white"), ("caffe", "bright"), ("caffe", "white")}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", PICTURES)
def test_any_range_is_drawn_as_its_picture(encoding, name):
    picture = PICTURES[name]
    image = ENCODINGS[encoding](picture)
    if (encoding, name) not in AMBIGUOUS:
        drawn = as_picture(image)
        assert drawn.shape == picture.shape and drawn.dtype == np.float32
        np.testing.assert_allclose(
            drawn, picture, atol=0.004 if encoding in ("bfloat16", "uint8", "int32", "opaque") else 1e-5
        )
    figure = jaxcam.plots.compare([image], {"map": [np.eye(4)]})
    assert (figure.axes[0].images[0].get_array() == as_picture(image)).all()


@pytest.mark.parametrize("encoding", ["-1..1", "ImageNet", "0..255"])
def test_images_of_one_figure_have_one_range(encoding):
    """A bright image beside others is drawn in their range, though its own values do not tell it."""
    images = [ENCODINGS[encoding](PICTURES[name]) for name in ("bright", "dark", "whole")]
    figure = jaxcam.plots.compare(images, {"map": [np.eye(4)] * 3})
    panels = [axes for axes in figure.axes if axes.get_title() == "input"]
    for axes, name in zip(panels, ("bright", "dark", "whole"), strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), PICTURES[name], atol=1e-5)


@pytest.mark.parametrize("shape", [(10, 7), (10, 7, 1), (1, 10, 7)])
@pytest.mark.parametrize("encoding", ["0..1", "uint8", "-1..1", "0..255"])
def test_one_channel_is_gray(shape, encoding):
    gray = WHOLE[..., 0]
    drawn = as_picture(ENCODINGS[encoding](gray).reshape(shape))
    np.testing.assert_allclose(drawn, np.repeat(gray[..., None], 3, -1), atol=0.004)


def test_a_range_that_is_given():
    image = RNG.uniform(0.2, 0.9, (4, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(as_picture(image, value_range=(-1, 1)), (image + 1) / 2, atol=1e-6)
    low, high = np.array([0, 0.1, 0.2]), np.array([1, 2, 3])
    np.testing.assert_allclose(
        as_picture(image, value_range=(low, high)), np.clip((image - low) / (high - low), 0, 1), atol=1e-6
    )
    figure = jaxcam.plots.neurons(image, np.eye(4), [(0, 0)], value_range=(-1, 1))
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), (image + 1) / 2, atol=1e-6)


@pytest.mark.parametrize("value_range", [(1, 0), (0, 0), 255, (0, 1, 2), (0, np.inf), ("a", "b"), (np.zeros(2), 1)])
def test_what_is_no_range(value_range):
    with pytest.raises(ValueError, match="expected value_range with the values of black and of white, such as"):
        as_picture(WHOLE, value_range=value_range)


def test_other_values_are_drawn_from_the_lowest_to_the_highest():
    scores = RNG.normal(0, 3, (20, 20, 3))  # the values of a whitened image
    spread = (scores - scores.min()) / (scores.max() - scores.min())
    np.testing.assert_allclose(as_picture(scores), spread, atol=1e-5)
    digits = (WHOLE[..., :1] - 0.1307) / 0.3081  # one channel, -0.42 to 2.82
    np.testing.assert_allclose(as_picture(digits), np.repeat(WHOLE[..., :1], 3, -1), atol=1e-5)
    assert (as_picture(np.full([3, 3, 1], -40.0)) == 0.5).all(), "a single value is gray"
    assert (as_picture(np.full([3, 3, 3], 128, np.uint8)) == np.float32(128 / 255)).all()
    assert as_picture(np.array([[0, 1]], np.uint8))[0, :, 0].tolist() == [0, 1]
    assert as_picture(np.array([[0, 4095]], np.uint16))[0, :, 0].tolist() == [0, 1]
    noisy = np.clip(WHOLE, 0.02, 1) + np.float32(0.03)
    np.testing.assert_allclose(as_picture(noisy), np.clip(noisy, 0, 1), atol=1e-6)


def test_opacity_is_over_white():
    image = np.array([[[255, 0, 0, 0], [255, 0, 0, 51], [0, 0, 255, 255]]], np.uint8)
    np.testing.assert_allclose(as_picture(image)[0], [[1, 1, 1], [1, 0.8, 0.8], [0, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(as_picture(image / 255)[0], [[1, 1, 1], [1, 0.8, 0.8], [0, 0, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros([2, 8, 8, 3]), ValueError, r"expected one image, .* got \[2, 8, 8, 3\]: choose the channels"),
        (np.zeros([8, 8, 5]), ValueError, r"got \[8, 8, 5\]: choose the channels to draw"),
        (np.zeros([0, 8, 3]), ValueError, r"got \[0, 8, 3\]"),
        (np.full([8, 8, 3], np.nan), ValueError, "an image has 192 values that are NaN or infinite"),
        ("cat.png", TypeError, "expected an image, an array of numbers, got <U7: jaxcam.datasets.images.read reads"),
    ],
)
def test_what_is_no_picture(image, error, message):
    with pytest.raises(error, match=message):
        jaxcam.plots.compare([image], {})


def test_no_images_and_no_map():
    with pytest.raises(ValueError, match="there are no images: expected at least one to draw"):
        jaxcam.plots.compare([], {"map": []})
    with pytest.raises(ValueError, match="a map has 1 values that are NaN or infinite"):
        jaxcam.plots.compare([WHOLE], {"map": [np.array([[0, np.nan]])]})
    figure = Figure()
    with pytest.raises(ValueError, match="a map has 1 values"):
        jaxcam.plots.overlay(figure.subplots(), WHOLE, np.array([[0, np.inf]]))


def test_a_figure_shows_itself_in_a_notebook():
    """A notebook asks the last value of a cell for its picture; pyplot is not needed."""
    figure = jaxcam.plots.compare([WHOLE], {"map": [np.eye(4)]})
    assert type(figure) is Figure
    for shown in (figure, copy.deepcopy(figure), pickle.loads(pickle.dumps(figure))):
        content = shown._repr_png_()
        assert content.startswith(b"\x89PNG") and len(content) > 1000
