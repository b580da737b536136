"""An evaluation against its metrics called one by one, and as a run that is stopped, resumed and given bad images."""

import errno
import functools
import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import evaluation, metrics
from jaxcam.datasets._example import load
from jaxcam.evaluation import _store, measures

SIDE, CLASSES = 12, 3
RNG = np.random.default_rng(0)
MEASURED = ["adcc", "deletion", "insertion", "road", "confidence", "pointing", "energy", "mask_iou", "box_iou", "found"]
CHEAP = ["adcc", "pointing"]
METHODS = {"Grad-CAM": jaxcam.grad_cam, "HiResCAM": jaxcam.hires_cam}


def features(params, x):
    return jax.nn.relu(
        jax.lax.conv_general_dilated(x[None], params[0], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]
    )


def head(params, A, x):
    return A.mean((0, 1)) @ params[1] + jnp.max(A, (0, 1)) @ params[2]


@pytest.fixture(scope="module")
def tiny():
    shapes = (3, 3, 3, 4), (4, CLASSES), (4, CLASSES)
    params = tuple(jnp.asarray(RNG.normal(0, 1, shape), jnp.float32) for shape in shapes)
    return jaxcam.Cut(params, features, head, "first")


def example(seed, **given):
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 1, (SIDE, SIDE, 3)).astype(np.float32)
    mask = np.zeros((SIDE, SIDE), np.int8)
    mask[2:7, 3:9] = 1
    mask[7, 3:9] = -1
    boxes = np.array([[2, 3, 7, 9], [8, 8, 11, 12], [0, 0, 2, 2]][: 1 + seed % 3])
    known = {"image": image, "label": int(rng.integers(CLASSES)), "mask": mask, "boxes": boxes}
    return jaxcam.Example(**{**known, "name": f"image {seed}", **given})


@pytest.fixture(scope="module")
def examples():
    return [example(seed) for seed in range(5)]


@pytest.fixture(scope="module")
def whole(tiny, examples):
    return jaxcam.evaluate(tiny, examples, METHODS, ["adcc", "pointing", "found"], target="label")


def close(a, b, tolerance=2e-5):
    """Records that are the same to rounding."""
    assert a.keys() == b.keys()
    for column in a:
        np.testing.assert_allclose(a[column], b[column], atol=tolerance, rtol=tolerance, err_msg=column)


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


def test_the_controls_are_always_there_and_all_ones_games_the_drop(whole):
    assert whole.methods == [*METHODS, *evaluation.CONTROLS]
    for record in whole.images.values():
        ones = record["rows"]["all ones"]
        assert ones["average_drop"] == ones["increase"] == ones["average_gain"] == 0
        assert ones["adcc"] == 0
        assert ones["complexity"] == 1


def test_the_controls_by_their_formulas(tiny, examples):
    image, key = examples[0].image, jax.random.key(3)
    A = np.asarray(features(tiny.params, image))
    np.testing.assert_allclose(jaxcam.controls.mean_activation(tiny, image), A.mean(-1), rtol=1e-5)
    np.testing.assert_array_equal(jaxcam.controls.all_ones(tiny, image), np.ones((6, 6)))
    gaussian = np.asarray(jaxcam.controls.centre_gaussian(tiny, image))
    for row in range(6):
        for column in range(6):
            wanted = np.exp(-((row - 2.5) ** 2 + (column - 2.5) ** 2) / (2 * 1.5**2))
            np.testing.assert_allclose(gaussian[row, column], wanted, rtol=1e-5)
    drawn = np.asarray(jaxcam.controls.random(tiny, image, None, key))
    assert drawn.shape == (6, 6) and 0 <= drawn.min() < 0.3 < 0.7 < drawn.max() <= 1
    np.testing.assert_array_equal(drawn, jaxcam.controls.random(tiny, examples[1].image, None, key))
    with pytest.raises(ValueError, match="needs a key"):
        jaxcam.controls.random(tiny, image)


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


