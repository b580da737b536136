"""What a request computes is what `jaxcam.explain` computes, whatever is chosen."""

import functools
import pathlib
import re

import jax
import numpy as np
import pytest
from PIL import Image

import jaxcam
from jaxcam.web import Network, Networks, diagnosis, explain_request, request_of, strongest_feature_maps

LAYER = "block2_conv2"


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A smooth picture that is not square."""
    path = tmp_path_factory.mktemp("pictures") / "photo.png"
    noise = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    Image.fromarray(noise).resize((96, 60), Image.Resampling.BICUBIC).save(path)
    return path


def of_the_python_api(path, target, method, seed=0, layer=None, **options):
    opened = jaxcam.open_model("digits", layer=layer)
    function = functools.partial(getattr(jaxcam, method), **options)
    return jaxcam.explain(opened, path, target, jax.random.key(seed), methods={"map": function})


def assert_equal_maps(saliency, expected):
    assert saliency.shape == expected.shape and expected.max() > 0
    np.testing.assert_allclose(saliency / expected.max(), expected / expected.max(), atol=1e-6)


@pytest.fixture(scope="module")
def contributions(photograph):
    """w_k A^k of Grad-CAM for class 7, `[h w k]`, in float64."""
    opened = jaxcam.open_model("digits", layer=LAYER)
    fitted = opened.read(photograph)
    A = opened.cut.features(opened.cut.params, fitted)
    gradient = jax.grad(lambda A: opened.cut.head(opened.cut.params, A, fitted)[7])(A)
    return np.asarray(A, np.float64) * np.asarray(gradient, np.float64).mean((0, 1))


def test_the_map_is_that_of_the_python_api(networks, photograph):
    request = request_of(model="digits", method="grad_cam", layer=LAYER, target="7")
    answer = explain_request(networks, photograph, request)
    expected = of_the_python_api(photograph, 7, "grad_cam", layer=LAYER)
    assert_equal_maps(answer.saliency, expected.maps["map"])
    assert answer.top == expected.top and answer.probability == expected.probability
    assert (answer.class_name, answer.region) == ("7", expected.region)


@pytest.mark.parametrize("with_filters", [False, True])
@pytest.mark.parametrize(("with_subset", "region"), [(False, False), (True, False), (True, True)])
def test_a_choice_is_a_choice_of_contributions(networks, photograph, contributions, with_filters, with_subset, region):
    strongest = np.argsort(-np.maximum(contributions, 0).sum((0, 1)))
    filters = [int(strongest[3]), int(strongest[0])] if with_filters else []
    row, column = np.unravel_index(contributions[2:-2, 2:-2].sum(-1).argmax(), (28, 28))
    corners = [(int(row) + 3, int(column)), (int(row) + 2, int(column) + 2)] if with_subset else []
    mask = np.zeros((32, 32), bool)
    for i in range(32):
        for j in range(32):
            inside = row + 2 <= i <= row + 3 and column <= j <= column + 2 if region else (i, j) in corners
            mask[i, j] = inside or not corners
    kept = np.where(mask[..., None], contributions, 0)
    expected = np.stack([kept[..., k] for k in filters]) if filters else kept.sum(-1)
    texts = {"filters": ",".join(map(str, filters)), "subset": " ".join(f"{i},{j}" for i, j in corners)}
    request = request_of(method="grad_cam", layer=LAYER, target=7, region=region, **texts)
    saliency = explain_request(networks, photograph, request).saliency
    assert saliency.max() > 0
    np.testing.assert_allclose(saliency, np.maximum(expected, 0), atol=1e-5 * contributions.sum(-1).max())


def test_a_choice_is_that_of_select(networks, photograph, contributions):
    filters = np.argsort(-np.maximum(contributions, 0).sum((0, 1)))[:2].tolist()
    request = request_of(
        method="grad_cam", layer=LAYER, target=7, filters=f"{filters[0]},{filters[1]}", subset="2,30 20,1", region=True
    )
    select = jaxcam.select(filters=filters, subset=[(2, 30), (20, 1)], region=True)
    expected = of_the_python_api(photograph, 7, "grad_cam", layer=LAYER, select=select)
    assert_equal_maps(explain_request(networks, photograph, request).saliency, expected.maps["map"])


def test_the_noise_is_that_of_the_python_api(networks, photograph):
    request = request_of(method="grad_cam", layer=LAYER, target=3, samples=2, std=0.2, seed=5)
    expected = of_the_python_api(photograph, 3, "grad_cam", 5, LAYER, n_samples=2, std=0.2)
    assert_equal_maps(explain_request(networks, photograph, request).saliency, expected.maps["map"])
    other_seed = explain_request(networks, photograph, request_of(**{**vars_of(request), "seed": 6})).saliency
    assert np.abs(other_seed - expected.maps["map"]).max() > 1e-3 * other_seed.max()


def vars_of(request):
    """The fields of a request without neurons and feature maps."""
    return {name: getattr(request, name) for name in ("method", "layer", "target", "samples", "std", "seed")}


def test_programs_are_shared_and_bounded(photograph, monkeypatch):
    from jaxcam.web import _networks

    monkeypatch.setattr(_networks, "MOST_PROGRAMS", 3)
    networks = Networks([Network("digits")])
    for fields in ({"target": 1}, {"target": 2}, {"seed": 9}, {"subset": "1,1 2,2"}, {"subset": "3,3"}):
        explain_request(networks, photograph, request_of(method="grad_cam", layer=LAYER, **fields))
    assert len(networks.programs) == 2, "the probabilities and the map, whatever the class, the seed and the neurons"
    for filters in ("1", "2,3", "4,5,6"):
        explain_request(networks, photograph, request_of(method="grad_cam", layer=LAYER, filters=filters))
    assert len(networks.programs) == 3, "one more for all choices of feature maps"
    explain_request(networks, photograph, request_of(method="hires_cam", layer=LAYER))
    assert len(networks.programs) == 3


def test_the_strongest_feature_maps(networks, photograph, contributions):
    request = request_of(method="grad_cam", layer=LAYER, target=7)
    strongest = strongest_feature_maps(networks, photograph, request, count=4)
    positive = np.maximum(contributions, 0)
    assert strongest.numbers == tuple(np.argsort(-positive.sum((0, 1)))[:4])
    expected = np.moveaxis(positive, -1, 0)[list(strongest.numbers)]
    np.testing.assert_allclose(strongest.maps, expected, atol=1e-5 * expected.max())


@pytest.mark.long
def test_the_diagnosis_is_that_of_the_python_api(networks):
    from jaxcam.web import SAMPLES

    opened = jaxcam.open_model("digits")
    report = jaxcam.diagnose(opened.cut, jaxcam.pretrained.digits_canvas(1)[0], 3)
    assert diagnosis(networks, SAMPLES["digits 1"].path, request_of(target=3)) == f"digits, class '3'\n{report}"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"model": "../../etc/passwd"}, "no network '../../etc/passwd': choose one of digits"),
        ({"model": "keras:ResNet50"}, "no network 'keras:ResNet50': choose one of digits"),
        ({"layer": "../../etc/passwd"}, "no layer '../../etc/passwd' with a map in digits: choose one of "),
        ({"layer": "logits"}, "no layer 'logits' with a map"),
        ({"target": "../../etc/passwd"}, "no class '../../etc/passwd'"),
        ({"target": 10}, "no class 10: there are 10, from 0"),
        ({"filters": "3,64"}, r"feature map 64 is outside the layer block3_conv2: it has 0\.\.63"),
        ({"subset": "0,0 16,2"}, r"neuron \(16, 2\) is outside the layer block3_conv2: coordinates are 0\.\.15 x 0"),
        ({"method": "cam"}, "CAM needs a head that is global average pooling"),
    ],
)
def test_what_cannot_be_computed_is_refused(networks, photograph, fields, says):
    with pytest.raises(ValueError, match=says) as refused:
        explain_request(networks, photograph, request_of(**{"method": "grad_cam", **fields}))
    assert "\n" not in str(refused.value)


def test_a_map_of_zeros_says_so(networks, photograph):
    answer = explain_request(networks, photograph, request_of(method="grad_cam", layer=LAYER))
    dark = np.argwhere(answer.saliency == 0)[0]
    chosen = request_of(method="grad_cam", layer=LAYER, subset=f"{dark[0]},{dark[1]}")
    assert not answer.warning
    assert "nothing in what was chosen speaks for" in explain_request(networks, photograph, chosen).warning


def test_the_functions_of_the_docs_run():
    text = (pathlib.Path(__file__).parents[2] / "docs" / "web.md").read_text()
    [block] = re.findall(r"```python\n(# runs without Gradio\n.*?)```", text, re.DOTALL)
    session: dict = {}
    exec(block, session)
    said = block.splitlines()[-1]
    assert repr(eval(said, session)) == said.split("  # ")[1]
