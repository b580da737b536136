"""Images of any number of spatial axes, and examples that an evaluation does not take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import metrics
from tests.evaluation.specimen import METHODS, example

SHAPES = {"a signal": (24,), "a volume": (6, 8, 10)}


def network(spatial):
    """A convolution with stride 2 and a pooled linear head, for images `[*spatial 2]`."""
    axes = "DHW"[-len(spatial) :]
    numbers = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    rng = np.random.default_rng(1)
    params = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((*[3] * len(spatial), 2, 4), (4, 3))]

    def features(params, x):
        strides = (2,) * len(spatial)
        return jax.nn.relu(
            jax.lax.conv_general_dilated(x[None], params[0], strides, "SAME", dimension_numbers=numbers)
        )[0]

    def head(params, A, x):
        return A.mean(range(len(spatial))) @ params[1]

    return jaxcam.Cut(params, features, head, "first")


def labeled(spatial, seed):
    image = np.random.default_rng(seed).uniform(size=(*spatial, 2)).astype(np.float32)
    mask = np.zeros(spatial, np.int8)
    mask[tuple(slice(n // 4, n // 2) for n in spatial)] = 1
    return jaxcam.Example(image, mask=mask, name=str(seed))


@pytest.mark.parametrize("spatial", SHAPES.values(), ids=SHAPES)
def test_any_number_of_spatial_axes(spatial):
    """Energy and drop are those of the metrics called on each map, and the controls are there."""
    cut, examples = network(spatial), [labeled(spatial, seed) for seed in range(2)]
    result = jaxcam.evaluate(cut, examples, METHODS, ["drop", "energy"])
    assert not result.failed
    for each in examples:
        record = result.images[each.name]
        saliency = jaxcam.resize(jaxcam.hires_cam(cut, each.image, record["target"]), spatial)
        row = record["rows"]["HiResCAM"]
        np.testing.assert_allclose(row["energy"], metrics.energy(saliency, each.mask == 1), rtol=1e-4)
        masked_score = metrics.masked_score(cut, each.image, saliency, record["target"])
        drop = metrics.average_drop(record["probability"], masked_score)
        np.testing.assert_allclose(row["average_drop"], drop, atol=2e-5)
        assert record["rows"]["all ones"]["average_drop"] == 0
        np.testing.assert_allclose(record["rows"]["all ones"]["energy"], (each.mask == 1).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inputs": (np.ones(3),)}, "the example has inputs besides its image, but evaluate gives the model only"),
        ({"inputs": {"question": np.ones(3)}}, "the example has inputs besides its image"),
        ({"target": 3}, "target 3 is out of range: the model has 3 classes"),
        ({"target": 0.7}, "expected one class, an integer, for target, got 0.7"),
    ],
)
def test_an_example_that_is_not_taken_is_one_line(tiny, given, message):
    result = jaxcam.evaluate(tiny, [example(0), example(1, **given)], METHODS, ["energy"])
    assert list(result.images) == ["image 0"]
    assert message in result.failed["image 1"]
