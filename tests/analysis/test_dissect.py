"""Dissection of channels that were built to fire on one concept, and of random ones against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import analysis

COLORS = {"red": (1.0, 0.1, 0.1), "green": (0.1, 1.0, 0.1), "blue": (0.1, 0.1, 1.0), "yellow": (1.0, 1.0, 0.1)}


def scenes(count=40, side=16, seed=0):
    """Noise with one or two squares of four colors, and the masks of the colors."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 0.3, (count, side, side, 3)).astype(np.float32)
    masks = {color: np.zeros((count, side, side), bool) for color in COLORS}
    for i in range(count):
        for half in range(2):
            color = list(COLORS)[rng.integers(4)]
            row, column = rng.integers(0, side - 6), half * (side // 2)
            images[i, row : row + 6, column : column + 6] = COLORS[color]
            masks[color][i, row : row + 6, column : column + 6] = True
    return images, masks


def detectors(order):
    """A channel for each color, which fires on it alone, one that is always zero, and one of the background."""
    W = np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, -1], [-1, -1, -1], [-1, -1, -1]], np.float32)[order].T
    bias = np.array([-0.6, -0.6, -0.6, -1.6, -1.0, 1.0], np.float32)[order]
    weights = np.arange(6.0, dtype=np.float32)[order]

    def features(params, x):
        return jax.nn.relu(x @ params["W"] + params["bias"][None, None])

    def head(params, A, x):
        return jnp.stack([(A.mean((0, 1)) * params["weights"]).sum(), A.mean()])

    return jaxcam.Cut({"W": W, "bias": bias, "weights": weights}, features, head, "colors")


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 3, 0, 4, 2, 1]])
def test_planted_detectors_are_named(order):
    images, masks = scenes()
    found = analysis.dissect(detectors(order), images, masks, quantile=0.05, batch_size=16)
    names = [*COLORS, None, None]
    assert [found.names[order.index(k)] for k in range(6)] == names
    for k, color in enumerate(COLORS):
        assert found.iou[order.index(k)].max() > 0.9 and order.index(k) in found.channels(color)
    assert np.isinf(found.thresholds[order.index(4)]) and (found.iou[order.index(4)] == 0).all()
    assert f"{found.layer}: " in str(found) and "4 of 4 concepts" in str(found)


def test_thresholds_and_overlaps_are_those_of_loops():
    """Random channels, at half the masks' resolution along rows."""
    rng = np.random.default_rng(1)
    images = rng.normal(size=(7, 4, 6, 3)).astype(np.float32)
    masks = {name: rng.uniform(size=(7, 8, 6)) < share for name, share in (("a", 0.2), ("b", 0.5), ("none", -1.0))}
    cut = jaxcam.Cut((), lambda params, x: x, lambda params, A, x: A.mean((0, 1)), "pixels")
    found = analysis.dissect(cut, images, masks, quantile=0.1, batch_size=3)
    for k in range(3):
        values = np.sort(images[..., k].ravel())
        threshold = values[len(values) - int(0.1 * len(values))]
        assert found.thresholds[k] == threshold
        # Twice the rows: each is a quarter of one neighbor and three quarters of the other.
        padded = np.pad(images[..., k], ((0, 0), (1, 1), (0, 0)), mode="edge").astype(np.float64)
        fine = np.empty((7, 8, 6))
        fine[:, 0::2] = 0.25 * padded[:, :-2] + 0.75 * padded[:, 1:-1]
        fine[:, 1::2] = 0.75 * padded[:, 1:-1] + 0.25 * padded[:, 2:]
        active = fine >= threshold
        for c, mask in enumerate(masks.values()):
            union = (active | mask).sum()
            np.testing.assert_allclose(found.iou[k, c], (active & mask).sum() / union, rtol=1e-6)


def test_a_channel_that_is_rarely_on_is_active_where_it_is_on():
    images = np.zeros((4, 8, 8, 1), np.float32)
    images[0, 2, 3] = 5.0
    mask = images[..., 0] > 0
    cut = jaxcam.Cut((), lambda params, x: x, lambda params, A, x: A.mean((0, 1)), "pixels")
    found = analysis.dissect(cut, images, {"dot": mask}, quantile=0.1)
    assert found.iou[0, 0] == 1 and found.thresholds[0] == 2.5