def test_a_class_that_is_not_predicted_is_counted_apart(tiny, examples, whole):
    apart = whole.apart()
    wrong = [name for name, r in whole.images.items() if r["predicted"] != r["label"]]
    assert apart == wrong
    assert 0 < len(apart) < len(examples)
    assert whole.accuracy == 1 - len(apart) / len(examples)
    right = [name for name in whole.images if name not in apart]
    drops = [whole.images[name]["rows"]["HiResCAM"]["average_drop"] for name in right]
    np.testing.assert_allclose(whole.estimates()["HiResCAM"]["average_drop"].mean, np.mean(drops), rtol=1e-6)
    assert whole.estimates(apart)["HiResCAM"]["average_drop"].images == len(apart)
    text = str(whole)
    assert f"5 images, {whole.accuracy:.1%} classified rightly" in text
    assert f"{len(apart)} images, counted apart: of a class that the model does not predict" in text
    predicted = jaxcam.evaluate(tiny, examples, METHODS, ["pointing"])
    assert not predicted.apart()


@pytest.mark.long
def test_several_devices(tiny, examples, whole):
    mesh = jax.make_mesh((2, 2), ("a", "b"), devices=jax.devices()[:4])
    found = jaxcam.evaluate(tiny, examples, METHODS, ["adcc", "found"], target="label", mesh=mesh)
    assert set(found.images) == set(whole.images)
    for name, record in found.images.items():
        for method, row in record["rows"].items():
            close(row, {column: whole.images[name]["rows"][method][column] for column in row})


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


class Stop(BaseException):
    pass


def stopped(examples, after):
    yield from examples[:after]
    raise Stop


@pytest.mark.long
def test_a_run_that_is_stopped_goes_on(tiny, examples, whole, tmp_path):
    run = functools.partial(jaxcam.evaluate, tiny, methods=METHODS, metrics=CHEAP, target="label", out=tmp_path)
    for after in (1, 3):
        with pytest.raises(Stop):
            run(stopped(examples, after))
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "images").iterdir()}
    assert len(written) == 3
    found = run(examples)
    for name, record in found.images.items():
        for method, row in record["rows"].items():
            close(row, {column: whole.images[name]["rows"][method][column] for column in row})
    assert {file: file.stat().st_mtime_ns for file in written} == written
    # All that is there is enough; nothing is computed.
    assert run(examples) == found
    # Methods are added to it, and those that are there stay.
    more = jaxcam.evaluate(
        tiny, examples, {**METHODS, "LayerCAM": jaxcam.layer_cam}, CHEAP, target="label", out=tmp_path
    )
    assert "LayerCAM" in more.methods
    for name, record in found.images.items():
        rows = more.images[name]["rows"]
        assert {row: rows[row] for row in record["rows"]} == record["rows"]
    assert run(examples) == found


def test_a_folder_of_another_run(tiny, examples, tmp_path):
    run = functools.partial(jaxcam.evaluate, tiny, examples[:1], METHODS, ["pointing"], out=tmp_path)
    run()
    other = jaxcam.Cut((tiny.params[0], tiny.params[1] * 2, tiny.params[2]), features, head, "first")
    for given, message in (
        ({"cut": other}, "other params"),
        ({"target": "label"}, "target .*predicted.*, not .*label"),
        ({"key": jax.random.key(1)}, "key"),
        ({"methods": {"Grad-CAM": jaxcam.hires_cam}}, "another method 'Grad-CAM'"),
        ({"examples": [example(3, name="image 0")]}, "another image 'image 0'"),
    ):
        call = {"cut": tiny, "examples": examples[:1], "methods": METHODS, "metrics": ["pointing"], **given}
        with pytest.raises(ValueError, match=message):
            jaxcam.evaluate(**call, out=tmp_path)
    assert run().images
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match="no run.json"):
        run()


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


