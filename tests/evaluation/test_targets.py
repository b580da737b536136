"""Targets of any kind in an evaluation, and keys for the methods that draw noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from tests.evaluation.specimen import SIDE, close, example, head

COUNT = 3
EXAMPLES = [example(seed, label=None) for seed in range(COUNT)]
VALUES = [0.7, -1.0, 3.0]


def near(outputs, value):
    return jnp.exp(-((outputs[0] - value) ** 2))


METHODS = {"Grad-CAM": functools.partial(jaxcam.grad_cam, score=near)}
METRICS = ["adcc", "deletion", "energy"]


@pytest.fixture(scope="module")
def given(tiny):
    return jaxcam.evaluate(tiny, EXAMPLES, METHODS, METRICS, targets=VALUES, score=near)


def test_a_target_for_each_image(tiny, given):
    """Against the metrics on arrays and plain jax.grad."""
    assert not given.failed and given.target == "given" and not given.apart() and given.accuracy is None
    for (name, record), shown, value in zip(given.images.items(), EXAMPLES, VALUES, strict=True):
        image = jnp.asarray(shown.image)
        A = tiny.features(tiny.params, image)
        u, gradient = jax.value_and_grad(lambda A: near(head(tiny.params, A, None), value))(A)  # noqa: B023
        saliency = jax.nn.relu((A * gradient.mean((0, 1), keepdims=True)).sum(-1))
        fine = jaxcam.resize(saliency, (SIDE, SIDE))
        fine = fine / fine.max() if fine.max() > 0 else fine
        assert record["target"] == pytest.approx(value) and record["probability"] == pytest.approx(float(u), rel=1e-4)
        over = lambda outputs, _: near(outputs, value)  # noqa: B023
        masked = jaxcam.metrics.masked_score(tiny, image, fine, (), score=over)
        row = record["rows"]["Grad-CAM"]
        assert row["average_drop"] == pytest.approx(float(jaxcam.metrics.average_drop(u, masked)), abs=1e-5)
        deleted = jaxcam.metrics.deletion(tiny, image, fine, (), score=over)
        assert row["deletion"] == pytest.approx(float(jaxcam.metrics.area(deleted)), abs=1e-5)
        plus = jax.nn.relu((A * jax.nn.relu(gradient).mean((0, 1), keepdims=True)).sum(-1))
        expected = jaxcam.metrics.energy(jaxcam.resize(plus, (SIDE, SIDE)), shown.mask == 1, ignore=shown.mask == -1)
        assert record["rows"]["Grad-CAM+"]["energy"] == pytest.approx(float(expected), abs=1e-5), name
    assert "Grad-CAM" in str(given)


def test_targets_in_other_forms(tiny, given):
    run = functools.partial(jaxcam.evaluate, tiny, score=near)
    own = [shown._replace(target=value) for shown, value in zip(EXAMPLES, VALUES, strict=True)]
    stacked = run(EXAMPLES, METHODS, METRICS, targets=np.float32(VALUES))
    one = run(EXAMPLES, METHODS, METRICS, target=VALUES[1])
    for result, names in (
        (run(iter(own), METHODS, METRICS), given.images),
        (stacked, given.images),
        (one, ["image 1"]),
    ):
        for name in names:
            assert result.images[name]["target"] == pytest.approx(given.images[name]["target"])
            for method, row in given.images[name]["rows"].items():
                close(result.images[name]["rows"][method], row)


def test_structured_outputs_and_text(tiny):
    """A score that picks from outputs that are no classes, with a target that has text in it, or with none."""
    several = jaxcam.Cut(tiny.params, tiny.features, lambda p, A, x: {"logits": head(p, A, x)}, "first")
    pick = lambda outputs, target: jax.nn.softmax(outputs["logits"])[len(target["class"])]
    ignore = lambda outputs, _: jax.nn.softmax(outputs["logits"])[2]
    picking, ignoring = ({"Grad-CAM": functools.partial(jaxcam.grad_cam, score=score)} for score in (pick, ignore))
    expected = jaxcam.evaluate(several, EXAMPLES, ignoring, ["adcc"], target=None, score=ignore)
    result = jaxcam.evaluate(several, EXAMPLES, picking, ["adcc"], target={"class": "ab"}, score=pick)
    assert not result.failed and len(result.images) == COUNT
    for name, record in result.images.items():
        assert record["target"] == "['class']: 'ab'" and record["predicted"] is None
        for method, row in record["rows"].items():
            close(row, expected.images[name]["rows"][method])
    with pytest.raises(
        ValueError, match=r"expected outputs \[classes\] of the model, got \['logits'\]: \[3\]: .*targets="
    ):
        jaxcam.evaluate(several, EXAMPLES, picking, ["drop"], score=pick)


def test_a_folder_tells_targets_apart(tiny, tmp_path):
    run = functools.partial(jaxcam.evaluate, tiny, EXAMPLES[:2], METHODS, ["energy"], score=near, out=tmp_path)
    first = run(targets=VALUES[:2])
    assert run(targets=VALUES[:2]) == first
    with pytest.raises(ValueError, match="holds another run, with another image, mask or label of 'image 1'"):
        run(targets=[VALUES[0], 5.0])
    with pytest.raises(ValueError, match="holds another run, with target"):
        run(target=0.7)


def test_mistakes(tiny):
    run = functools.partial(jaxcam.evaluate, tiny, EXAMPLES, METHODS, ["energy"])
    for given, message in (
        ({"target": 0.7}, "None, one class or one for each image, got 0.7"),
        ({"target": 0.7, "targets": VALUES, "score": near}, "expected target=, one for all images, or targets="),
    ):
        with pytest.raises(TypeError, match=message):
            run(**given)
    with pytest.raises(ValueError, match="one for each of 3 images, got 2"):
        run(targets=[1, 2])
    with pytest.raises(TypeError, match="examples with a length"):
        jaxcam.evaluate(tiny, iter(EXAMPLES), METHODS, targets=[1, 2, 0])


def test_a_key_goes_to_methods_that_draw_noise(tiny):
    methods = {
        "torch-cam's": functools.partial(jaxcam.grad_cam_pp, compat="torch-cam"),
        "average": functools.partial(jaxcam.average_maps(functools.partial(jaxcam.grad_cam_pp, compat="xplique"))),
        "smooth": functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=2),
    }
    result = jaxcam.evaluate(tiny, [example(0)], methods, ["energy"])
    assert not result.failed
    expected = jaxcam.grad_cam_pp(tiny, EXAMPLES[0].image, compat="torch-cam")
    energy = jaxcam.metrics.energy(
        jaxcam.resize(expected, (SIDE, SIDE)), EXAMPLES[0].mask == 1, ignore=EXAMPLES[0].mask == -1
    )
    assert result.images["image 0"]["target"] == result.images["image 0"]["predicted"]
    assert result.images["image 0"]["rows"]["torch-cam's"]["energy"] == pytest.approx(float(energy), abs=1e-5)
    similarities = jaxcam.metrics.model_randomization(
        methods["torch-cam's"], tiny, EXAMPLES[0].image, 1, jax.random.key(0)
    )
    assert all(map(jnp.isfinite, similarities.values()))


@pytest.mark.parametrize(
    ("method", "takes_key"),
    [
        (jaxcam.grad_cam, False),
        (functools.partial(jaxcam.grad_cam, n_samples=3), True),
        (functools.partial(functools.partial(jaxcam.grad_cam, n_samples=3), n_samples=0), False),
        (jaxcam.smooth_grad_cam_pp, True),
        (functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=0), False),
        (functools.partial(jaxcam.smooth_grad_cam_pp, key=jax.random.key(0)), False),
        (functools.partial(jaxcam.grad_cam_pp, compat="original"), False),
        (jaxcam.saliency, False),
        (jaxcam.smooth_grad, True),
        (jaxcam.average_maps(jaxcam.saliency), True),
        (jaxcam.guided_grad_cam, False),
        (functools.partial(jaxcam.guided_grad_cam, method=jaxcam.smooth_grad_cam_pp), True),
        (jaxcam.controls.random, True),
        (jaxcam.controls.all_ones, False),
        (lambda cut, image, target, *, key: None, True),
    ],
)
def test_which_methods_draw_noise(method, takes_key):
    assert jaxcam.methods.takes_key(method) is takes_key
