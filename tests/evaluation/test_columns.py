"""What an evaluation measures: its columns against the metrics called one by one, and metrics with options."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import evaluation, metrics
from jaxcam.evaluation import measures
from tests.evaluation.specimen import CLASSES, METHODS, SIDE, close, features, head

MEASURED = ["adcc", "deletion", "insertion", "road", "confidence", "pointing", "energy", "mask_iou", "box_iou", "found"]


@pytest.mark.long
def test_columns_are_the_metrics_called_one_by_one(tiny, examples):
    whole = jaxcam.evaluate(tiny, examples[:2], METHODS, MEASURED, target="label")
    for each in examples[:2]:
        record = whole.images[each.name]
        outputs = np.asarray(head(tiny.params, features(tiny.params, each.image), each.image))
        p = np.exp(outputs - outputs.max())
        p = p / p.sum()
        assert record["label"] == record["target"] == each.label
        assert record["predicted"] == outputs.argmax()
        assert record["rank"] == (outputs > outputs[each.label]).sum()
        np.testing.assert_allclose(record["probability"], p[each.label], rtol=1e-5)
        for name, method in METHODS.items():
            fine = jaxcam.resize(method(tiny, each.image, each.label), (SIDE, SIDE))
            fine = fine / jnp.where(fine.max() > 0, fine.max(), 1)
            call = tiny, each.image, fine, each.label
            masked = metrics.masked(each.image, metrics.as_mask(fine, (SIDE, SIDE)))
            O = metrics.masked_score(*call)  # noqa: E741
            drop = metrics.average_drop(jnp.float32(p[each.label]), O)
            again = metrics.as_mask(jaxcam.resize(method(tiny, masked, each.label), (SIDE, SIDE)), (SIDE, SIDE))
            mask = metrics.as_mask(fine, (SIDE, SIDE))
            coherency, complexity = metrics.coherency(mask, again), metrics.complexity(mask)
            inside, ignore = each.mask == 1, each.mask == -1
            row = record["rows"][name]
            wanted = {
                "average_drop": drop,
                "coherency": coherency,
                "complexity": complexity,
                "adcc": metrics.adcc(coherency, complexity, drop),
                "deletion": metrics.area(metrics.deletion(*call)),
                "insertion": metrics.area(metrics.insertion(*call)),
                "confidence": metrics.confidence_curve(*call).mean(),
                "pointing": metrics.pointing_game(fine, inside, ignore=ignore),
                "energy": metrics.energy(fine, inside, ignore=ignore),
                "mask_iou": metrics.mask_iou(fine, inside, ignore=ignore),
                "box_iou": metrics.box_iou(fine, each.boxes),
                "found": metrics.found(fine, each.boxes),
                "spill": metrics.spill(fine, each.boxes),
            }
            close({column: row[column] for column in wanted}, wanted)
            np.testing.assert_allclose(row["insertion_curve"][1], metrics.insertion(*call), atol=2e-5)
            curve = metrics.deletion(*call)
            np.testing.assert_allclose(row["deletion_curve"][1], curve, atol=2e-5)
            np.testing.assert_allclose(row["deletion_curve"][0], np.linspace(0, 1, len(curve)), atol=1e-6)


@pytest.mark.long
def test_a_measure_and_a_score_of_ones_own(tiny, examples):
    def peak(cut, case, saliency):
        return {"peak": saliency.max(), "row": (saliency.max(1).argmax()).astype(jnp.float32)}

    logit = jaxcam.evaluate(tiny, examples[:2], METHODS, [peak, "drop"], score=jaxcam.scores.logit)
    assert logit.images["image 0"]["rows"]["Grad-CAM"]["peak"] in (0, pytest.approx(1, abs=1e-6))  # XLA's division
    A = features(tiny.params, examples[0].image)
    outputs = head(tiny.params, A, examples[0].image)
    np.testing.assert_allclose(logit.images["image 0"]["probability"], outputs.max(), rtol=1e-5)
    assert "Other:" in str(logit)
    thirds = functools.partial(measures.deletion, steps=3)
    found = jaxcam.evaluate(tiny, examples[:1], METHODS, [thirds])
    assert len(found.images["image 0"]["rows"]["Grad-CAM"]["deletion_curve, steps 3"][0]) == 4
    assert json.loads(json.dumps(found.as_dict())) == found.as_dict()


def test_one_score_in_all_columns(tiny, examples):
    """Curves, their ends and the drop, by the score that is given, as the metrics called with it."""
    score, each = jaxcam.scores.logit, examples[0]
    names = ["drop", "deletion", "confidence"]
    found = jaxcam.evaluate(tiny, [each], METHODS, names, score=score, target="label").images[each.name]
    fine = jaxcam.resize(jaxcam.grad_cam(tiny, each.image, each.label), (SIDE, SIDE))
    row = found["rows"]["Grad-CAM"]
    curve = metrics.deletion(tiny, each.image, fine, each.label, score=score)
    np.testing.assert_allclose(row["deletion_curve"][1], curve, rtol=1e-4, atol=1e-5)
    O = metrics.masked_score(tiny, each.image, fine, each.label, score=score)  # noqa: E741
    np.testing.assert_allclose(row["average_drop"], metrics.average_drop(curve[0], O), rtol=1e-4)
    curve = metrics.confidence_curve(tiny, each.image, fine, each.label, score=score)
    np.testing.assert_allclose(row["confidence_curve"][1], curve, rtol=1e-4, atol=1e-5)
    assert found["rows"]["all ones"]["average_drop"] == 0


def test_maps_that_are_the_same_are_measured_once(tiny, examples):
    """Twice Grad-CAM's map is its map; the method runs again for what asks it, and for nothing else."""
    calls = []

    def counted(cut, case, saliency):
        jax.debug.callback(lambda: calls.append(1))
        return {"mean": saliency.mean()}

    twice = lambda cut, image, target: 2 * jaxcam.grad_cam(cut, image, target)
    found = jaxcam.evaluate(tiny, examples[:1], {"Grad-CAM": jaxcam.grad_cam, "twice": twice}, [counted])
    jax.effects_barrier()
    rows = found.images["image 0"]["rows"]
    assert rows["twice"]["mean"] == rows["Grad-CAM"]["mean"]
    assert len(calls) == len(rows) - 1