def test_a_full_disk_loses_nothing(tiny, examples, tmp_path, monkeypatch):
    replace, left = _store.replace, [4]

    def full(path, content):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        replace(path, content)

    monkeypatch.setattr(_store, "replace", full)
    run = functools.partial(jaxcam.evaluate, tiny, examples, METHODS, ["pointing"], out=tmp_path)
    with pytest.raises(OSError, match="No space left on device; 3 images are finished, and the same call goes on"):
        run()
    monkeypatch.undo()
    assert len(list((tmp_path / "images").iterdir())) == 3
    assert len(run().images) == 5


def test_a_map_that_is_not_finite_and_methods_that_cannot_be_called(tiny, examples):
    broken = lambda cut, image, target: jnp.full((6, 6), jnp.nan)
    found = jaxcam.evaluate(tiny, examples[:2], {"broken": broken}, ["pointing"])
    assert not found.images
    assert "broken: the map is not finite" in found.failed["image 0"]
    assert "2 failed" in str(found)
    with pytest.raises(ValueError, match=r"one map \[h w\] is wanted"):
        jaxcam.evaluate(tiny, examples[:2], {"whole": lambda cut, image, target: jnp.asarray(image)}, ["pointing"])
    with pytest.raises(ValueError, match=r"outputs are \[\]: \[classes\] are wanted"):
        scalar = jaxcam.Cut(tiny.params, features, lambda params, A, x: A.sum())
        jaxcam.evaluate(scalar, examples[:2], METHODS, ["pointing"])


def test_mistakes(tiny, examples):
    run = functools.partial(jaxcam.evaluate, tiny)
    for given, message in (
        ((examples, {}), "no methods"),
        ((examples, METHODS, ["drpo"]), "no metric 'drpo': choose of drop, adcc"),
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
    with pytest.raises(TypeError, match="metrics is 'drop': a list"):
        run(examples, METHODS, "drop")
    unlabelled = run([examples[0]._replace(label=None)], METHODS, ["pointing"], target="label")
    assert "and the example has none" in unlabelled.failed["image 0"]


@pytest.mark.long
def test_a_measure_and_a_score_of_ones_own(tiny, examples):
    def peak(cut, case, saliency):
        return {"peak": saliency.max(), "row": (saliency.max(1).argmax()).astype(jnp.float32)}

    logit = jaxcam.evaluate(tiny, examples[:2], METHODS, [peak, "drop"], score=jaxcam.scores.logit)
    assert logit.images["image 0"]["rows"]["Grad-CAM"]["peak"] in (0, 1)
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
        ({"label": -1}, "label is -1"),
        ({"label": "2"}, "label is '2'"),
    ):
        failed = jaxcam.evaluate(tiny, [kept._replace(**given)], METHODS, ["pointing"]).failed
        assert message in failed["image 0"]
    # What a crop left nothing of is not measured.
    cropped = kept._replace(mask=np.zeros((SIDE, SIDE), np.int8), boxes=np.zeros((0, 4)))
    assert "energy" not in jaxcam.evaluate(tiny, [cropped], METHODS, ["energy"]).images["image 0"]["rows"]["Grad-CAM"]


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
def test_metrics_are_added_to_a_folder(tiny, examples, whole, tmp_path):
    """What is there is taken as it is and not computed again, also where methods are added at the same time."""
    run = functools.partial(jaxcam.evaluate, tiny, examples[:2], target="label", out=tmp_path)
    run(METHODS, ["adcc"])
    for file in (tmp_path / "images").iterdir():
        record = json.loads(file.read_text())
        record["rows"]["Grad-CAM"]["adcc"]["coherency"] = 0.125  # as nothing else would
        file.write_text(json.dumps(record))
    more = run(METHODS, ["adcc", "found"])
    for name, record in more.images.items():
        for method, row in record["rows"].items():
            wanted = {column: whole.images[name]["rows"][method][column] for column in row}
            close(row, wanted | {"coherency": 0.125} if method == "Grad-CAM" else wanted)
    assert set(run(METHODS, ["found"]).images["image 0"]["rows"]["random"]) == {"zero", "found", "spill"}
    both = run({**METHODS, "LayerCAM": jaxcam.layer_cam}, ["adcc", "found", "pointing"]).images["image 0"]["rows"]
    assert both["Grad-CAM"]["coherency"] == 0.125
    close(
        both["HiResCAM"], {column: whole.images["image 0"]["rows"]["HiResCAM"][column] for column in both["HiResCAM"]}
    )
    both = run({**METHODS, "LayerCAM": jaxcam.layer_cam}, ["found", "pointing"]).images["image 0"]["rows"]
    assert both["LayerCAM"].keys() == both["random"].keys() == {"zero", "found", "spill", "pointing"}
    assert list(json.loads((tmp_path / "run.json").read_text())["metrics"]) == ["adcc", "found", "pointing"]
    again = run(METHODS, ["adcc", "found", "pointing"])  # nothing is computed
    assert again.images["image 1"]["rows"]["Grad-CAM"]["coherency"] == 0.125
    # What an image has not is not looked for again.
    blind = [examples[0]._replace(mask=None, boxes=None)]
    with pytest.raises(ValueError, match="another image 'image 0'"):
        jaxcam.evaluate(tiny, blind, METHODS, ["pointing"], target="label", out=tmp_path)


