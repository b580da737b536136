"""Faithfulness and localization against the metrics of torch-cam and Quantus, which run on the same maps.

Differences of definition, each measured here:

- torch-cam scales the coarse map to 0..1 and then resizes it; jaxcam resizes and then scales. A constant map is zeros
  to torch-cam, which masks the whole image, and ones to jaxcam. torch-cam divides by Y + 1e-7.
- The drop needs a softmax, and with it torch-cam's metric also makes the map of the probability, not of the logit. The
  map is tiny where the softmax is saturated, and then the 1e-8 that torch-cam adds to the denominator dims the mask;
  how much is decided by the rounding of 1 - probability. So that test divides the logits by 10.
- Quantus' pointing game counts a hit if any of several largest pixels is on the object, so a map of ones always hits.
  It counts an empty object as a hit, because NaN becomes True. jaxcam returns the share, and 0.
- Quantus' rank accuracy r takes the n largest pixels in the order of argsort, which breaks ties; jaxcam shares them.
  Its mass accuracy is NaN for a map of zeros, and both are NaN for an empty object; jaxcam returns 0.
"""

import contextlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam import metrics

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the peers' own
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

CANVASES = range(3)
score_of = jax.jit(metrics.masked_score)


@pytest.fixture(scope="module")
def torch_digits(digits):
    torch = pytest.importorskip("torch")
    from benchmarks.torch_vgg import images, torch_vgg

    network = torch_vgg(digits)
    inputs = images(np.stack([jaxcam.pretrained.digits_canvas(i)[0] for i in CANVASES]))
    with torch.no_grad():
        return network, inputs, network(inputs).argmax(1).tolist()


class Given:
    """The part of an extractor that torch-cam's metric needs, with given maps."""

    def __init__(self, model, maps):
        self.model, self.maps = model, maps

    def __call__(self, class_idx=None, scores=None, normalized=True, **kwargs):
        return [self.maps]

    def fuse_cams(self, cams):
        return cams[0]

    def _hooks_off(self):
        return contextlib.nullcontext()


def ours(cut, maps, targets):
    """Average drop and increase, means over the canvases."""
    drops, increases = [], []
    for i, saliency, target in zip(CANVASES, maps, targets, strict=True):
        image, _ = jaxcam.pretrained.digits_canvas(i)
        Y, O = (score_of(cut, image, mask, target) for mask in (jnp.ones([1, 1]), saliency))  # noqa: E741
        drops.append(metrics.average_drop(Y, O))
        increases.append(metrics.increase(Y, O))
    return {"avg_drop": np.mean(drops), "conf_increase": np.mean(increases)}


def theirs(extractor, inputs, targets):
    import torch
    from torchcam.metrics import ClassificationMetric

    metric = ClassificationMetric(extractor, lambda logits: torch.softmax(logits, -1))
    metric.update(inputs, targets)
    return metric.summary()


@pytest.mark.parametrize("name", ["grad_cam", "grad_cam_pp", "inverted", "random", "random, another class"])
def test_torch_cams_average_drop_and_increase(name, cut, torch_digits):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchcam.metrics")
    network, inputs, targets = torch_digits
    if name == "random, another class":
        targets = [(target + 1) % 10 for target in targets]
    maps = []
    for i, target in zip(CANVASES, targets, strict=True):
        if name.startswith("random"):
            maps.append(np.random.default_rng(i).random((16, 16)).astype(np.float32))
            continue
        method = jaxcam.grad_cam if name == "grad_cam" else jaxcam.grad_cam_pp
        saliency = np.asarray(method(cut, jaxcam.pretrained.digits_canvas(i)[0], target))
        maps.append(saliency.max() - saliency if name == "inverted" else saliency)
    masks = np.stack([metrics.as_mask(saliency, (64, 64)) for saliency in maps])
    expected = theirs(Given(network, torch.from_numpy(masks)), inputs, targets)
    summary = ours(cut, maps, targets)
    print(f"\n{name}: {summary}, torch-cam {expected}")
    assert expected["conf_increase"] > 0 if name == "random, another class" else expected["avg_drop"] > 0.1
    np.testing.assert_allclose(summary["avg_drop"], expected["avg_drop"], atol=1e-4)
    assert summary["conf_increase"] == pytest.approx(expected["conf_increase"])