@pytest.mark.parametrize("times, least", [(1, 1), (2, 1), (3, 0.5), (4, 0.5), (8, 0.5)])
def test_a_detector_of_single_locations_is_one_at_finer_masks(times, least):
    """Bilinear resizing makes a tent of a value that stands alone, which is lower than it between locations."""
    images = np.zeros((4, 16, 16, 1), np.float32)
    images[1, 5, 6] = 1.0
    mask = np.kron(images[..., 0] > 0, np.ones((times, times), bool)).astype(bool)
    cut = jaxcam.Cut((), lambda params, x: x, lambda params, A, x: A.mean((0, 1)), "pixels")
    assert analysis.dissect(cut, images, {"dot": mask}).iou[0, 0] >= least


@pytest.mark.parametrize("side", [32, 16, 8, 4])
def test_masks_may_be_coarser_than_the_layer(side):
    """A square of 8 x 8 locations: the masks say which of their pixels it fills, and lose nothing when repeated."""
    images = np.zeros((4, 32, 32, 1), np.float32)
    images[1, 8:16, 16:24] = np.arange(1, 65).reshape(8, 8, 1)
    mask = (images[..., 0] > 0)[:, :: 32 // side, :: 32 // side]
    cut = jaxcam.Cut((), lambda params, x: x, lambda params, A, x: A.mean((0, 1)), "pixels")
    assert analysis.dissect(cut, images, {"square": mask}, quantile=64 / 4096).iou[0, 0] == 1
    with pytest.raises(ValueError, match="expected masks with the 2 axes of the layer 'pixels'"):
        analysis.dissect(cut, images, {"square": mask.any(2)})


def test_words_of_another_layer_or_of_no_derivative_are_refused():
    images, masks = scenes(count=4)
    cut = detectors([0, 1, 2, 3, 4, 5])
    found = analysis.dissect(cut, images, masks, quantile=0.05)
    with pytest.raises(ValueError, match="expected a dissection of the layer 'colors', got one of 'others'"):
        analysis.explain_in_words(cut, images[0], 0, dissection=found._replace(layer="others"))
    root = lambda outputs, target: jnp.sqrt(0 * outputs[target])
    with pytest.raises(ValueError, match="weights of the channels at 'colors' are not finite"):
        analysis.explain_in_words(cut, images[0], 0, dissection=found, score=root)
    for channels in ([0.9], "12", [True, False]):
        with pytest.raises(ValueError, match="expected channels, integers in 0..5"):
            analysis.ablation(cut, images[0], 0, jax.random.key(0), channels=channels)


def test_images_that_are_not_labeled_for_a_concept_do_not_count():
    """Two data sets of other concepts: the overlaps are those of loops, and unread masks change nothing."""
    rng = np.random.default_rng(2)
    images = rng.normal(size=(6, 8, 8, 3)).astype(np.float32)
    masks = {name: rng.uniform(size=(6, 8, 8)) < 0.4 for name in "ab"}
    labeled = {"a": np.arange(6) < 4}
    cut = jaxcam.Cut((), lambda params, x: x, lambda params, A, x: A.mean((0, 1)), "pixels")
    found = analysis.dissect(cut, images, masks, labeled=labeled, quantile=0.1, batch_size=4)
    whole = analysis.dissect(cut, images, masks, quantile=0.1)
    np.testing.assert_array_equal(found.thresholds, whole.thresholds)
    np.testing.assert_array_equal(found.iou[:, 1], whole.iou[:, 1])
    for k in range(3):
        active = images[:4, ..., k] >= found.thresholds[k]
        expected = (active & masks["a"][:4]).sum() / (active | masks["a"][:4]).sum()
        np.testing.assert_allclose(found.iou[k, 0], expected, rtol=1e-6)
    masks["a"][4:] = True
    again = analysis.dissect(cut, images, masks, labeled=labeled, quantile=0.1)
    np.testing.assert_array_equal(again.iou, found.iou)


def test_words_are_those_of_the_weights_and_ablation_removes_them():
    images, masks = scenes()
    order = [0, 1, 2, 3, 4, 5]
    cut = detectors(order)
    params = dict(cut.params, weights=np.array([4.0, -3.0, 1.0, 0.0, 9.0, -8.0], np.float32))
    cut = jaxcam.Cut(params, cut.features, cut.head, "colors")
    found = analysis.dissect(cut, images, masks, quantile=0.05)
    words = analysis.explain_in_words(cut, images[0], 0, dissection=found, count=2)
    assert [(neuron.name, neuron.channel) for neuron in words.important] == [("red", 0), ("blue", 2)]
    assert [(neuron.name, neuron.channel) for neuron in words.opposing] == [("green", 1)]
    np.testing.assert_allclose([n.weight for n in words.important], np.array([4.0, 1.0]) / 256, rtol=1e-5)
    assert words.named_share == pytest.approx((4 + 3 + 1) / (4 + 3 + 1 + 9 + 8))
    assert str(words).splitlines()[0].startswith("for class 0: red (channel 0, alpha +0.0156), blue (channel 2")
    A = np.asarray(cut.features(cut.params, images[0]))
    check = analysis.ablation(cut, images[0], 0, jax.random.key(0), channels=[0, 2], draws=30)
    np.testing.assert_allclose(check.drop, (A.mean((0, 1)) * params["weights"])[[0, 2]].sum(), rtol=1e-4)
    possible = [(A.mean((0, 1)) * params["weights"])[[i, j]].sum() for i in range(6) for j in range(i)]
    assert all(np.abs(np.array(possible) - drop).min() < 1e-5 for drop in check.random_drops)
    assert len(np.unique(check.random_drops.round(5))) > 3
    assert str(check).startswith("the score falls by ")


def test_refusals():
    images, masks = scenes(count=4)
    cut = detectors([0, 1, 2, 3, 4, 5])
    with pytest.raises(TypeError, match="expected masks of bool, .* got int64 for 'red'"):
        analysis.dissect(cut, images, {"red": masks["red"].astype("int64")})
    with pytest.raises(ValueError, match="there are no concepts"):
        analysis.dissect(cut, images, {})
    with pytest.raises(ValueError, match=r"masks \[4 \*spatial\], one for each image, got \(3, 16, 16\) for 'red'"):
        analysis.dissect(cut, images, {"red": masks["red"][:3]})
    with pytest.raises(
        ValueError, match=r"masks of one shape, got \(4, 8, 16\) for 'half' and \(4, 16, 16\) for 'red'"
    ):
        analysis.dissect(cut, images, {"red": masks["red"], "half": masks["red"][:, ::2]})
    with pytest.raises(ValueError, match="expected at least 2000 locations for quantile=0.0005, got 1024 in 4 images"):
        analysis.dissect(cut, images, masks, quantile=0.0005)
    with pytest.raises(ValueError, match="expected a quantile in 0..1, exclusive, got 1"):
        analysis.dissect(cut, images, masks, quantile=1)
    with pytest.raises(TypeError, match="expected a dict by concept for labeled, got a list"):
        analysis.dissect(cut, images, masks, labeled=[True] * 4)
    with pytest.raises(ValueError, match="labeled has no concept 'pink': choose from red, green, blue, yellow"):
        analysis.dissect(cut, images, masks, labeled={"pink": np.ones(4, bool)})
    with pytest.raises(TypeError, match="expected bool in labeled, got int64 for 'red'"):
        analysis.dissect(cut, images, masks, labeled={"red": np.ones(4, int)})
    with pytest.raises(ValueError, match=r"expected labeled \[4\], one for each image, got \(3,\) for 'red'"):
        analysis.dissect(cut, images, masks, labeled={"red": np.ones(3, bool)})
    found = analysis.dissect(cut, images, masks, quantile=0.05)
    with pytest.raises(ValueError, match="there is no concept 'purple': choose one of red, green, blue, yellow"):
        found.channels("purple")
    with pytest.raises(ValueError, match="expected a dissection of the 6 channels at 'colors', got one of 4 channels"):
        analysis.explain_in_words(cut, images[0], 0, dissection=found._replace(iou=found.iou[:4]))
    for channels in ([], [6], [1, 1]):
        with pytest.raises(ValueError, match=r"expected channels, integers in 0..5, each once, got \["):
            analysis.ablation(cut, images[0], 0, jax.random.key(0), channels=channels)