def test_one_name_for_two_metrics(tiny, examples, tmp_path):
    def own(cut, case, saliency, scale=1.0):
        return {"own": scale * saliency.max()}

    run = functools.partial(jaxcam.evaluate, tiny, examples[:1], METHODS, target="label")
    run([own], out=tmp_path)
    first = own

    def own(cut, case, saliency):
        return {"own": saliency.min()}

    with pytest.raises(ValueError, match="another metric 'own'"):
        run([own], out=tmp_path)
    with pytest.raises(ValueError, match="two metrics are called 'own'"):
        run([first, own])

    def mine(cut, case, saliency):
        return {"own": saliency.min()}

    with pytest.raises(ValueError, match="two metrics give the column 'own'"):
        run([first, mine], out=tmp_path)
    found = run([first, functools.partial(first, scale=2.0)]).images["image 0"]["rows"]["random"]
    assert found["own, scale 2.0"] == 2 * found["own"]


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
    with pytest.raises(TypeError, match="a list of names, or of functions"):
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


def test_runs_that_begin_in_one_folder(tiny, examples, tmp_path):
    """The second takes a folder in which nothing is finished; the first then finds that it is another's."""
    run = functools.partial(jaxcam.evaluate, tiny, examples[:1], METHODS, ["pointing"], out=tmp_path)

    def load(given):
        if given is examples[0]:
            run(key=jax.random.key(1))
        return given

    with pytest.raises(ValueError, match="holds another run, with key"):
        run(load=load)
    assert run(key=jax.random.key(1)).images


def test_a_metric_that_failed_does_not_take_its_name(tiny, examples, tmp_path):
    run = functools.partial(jaxcam.evaluate, tiny, examples[:1], METHODS, out=tmp_path)
    run(["pointing"])

    def own(cut, case, saliency):
        return {"own": saliency.meen()}

    with pytest.raises(AttributeError, match="meen"):
        run(["pointing", own])

    def own(cut, case, saliency):
        return {"own": saliency.mean()}

    assert "own" in run(["pointing", own]).images["image 0"]["rows"]["random"]


def test_the_maps_are_compiled_once(tiny, examples):
    key = jax.random.key(0)
    scorer = jaxcam.scoring.Scorer(tiny, key, METHODS, measures.named(["adcc", "deletion"]), count=2, memory=2**30)
    example = jaxcam.scoring.loaded(examples[0])
    scorer.size(example)
    scorer([example])
    assert len([what for what in scorer.runners if what[0] == "_explain"]) == 1