def test_torch_cam_scales_before_it_resizes(digits, torch_digits):
    methods = pytest.importorskip("torchcam.methods")
    from benchmarks.torch_vgg import torch_vgg

    _, inputs, targets = torch_digits
    unsaturated = nnx.clone(digits)
    for parameter in (unsaturated.predictions.kernel, unsaturated.predictions.bias):
        parameter[...] = parameter[...] / 10
    network, cut = torch_vgg(unsaturated), jaxcam.cut(unsaturated, "block3_conv2")
    with methods.GradCAM(network, "block3_conv2") as extractor:
        expected = theirs(extractor, inputs, targets)
    images = [jaxcam.pretrained.digits_canvas(i)[0] for i in CANVASES]
    options = {"score": jaxcam.scores.probability}
    maps = [jaxcam.grad_cam(cut, image, target, **options) for image, target in zip(images, targets, strict=True)]
    drops = []
    for image, saliency, target in zip(images, maps, targets, strict=True):
        Y = jax.nn.softmax(_outputs(cut, image))[target]
        above = saliency - saliency.min()
        mask = jaxcam.resize(above / (above.max() + 1e-8), (64, 64))
        assert mask.max() < 1  # the peak of the coarse map is between pixels
        O = jax.nn.softmax(_outputs(cut, metrics.masked(image, mask)))[target]  # noqa: E741
        drops.append(metrics.average_drop(Y, O))
    print(
        f"\nscaled first {np.mean(drops)}, resized first {ours(cut, maps, targets)['avg_drop']}, torch-cam {expected}"
    )
    np.testing.assert_allclose(np.mean(drops), expected["avg_drop"], atol=5e-6)
    assert abs(ours(cut, maps, targets)["avg_drop"] - expected["avg_drop"]) > 1e-4


def test_a_constant_map_is_zeros_to_torch_cam():
    torch = pytest.importorskip("torch")
    methods = pytest.importorskip("torchcam.methods")
    assert methods.GradCAM._normalize(torch.ones(1, 4, 4)).max() == 0
    assert metrics.as_mask(np.ones((4, 4), np.float32), (4, 4)).min() == 1


@jax.jit
def _outputs(cut, image):
    return cut.head(cut.params, cut.features(cut.params, image), image)


@pytest.fixture(scope="module")
def quantus():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("quantus")


def examples(*, ties=False):
    rng = np.random.default_rng(0)
    maps = rng.random((6, 8, 9)).astype(np.float32)
    return (np.floor(maps * 4) if ties else maps), rng.random((6, 8, 9)) < 0.3


def of_quantus(metric, maps, masks):
    """A metric's values; it reads maps and masks as `[b 1 h w]`, and of model and images only the shape."""
    maps = maps[:, None]
    return metric(
        model=None,
        x_batch=maps,
        y_batch=np.zeros(len(maps), int),
        a_batch=maps,
        s_batch=masks[:, None],
        channel_first=True,
    )


def test_quantus_pointing_game(quantus):
    maps, masks = examples()
    game = quantus.PointingGame(abs=False, normalise=False, disable_warnings=True)
    hits = jax.vmap(metrics.pointing_game)(maps, masks)
    assert 0 < hits.mean() < 1
    np.testing.assert_array_equal(np.asarray(of_quantus(game, maps, masks), float), hits)

    tied, _ = examples(ties=True)
    shares = jax.vmap(metrics.pointing_game)(tied, masks)
    np.testing.assert_array_equal(np.asarray(of_quantus(game, tied, masks), float), shares > 0)
    assert ((shares > 0) & (shares < 1)).any()

    nothing = np.zeros_like(masks)
    assert all(of_quantus(game, maps, nothing))
    assert not jax.vmap(metrics.pointing_game)(maps, nothing).any()


def test_quantus_mass_accuracy_is_energy(quantus):
    metric = quantus.RelevanceMassAccuracy(abs=False, normalise=False, disable_warnings=True)
    for ties in (False, True):
        maps, masks = examples(ties=ties)
        expected = of_quantus(metric, maps, masks)
        np.testing.assert_allclose(jax.vmap(metrics.energy)(maps, masks), expected, rtol=1e-5)
    one_of_zeros = maps * (np.arange(6) != 2)[:, None, None].astype(np.float32)  # a batch of only zeros is refused
    with np.errstate(invalid="ignore"):
        assert np.isnan(of_quantus(metric, one_of_zeros, masks)).nonzero()[0].tolist() == [2]
        assert np.isnan(of_quantus(metric, maps, np.zeros_like(masks))).all()
    assert jax.vmap(metrics.energy)(one_of_zeros, masks)[2] == 0
    assert not jax.vmap(metrics.energy)(maps, np.zeros_like(masks)).any()


def test_quantus_rank_accuracy_gives_the_iou(quantus):
    maps, masks = examples()
    metric = quantus.RelevanceRankAccuracy(abs=False, normalise=False, disable_warnings=True)
    r = np.asarray(of_quantus(metric, maps, masks))
    np.testing.assert_allclose(jax.vmap(metrics.mask_iou)(maps, masks), r / (2 - r), rtol=1e-5)

    tied, _ = examples(ties=True)
    r = np.asarray(of_quantus(metric, tied, masks))
    assert (abs(jax.vmap(metrics.mask_iou)(tied, masks) - r / (2 - r)) > 1e-3).any()
    with np.errstate(invalid="ignore"):
        assert np.isnan(of_quantus(metric, maps, np.zeros_like(masks))).all()
    assert not jax.vmap(metrics.mask_iou)(maps, np.zeros_like(masks)).any()
