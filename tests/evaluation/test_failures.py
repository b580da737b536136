"""What fails: a bad image, a bad method or metric, and a mistaken call."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam.datasets import load
from jaxcam.evaluation import measures
from tests.evaluation.specimen import CLASSES, METHODS, SIDE, example, features


def test_one_bad_image_is_one_line(tiny, examples, caplog, tmp_path):
    """A picture cut short, a label out of range, a mask of another size, NaN: the others go on, with their results."""
    cut_short = tmp_path / "short.png"
    cut_short.write_bytes(b"\x89PNG\r\n\x1a\nabc")
    nan = examples[1].image.copy()
    nan[0, 0, 0] = np.nan
    bad = [
        example(6, image=cut_short, name="short"),
        example(7, label=CLASSES, name="label"),
        example(8, mask=np.ones((3, 4), np.int8), name="mask"),
        example(9, image=nan, name="nan"),
    ]
    bad[0] = bad[0]._replace(mask=None, boxes=None)
    loader = functools.partial(load, shape=(SIDE, SIDE))
    with caplog.at_level(logging.WARNING, "jaxcam"):
        found = jaxcam.evaluate(
            tiny, [bad[0], examples[0], *bad[1:], examples[1]], METHODS, ["pointing"], load=loader, out=tmp_path / "out"
        )
    assert list(found.images) == ["image 0", "image 1"]
    assert list(found.failed) == ["short", "label", "mask", "nan"]
    for name, words in (
        ("short", "short.png is not a picture"),
        ("label", "label 3 is no class of the model: it has 3, 0..2"),
        ("mask", "(3, 4)"),
        ("nan", "1 values that are NaN"),
    ):
        assert words in found.failed[name]
        assert "\n" not in found.failed[name]
    assert len(caplog.records) == 4
    assert {file.name for file in (tmp_path / "out" / "images").iterdir()} == {"image 0.json", "image 1.json"}


def test_a_map_that_is_not_finite_and_methods_that_cannot_be_called(tiny, examples):
    broken = lambda cut, image, target: jnp.full((6, 6), jnp.nan)
    found = jaxcam.evaluate(tiny, examples[:2], {"broken": broken}, ["pointing"])
    assert not found.images
    assert "broken: the map is not finite" in found.failed["image 0"]
    assert "2 failed" in str(found)
    with pytest.raises(ValueError, match=r"expected one map with 2 axes from <lambda>, got \[12, 12, 3\]"):
        jaxcam.evaluate(tiny, examples[:2], {"whole": lambda cut, image, target: jnp.asarray(image)}, ["pointing"])
    with pytest.raises(ValueError, match=r"expected outputs \[classes\] of the model, got \[\]"):
        scalar = jaxcam.Cut(tiny.params, features, lambda params, A, x: A.sum())
        jaxcam.evaluate(scalar, examples[:2], METHODS, ["pointing"])


def test_mistakes(tiny, examples):
    run = functools.partial(jaxcam.evaluate, tiny)
    for given, message in (
        ((examples, {}), "no methods"),
        ((examples, METHODS, ["drpo"]), "no metric 'drpo': choose one of drop, adcc"),
        (([], METHODS), "no examples"),
        (([examples[0], examples[0]], METHODS, ["pointing"]), "two examples are called 'image 0'"),
        ((examples, {"random": jaxcam.grad_cam}), "'random' is the name of a control"),
        ((examples, [functools.partial(jaxcam.grad_cam)]), "has no name: give methods as a dict"),
    ):
        with pytest.raises(ValueError, match=message):
            run(*given)
    with pytest.raises(ValueError, match="target is 'best': choose one of predicted, label"):
        run(examples, METHODS, target="best")
    with pytest.raises(ValueError, match="reference is 'CAM': choose one of Grad-CAM, HiResCAM"):
        run(examples, METHODS, reference="CAM")
    with pytest.raises(TypeError, match="expected a list of names, .* got metrics='drop'"):
        run(examples, METHODS, "drop")
    unlabelled = run([examples[0]._replace(label=None)], METHODS, ["pointing"], target="label")
    assert "and the example has none" in unlabelled.failed["image 0"]


@pytest.mark.long
def test_a_bad_image_in_the_first_place_is_as_one_in_the_last(tiny, examples):
    grey = examples[0]._replace(image=examples[0].image[..., :1], name="grey")
    first = jaxcam.evaluate(tiny, [grey, *examples[1:3]], METHODS, ["pointing"])
    last = jaxcam.evaluate(tiny, [*examples[1:3], grey], METHODS, ["pointing"])
    assert first.images == last.images and first.failed == last.failed and len(first.images) == 2

    def picky(cut, case, saliency):
        return {"own": case.mask.mean()}  # raises AttributeError where there is none

    mixed = [examples[0], examples[1]._replace(mask=None), examples[2]]
    assert list(jaxcam.evaluate(tiny, mixed, METHODS, [picky]).failed) == ["image 1"]


@pytest.mark.long
def test_methods_and_measures_as_people_bind_them(tiny, examples):
    key = jax.random.key(5)
    methods = {
        "bound": functools.partial(jaxcam.grad_cam, n_samples=1, key=key),
        "keyword": lambda cut, image, target, *, key: jax.random.uniform(key, (6, 6)),
        "jitted": jax.jit(lambda cut, image, target: jaxcam.grad_cam(cut, image, target)),
    }
    grey = functools.partial(measures.deletion, baseline=np.float32([0.4, 0.4, 0.4]), steps=2)
    assert jaxcam.evaluate(tiny, examples[:1], methods, [grey]).images
    for metric, message in (
        (
            lambda cut, case, saliency: {"own": saliency[0]},
            r"a number or a curve \[2 points\] in column 'own', got shape \[12\]",
        ),
        (
            lambda cut, case, saliency: {"zero": saliency.max()},
            "returns the column 'zero': a name must .* not be one of zero, win",
        ),
        (lambda cut, case, saliency: {"energy, mine": saliency.max()}, "'energy, mine': a name must not contain ', '"),
        (
            functools.partial(measures.pointing, tolerance="15px"),
            "metric 'pointing, tolerance 15px': expected a finite tolerance of at least 0 pixels, got '15px'",
        ),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            jaxcam.evaluate(tiny, examples[:1], METHODS, [metric])
    with pytest.raises(TypeError, match="must return a dict of columns, got "):
        jaxcam.evaluate(tiny, examples[:1], METHODS, [lambda cut, case, saliency: saliency.max()])
    with pytest.raises(TypeError, match="metric 3 is not a function"):
        jaxcam.evaluate(tiny, examples[:1], METHODS, [3])
    with pytest.raises(TypeError, match=r"expected a jax\.random\.key, .* got key=0"):
        jaxcam.evaluate(tiny, examples[:1], METHODS, ["pointing"], 0)
    with pytest.raises(TypeError, match="expected jaxcam.Example, or load= that makes one, got a tuple"):
        jaxcam.evaluate(tiny, [(examples[0].image, 1)], METHODS)
    with pytest.raises(TypeError, match="got a file: give load="):
        jaxcam.evaluate(tiny, [jaxcam.Example("a.png")], METHODS)
    one = jaxcam.Cut(tiny.params, features, lambda params, A, x: jax.nn.softmax(A.sum()[None]))
    with pytest.raises(ValueError, match="one output, whose softmax is 1"):
        jaxcam.evaluate(one, examples[:1], METHODS, ["pointing"])