def test_what_an_image_has_not_is_not_measured(tiny, examples):
    examples = [each._replace(label=None) for each in examples]
    plain = [each._replace(mask=None, boxes=None, name=f"plain {i}") for i, each in enumerate(examples)]
    found = jaxcam.evaluate(tiny, [*plain, *examples], METHODS, ["drop", "energy", "found"])
    assert found.estimates()["Grad-CAM"]["energy"].images == 5
    assert found.estimates()["Grad-CAM"]["average_drop"].images == 10
    assert "Where the map lies; energy inside, copies found, as bright outside: of 5 images" in str(found)
    # Where there are boxes and no mask, inside is inside the boxes.
    boxed = [each._replace(mask=None) for each in examples]
    filled = []
    for each in examples:
        mask = np.zeros((SIDE, SIDE), np.int8)
        for r0, c0, r1, c1 in each.boxes:
            mask[r0:r1, c0:c1] = 1
        filled.append(each._replace(mask=mask))
    columns = ["energy", "pointing", "mask_iou"]
    assert (
        jaxcam.evaluate(tiny, boxed, METHODS, columns).images == jaxcam.evaluate(tiny, filled, METHODS, columns).images
    )


def test_a_map_of_another_class_is_not_held_against_the_labels_place(tiny, examples):
    found = jaxcam.evaluate(tiny, examples, METHODS, ["drop", "energy", "found"])
    right = [r["label"] == r["predicted"] for r in found.images.values()]
    assert 0 < sum(right) < len(right)
    for record, rightly in zip(found.images.values(), right, strict=True):
        assert ("energy" in record["rows"]["Grad-CAM"]) == rightly
        assert "average_drop" in record["rows"]["Grad-CAM"]
    assert found.estimates()["Grad-CAM"]["energy"].images == sum(right)