def test_folders_of_others_and_torn_files(tiny, examples, tmp_path):
    run = functools.partial(jaxcam.evaluate, tiny, examples[:2], METHODS, ["pointing"])
    batch = functools.partial(jaxcam.explain_batch, jaxcam.grad_cam, tiny, [each.image for each in examples[:2]])
    run(out=tmp_path / "evaluation")
    with pytest.raises(ValueError, match="holds an evaluation"):
        batch(out=tmp_path / "evaluation")
    batch(out=tmp_path / "maps")
    with pytest.raises(ValueError, match="holds maps of explain_batch"):
        run(out=tmp_path / "maps")
    file = tmp_path / "evaluation" / "images" / "image 0.json"
    whole = file.read_text()
    for torn in ("", "{", "{}", "null", "[]"):
        file.write_text(torn)
        with pytest.raises(ValueError, match=r"image 0\.json is torn"):
            run(out=tmp_path / "evaluation")
    file.write_text(whole)
    (tmp_path / "evaluation" / "run.json").write_text('{"model": [[12, 12, 3], "float32", ""]}')
    with pytest.raises(ValueError, match="does not describe an evaluation of this version"):
        run(out=tmp_path / "evaluation")
    # A call that finished nothing says nothing of the folder's run.
    broken = {"Smooth": functools.partial(jaxcam.grad_cam, n_samples=-1)}
    with pytest.raises(ValueError, match="for n_samples, got -1"):
        jaxcam.evaluate(tiny, examples[:1], broken, ["pointing"], out=tmp_path / "new")
    mended = {"Smooth": functools.partial(jaxcam.grad_cam, n_samples=1)}
    assert jaxcam.evaluate(tiny, examples[:1], mended, ["pointing"], out=tmp_path / "new").images


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
        (lambda cut, case, saliency: {"own": saliency[0]}, r"column 'own' has shape \[12\]: a number or a curve"),
        (lambda cut, case, saliency: {"zero": saliency.max()}, "gives the column 'zero': another name is wanted"),
        (lambda cut, case, saliency: {"energy, mine": saliency.max()}, "'energy, mine': another name .* without ', '"),
        (
            functools.partial(measures.pointing, tolerance="15px"),
            "metric 'pointing, tolerance 15px': '<' not supported",
        ),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            jaxcam.evaluate(tiny, examples[:1], METHODS, [metric])
    with pytest.raises(TypeError, match="a dict of columns is wanted"):
        jaxcam.evaluate(tiny, examples[:1], METHODS, [lambda cut, case, saliency: saliency.max()])
    with pytest.raises(TypeError, match="metric 3 is no function"):
        jaxcam.evaluate(tiny, examples[:1], METHODS, [3])
    with pytest.raises(TypeError, match=r"key is 0: a jax\.random\.key"):
        jaxcam.evaluate(tiny, examples[:1], METHODS, ["pointing"], 0)
    with pytest.raises(TypeError, match="an example is a tuple"):
        jaxcam.evaluate(tiny, [(examples[0].image, 1)], METHODS)
    with pytest.raises(TypeError, match="an example is a file: give load="):
        jaxcam.evaluate(tiny, [jaxcam.Example("a.png")], METHODS)
    one = jaxcam.Cut(tiny.params, features, lambda params, A, x: A.sum()[None])
    with pytest.raises(ValueError, match="one output, whose softmax is 1"):
        jaxcam.evaluate(one, examples[:1], METHODS, ["pointing"])


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


def test_rows_that_another_run_wrote_in_the_meantime_stay(tiny, examples, tmp_path):
    run = functools.partial(jaxcam.evaluate, tiny, examples[:1], metrics=["pointing"], out=tmp_path)
    busy = []

    def load_beside(given):
        if not busy:
            busy.append(given)
            run(methods={"LayerCAM": jaxcam.layer_cam}, load=load_beside)
        return given

    run(methods=METHODS, load=load_beside)
    rows = json.loads((tmp_path / "images" / "image 0.json").read_text())["rows"]
    assert {"LayerCAM", *METHODS} <= set(rows)
