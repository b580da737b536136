"""Faithfulness and localisation beside torch-cam's and Quantus' metrics, run for real on the same maps.

Differences of definition, each measured here:

- torch-cam scales the coarse map to 0..1 and then resizes it; jaxcam scales what it has resized. To torch-cam a
  constant map is zeros, which masks the whole image; to jaxcam it is ones. torch-cam divides by Y + 1e-7.
- With the softmax that the drop needs, torch-cam's metric also takes the map of the probability, not of the logit.
  Where the softmax is saturated that is tiny, and the 1e-8 that torch-cam adds to what it divides by dims the mask: the
  peak of one of the maps here is 0.52.
- Quantus' pointing game counts a hit where any of several largest pixels is on the object, so that a map of ones
  always hits, and an empty object as a hit, its NaN having become True; jaxcam gives the share, and 0.
- Quantus' rank accuracy r takes the n largest in the order of argsort, which settles ties; jaxcam shares them. Its mass
  accuracy of a map of zeros, and both of an empty object, are NaN; jaxcam's are 0.
"""

import contextlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import metrics as faithfulness
from jaxcam import metrics as localisation

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the peers' own
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

CANVASES = range(3)
score_of = jax.jit(faithfulness.masked_score)


@pytest.fixture(scope="module")
def torch_digits(digits):
    torch = pytest.importorskip("torch")
    from benchmarks.torch_vgg import images, torch_vgg

    network = torch_vgg(digits)
    inputs = images(np.stack([jaxcam.pretrained.digits_canvas(i)[0] for i in CANVASES]))
    with torch.no_grad():
        return network, inputs, network(inputs).argmax(1).tolist()


class Given:
    """What torch-cam's metric needs of an extractor, for maps that are there already."""

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
        Y, O = (score_of(cut, image, each, target) for each in (jnp.ones([1, 1]), saliency))  # noqa: E741
        drops.append(faithfulness.average_drop(Y, O))
        increases.append(faithfulness.increase(Y, O))
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
    masks = np.stack([faithfulness.as_mask(each, (64, 64)) for each in maps])
    wanted = theirs(Given(network, torch.from_numpy(masks)), inputs, targets)
    found = ours(cut, maps, targets)
    print(f"\n{name}: {found}, torch-cam {wanted}")
    assert wanted["conf_increase"] > 0 if name == "random, another class" else wanted["avg_drop"] > 0.1
    np.testing.assert_allclose(found["avg_drop"], wanted["avg_drop"], atol=1e-4)
    assert found["conf_increase"] == pytest.approx(wanted["conf_increase"])


def test_torch_cam_scales_before_it_resizes(cut, torch_digits):
    methods = pytest.importorskip("torchcam.methods")
    network, inputs, targets = torch_digits
    with methods.GradCAM(network, "block3_conv2") as extractor:
        wanted = theirs(extractor, inputs, targets)
    images = [jaxcam.pretrained.digits_canvas(i)[0] for i in CANVASES]
    options = {"score": jaxcam.scores.probability}
    maps = [jaxcam.grad_cam(cut, image, target, **options) for image, target in zip(images, targets, strict=True)]
    drops = []
    for image, saliency, target in zip(images, maps, targets, strict=True):
        Y = jax.nn.softmax(_outputs(cut, image))[target]
        above = saliency - saliency.min()
        mask = jaxcam.resize(above / (above.max() + 1e-8), (64, 64))
        assert mask.max() < 1  # the peak of the coarse map is between pixels
        O = jax.nn.softmax(_outputs(cut, faithfulness.masked(image, mask)))[target]  # noqa: E741
        drops.append(faithfulness.average_drop(Y, O))
    print(f"\nscaled first {np.mean(drops)}, resized first {ours(cut, maps, targets)['avg_drop']}, torch-cam {wanted}")
    np.testing.assert_allclose(np.mean(drops), wanted["avg_drop"], atol=1e-4)
    assert abs(ours(cut, maps, targets)["avg_drop"] - wanted["avg_drop"]) > 1e-3


def test_a_constant_map_is_zeros_to_torch_cam():
    torch = pytest.importorskip("torch")
    methods = pytest.importorskip("torchcam.methods")
    assert methods.GradCAM._normalize(torch.ones(1, 4, 4)).max() == 0
    assert faithfulness.as_mask(np.ones((4, 4), np.float32), (4, 4)).min() == 1


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
    found = jax.vmap(localisation.pointing_game)(maps, masks)
    assert 0 < found.mean() < 1
    np.testing.assert_array_equal(np.asarray(of_quantus(game, maps, masks), float), found)

    tied, _ = examples(ties=True)
    shares = jax.vmap(localisation.pointing_game)(tied, masks)
    np.testing.assert_array_equal(np.asarray(of_quantus(game, tied, masks), float), shares > 0)
    assert ((shares > 0) & (shares < 1)).any()

    nothing = np.zeros_like(masks)
    assert all(of_quantus(game, maps, nothing))
    assert not jax.vmap(localisation.pointing_game)(maps, nothing).any()


def test_quantus_mass_accuracy_is_energy(quantus):
    metric = quantus.RelevanceMassAccuracy(abs=False, normalise=False, disable_warnings=True)
    for ties in (False, True):
        maps, masks = examples(ties=ties)
        wanted = of_quantus(metric, maps, masks)
        np.testing.assert_allclose(jax.vmap(localisation.energy)(maps, masks), wanted, rtol=1e-5)
    one_of_zeros = maps * (np.arange(6) != 2)[:, None, None].astype(np.float32)  # a batch of only zeros is refused
    with np.errstate(invalid="ignore"):
        assert np.isnan(of_quantus(metric, one_of_zeros, masks)).nonzero()[0].tolist() == [2]
        assert np.isnan(of_quantus(metric, maps, np.zeros_like(masks))).all()
    assert jax.vmap(localisation.energy)(one_of_zeros, masks)[2] == 0
    assert not jax.vmap(localisation.energy)(maps, np.zeros_like(masks)).any()


def test_quantus_rank_accuracy_gives_the_iou(quantus):
    maps, masks = examples()
    metric = quantus.RelevanceRankAccuracy(abs=False, normalise=False, disable_warnings=True)
    r = np.asarray(of_quantus(metric, maps, masks))
    np.testing.assert_allclose(jax.vmap(localisation.mask_iou)(maps, masks), r / (2 - r), rtol=1e-5)

    tied, _ = examples(ties=True)
    r = np.asarray(of_quantus(metric, tied, masks))
    assert (abs(jax.vmap(localisation.mask_iou)(tied, masks) - r / (2 - r)) > 1e-3).any()
    with np.errstate(invalid="ignore"):
        assert np.isnan(of_quantus(metric, maps, np.zeros_like(masks))).all()
    assert not jax.vmap(localisation.mask_iou)(maps, np.zeros_like(masks)).any()