@pytest.mark.long
def test_near_maps_and_masks_of_every_form(tiny, examples):
    """Each differs from the next by less than what makes them one, and the last from the first by more."""
    base = jnp.zeros((6, 6)).at[2, 2].set(1)

    def near(step):
        return lambda cut, image, target: base.at[4, 4].set(step)

    methods = {"a": near(0.0), "b": near(0.8e-6), "c": near(1.6e-6)}
    found = jaxcam.evaluate(tiny, examples[:1], methods, ["pointing", "energy"])
    assert {"a", "b", "c"} <= set(found.images["image 0"]["rows"])
    mask = examples[0].mask
    kept = examples[0]._replace(label=None)
    rows = [
        jaxcam.evaluate(tiny, [kept._replace(mask=each)], METHODS, ["energy"]).images["image 0"]["rows"]
        for each in (np.maximum(mask, 0), mask == 1, (mask == 1).astype(np.float32))
    ]
    assert rows[0] == rows[1] == rows[2]
    assert rows[0]["all ones"]["energy"] > 0.1
    for given, message in (
        ({"mask": np.uint8(255) * (mask == 1)}, "0, 255; 1 is the object"),
        ({"boxes": np.array([[7, 9, 2, 3]])}, "has no area"),
        ({"boxes": np.array([[-50, -50, 500, 500]])}, "is outside the picture"),
        ({"label": -1}, "expected a label of at least 0, the class's number, got -1"),
        ({"label": "2"}, "expected a label that is an integer, the class's number from 0, got '2'"),
    ):
        failed = jaxcam.evaluate(tiny, [kept._replace(**given)], METHODS, ["pointing"]).failed
        assert message in failed["image 0"]
    # What a crop left nothing of is not measured.
    cropped = kept._replace(mask=np.zeros((SIDE, SIDE), np.int8), boxes=np.zeros((0, 4)))
    assert "energy" not in jaxcam.evaluate(tiny, [cropped], METHODS, ["energy"]).images["image 0"]["rows"]["Grad-CAM"]


@pytest.mark.long
def test_one_metric_with_several_options(tiny, examples):
    """Each has its own columns, measured as the metric called with them."""
    near, half = functools.partial(measures.pointing, tolerance=3), functools.partial(measures.drop, baseline=0.5)
    given = ["pointing", near, "drop", half, functools.partial(measures.found, threshold=0.2)]
    found = jaxcam.evaluate(tiny, examples, METHODS, given)
    for each in examples:
        record = found.images[each.name]
        row = record["rows"]["HiResCAM"]
        saliency = jaxcam.resize(jaxcam.hires_cam(tiny, each.image, record["target"]), (SIDE, SIDE))
        masked = functools.partial(metrics.masked_score, tiny, each.image, saliency, record["target"])
        for column, baseline in (("average_drop", 0.0), ("average_drop, baseline 0.5", 0.5)):
            wanted = metrics.average_drop(record["probability"], masked(baseline=baseline))
            np.testing.assert_allclose(row[column], wanted, atol=2e-5)
        if record["target"] == each.label:
            wanted = metrics.pointing_game(saliency, each.mask == 1, ignore=each.mask == -1, tolerance=3)
            assert row["pointing, tolerance 3"] == wanted
            wanted = metrics.found(saliency, each.boxes, threshold=0.2)
            np.testing.assert_allclose(row["found, threshold 0.2"], wanted)
        else:  # a map of another class is not held against the label's place, whatever the options
            assert not {"pointing", "pointing, tolerance 3", "found, threshold 0.2"} & set(row)
    assert found.estimates()["random"].keys() >= {"win", "win, baseline 0.5", "pointing, tolerance 3"}


def test_metrics_by_name():
    """However the options are bound, they stand in the name, and always alike."""
    bound = functools.partial(measures.drop, score=jaxcam.scores.logit)
    for each in (bound, jax.jit(bound, static_argnames="score")):
        with pytest.raises(ValueError, match="drop, score logit has a score of its own: give evaluate score="):
            measures.named([each])
    near = functools.partial(measures.pointing, tolerance=15)
    half = functools.partial(measures.drop, baseline=0.5)
    assert list(measures.named([jax.jit(near), "pointing"])) == ["pointing, tolerance 15", "pointing"]
    assert measures.function(jax.jit(near)) is measures.pointing

    def own(cut, case, saliency, *, a=0, b=0):
        return {"own": saliency.max()}

    def name(**options):
        (found,) = measures.named([functools.partial(own, **options)])
        return found

    assert name(b=1, a=2) == name(a=2, b=1) == "own, a 2, b 1"
    assert name(a=np.float32(0.1), b=(0.1, "x")) == "own, a 0.1, b (0.1 'x')"
    assert name(a=[[1], [1, 2]], b=jnp.mean) == "own, a [[1] [1 2]], b mean"
    assert name(a=jax.random.key(0)) != name(a=jax.random.key(1))
    assert name(a=functools.partial(jnp.mean, axis=None)) == name(a=functools.partial(jnp.mean, axis=None))
    assert name(a=functools.partial(jnp.mean, axis=None)) != name(a=functools.partial(jnp.mean, axis=0))
    assert name(a=_Share(0.1)) == name(a=_Share(0.1)) != name(a=_Share(0.9))

    def drop(cut, case, saliency):
        return {"mine": saliency.max()}

    assert list(measures.named([drop, "adcc"])) == ["drop", "adcc"]
    with pytest.raises(ValueError, match="pointing has no option 'tolerence': it takes tolerance"):
        measures.named([functools.partial(measures.pointing, tolerence=15)])
    with pytest.raises(ValueError, match="no metric 'pointing:tolerance=15': .* options bound by functools.partial"):
        measures.named(["pointing:tolerance=15"])
    with pytest.raises(TypeError, match="expected a list of names, or of functions"):
        measures.named({"near": near})
    # ADCC gives the drop of its own baseline, and of no other.
    assert list(measures.named(["drop", half, functools.partial(measures.adcc, baseline=0.5)])) == [
        "drop",
        "adcc, baseline 0.5",
    ]


class _Share:
    """An option as people make them, without a repr."""

    def __init__(self, share):
        self.share = share


def test_an_option_that_is_an_object(tiny, examples, tmp_path):
    def share(cut, case, saliency, *, of):
        return {"share": (saliency > of.share).mean()}

    def run(of, **how):
        found = jaxcam.evaluate(tiny, examples[:1], METHODS, [functools.partial(share, of=_Share(of))], **how)
        return next(value for column, value in found.images["image 0"]["rows"]["random"].items() if "share" in column)

    assert run(0.1, out=tmp_path) == run(0.1) > run(0.9, out=tmp_path) == run(0.9)


def test_the_maps_are_compiled_once(tiny, examples):
    key = jax.random.key(0)
    scorer = evaluation.Scorer(tiny, key, METHODS, measures.named(["adcc", "deletion"]), count=2, memory=2**30)
    example = evaluation.loaded(examples[0])
    scorer.size(example)
    scorer([example])
    assert len([kind for kind in scorer.runners if kind[0] == "explain"]) == 1


@pytest.mark.long
def test_half_precision(tiny, examples):
    half = jaxcam.Cut(jax.tree.map(lambda p: p.astype(jnp.bfloat16), tiny.params), features, head, "first")
    each = examples[0]._replace(image=examples[0].image.astype(jnp.bfloat16))
    names = ["drop", "energy"]
    found = jaxcam.evaluate(half, [each], METHODS, names, target="label").images["image 0"]["rows"]
    wanted = jaxcam.evaluate(tiny, [examples[0]], METHODS, names, target="label").images["image 0"]["rows"]
    for name in ("Grad-CAM", "all ones"):
        for column in ("average_drop", "energy"):
            np.testing.assert_allclose(found[name][column], wanted[name][column], atol=0.1)


def test_what_is_drawn_is_by_the_pixels(tiny, examples):
    """Not by the label or the name: an image again draws the same, and another of its label something else."""

    def drawn(cut, case, saliency):
        return {"drawn": jax.random.normal(case.key)}

    again = examples[0]._replace(label=(examples[0].label + 1) % CLASSES, name="again")
    other = examples[1]._replace(label=examples[0].label, name="other")
    found = jaxcam.evaluate(tiny, [examples[0], again, other], METHODS, [drawn]).images
    first, second, third = (found[name]["rows"]["Grad-CAM"]["drawn"] for name in ("image 0", "again", "other"))
    assert first == second != third


def test_a_permuted_data_set_is_the_same(tiny, examples, whole):
    """What is drawn depends on an image's pixels, not on its place."""
    methods = {"Smooth": functools.partial(jaxcam.grad_cam, n_samples=3)}

    def drawn(cut, case, saliency):
        return {"drawn": jax.random.normal(case.key)}

    some = ["drop", "pointing", drawn]
    found = jaxcam.evaluate(tiny, examples, methods, some)
    permuted = jaxcam.evaluate(tiny, iter(examples[::-1]), methods, some)
    assert found.images == permuted.images
    for method, row in found.estimates().items():
        for column, estimate in row.items():
            np.testing.assert_allclose(permuted.estimates()[method][column].mean, estimate.mean, rtol=1e-6)


@pytest.mark.long
def test_several_devices(tiny, examples, whole):
    mesh = jax.make_mesh((2, 2), ("a", "b"), devices=jax.devices()[:4])
    found = jaxcam.evaluate(tiny, examples, METHODS, ["adcc", "found"], target="label", mesh=mesh)
    assert set(found.images) == set(whole.images)
    for name, record in found.images.items():
        for method, row in record["rows"].items():
            close(row, {column: whole.images[name]["rows"][method][column] for column in row})
