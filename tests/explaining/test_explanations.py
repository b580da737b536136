"""Several classes, layers and networks of one picture: which map is whose, figures, and files."""

import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxcam
from jaxcam.datasets import images
from jaxcam.explaining import Explanations, explain_each, map_labels
from tests.explaining.small_networks import NAMES, SIZE, Small, grad_cam, probabilities


@pytest.fixture(scope="module")
def model():
    return Small()


@pytest.fixture(scope="module")
def opened(model):
    return jaxcam.open_model(model, layer="coarse", preprocess="0..1")


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).uniform(size=(SIZE, SIZE, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def by_top_and_layer(opened, picture):
    return jaxcam.explain(opened, picture, methods="grad_cam", top=2, layers=["fine", "coarse"])


def test_each_map_is_that_of_its_class_and_layer(model, by_top_and_layer, picture):
    expected = probabilities(model, picture)
    order = np.argsort(-expected)[:2]
    assert isinstance(by_top_and_layer, Explanations) and by_top_and_layer.places == 2
    assert [(e.target, e.layer) for e in by_top_and_layer] == [(c, la) for c in order for la in ("fine", "coarse")]
    for explanation in by_top_and_layer:
        target, layer = explanation.target, explanation.layer
        assert explanation.class_name == NAMES[target]
        assert explanation.probability == pytest.approx(expected[target], rel=1e-4)
        own = grad_cam(model, layer, jnp.asarray(picture), target)
        np.testing.assert_allclose(explanation.maps["grad_cam"], own, rtol=1e-4, atol=1e-6)
        assert explanation.maps["grad_cam"].any(), "the oracle is not a map of zeros"
    assert [name for _, name, _ in by_top_and_layer[0].top] == [NAMES[c] for c in order]


def test_what_is_one_and_what_is_several(opened, picture):
    def kind(*arguments, **options):
        return type(jaxcam.explain(opened, picture, *arguments, methods="grad_cam", **options)).__name__

    assert kind() == kind("bee") == kind(np.int32(1)) == "Explanation"
    assert kind(["bee"]) == kind(top=1) == kind(layers=["coarse"]) == "Explanations"
    several = jaxcam.explain(opened, picture, ["dog", 0], methods="grad_cam")
    assert [explanation.class_name for explanation in several] == ["dog", "ant"]
    assert len(explain_each(opened, picture, methods="grad_cam")) == 1


@pytest.mark.parametrize(("fuse", "join"), [("mean", np.mean), ("maximum", np.max)])
def test_fused_layers(model, opened, picture, fuse, join):
    fused = jaxcam.explain(opened, picture, 1, methods="grad_cam", layers=["fine", "coarse"], fuse=fuse)
    fine, coarse = (grad_cam(model, layer, jnp.asarray(picture), 1) for layer in ("fine", "coarse"))
    enlarged = np.asarray(Image.fromarray(coarse / coarse.max()).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    expected = join(np.stack([fine / fine.max(), enlarged]), axis=0)
    np.testing.assert_allclose(fused.maps["grad_cam"], expected, atol=1e-4)
    assert fused.layer == f"{fuse} of fine, coarse" and fused.layers == ("fine", "coarse")


def test_networks_explain_the_class_of_the_first(opened, picture):
    other = jaxcam.open_model(Small(seed=5), layer="fine", preprocess="0..1")
    both = jaxcam.explain([opened, other], picture, methods="grad_cam")
    assert both[0].target == both[1].target and both[0].probability != both[1].probability
    own = probabilities(Small(seed=5), picture)
    assert both[1].probability == pytest.approx(own[both[0].target], rel=1e-4)
    titles = [axes.get_title() for axes in both.figure().axes[:3]]
    assert titles[0] == "Grad-CAM" and "Small (1)" in titles[1] and "Small (2)" in titles[2], "two of one name"
    assert list(both.labeled_maps()) == ["grad_cam.Small-1", "grad_cam.Small-2"]
    assert "Small (2), layer fine: class" in str(both)


@pytest.mark.long
def test_networks_of_other_classes(opened, picture):
    names = ("dog", "bee", "eel")
    other = jaxcam.open_model(Small(seed=5, class_names=names), layer="coarse", preprocess="0..1")
    both = jaxcam.explain([opened, other], picture, methods="grad_cam")
    assert both[1].target == probabilities(Small(seed=5, class_names=names), picture).argmax(), "its own"
    named = jaxcam.explain([opened, other], picture, "dog", methods="grad_cam")
    assert [explanation.target for explanation in named] == [3, 0]
    assert [e.target for e in jaxcam.explain([opened, other], picture, 1, methods="grad_cam")] == [1, 1], "bee in both"
    with pytest.raises(ValueError, match=r"class 0 is another one in each network \('ant', 'dog'\): give its name"):
        jaxcam.explain([opened, other], picture, 0, methods="grad_cam")
    with pytest.raises(ValueError, match="no class 'ant'"):
        jaxcam.explain([opened, other], picture, "ant", methods="grad_cam")


def test_figures_put_one_method_in_columns_and_several_in_rows(opened, by_top_and_layer, picture):
    titles = [axes.get_title() for axes in by_top_and_layer.figure().axes[:-1]]
    first, second = (NAMES[e.target] for e in by_top_and_layer[::2])
    assert titles[1:3] == ["fine, 16 x 16", "coarse, 8 x 8"] and titles[0].startswith(f"'{first}', ")
    assert titles[3].startswith(f"'{second}', ") and len(titles) == 6
    several = jaxcam.explain(opened, picture, top=2, methods=["grad_cam", "layer_cam"])
    rows = [axes.get_title() for axes in several.figure().axes[:-1]]
    assert rows[1:3] == rows[4:6] == ["Grad-CAM", "LayerCAM"] and [f"'{first}'" in rows[0], f"'{second}'" in rows[3]]
    of_two_classes = jaxcam.explain(opened, picture, top=2, methods="grad_cam")
    columns = [axes.get_title() for axes in of_two_classes.figure().axes[:-1]]
    assert columns[0] == "Grad-CAM" and f"'{first}'" in columns[1] and f"'{second}'" in columns[2]


@pytest.mark.long
def test_classes_of_one_name_are_told_apart(picture):
    twins = jaxcam.open_model(Small(class_names=("crane", "crane")), layer="coarse", preprocess="0..1")
    several = jaxcam.explain(twins, picture, [0, 1], methods="grad_cam")
    titles = [axes.get_title() for axes in several.figure().axes[1:3]]
    assert titles[0].startswith("'crane' (0), ") and titles[1].startswith("'crane' (1), ")


def test_maps_are_written_as_they_are(tmp_path, by_top_and_layer):
    by_top_and_layer.save_maps(tmp_path / "maps.npz")
    with np.load(tmp_path / "maps.npz") as saved:
        assert sorted(saved) == sorted(f"grad_cam.{la}.{i}of2" for la in ("fine", "coarse") for i in (1, 2))
        np.testing.assert_array_equal(saved["grad_cam.coarse.2of2"], by_top_and_layer[3].maps["grad_cam"])
    only = by_top_and_layer[1]
    only.save_maps(tmp_path / "map.npy")
    only.save_maps(tmp_path / "map.csv")
    np.testing.assert_array_equal(np.load(tmp_path / "map.npy"), only.maps["grad_cam"])
    table = [line.split(",") for line in (tmp_path / "map.csv").read_text().splitlines()]
    np.testing.assert_array_equal(np.array(table, np.float32), only.maps["grad_cam"])
    with pytest.raises(FileExistsError, match="map.csv exists already"):
        only.save_maps(tmp_path / "map.csv")
    with pytest.raises(ValueError, match="map.npy holds one map, got 4: write them to a .npz file"):
        by_top_and_layer.save_maps(tmp_path / "map.npy", force=True)
    with pytest.raises(ValueError, match="ends in '.txt': choose one of npy, npz, csv"):
        only.save_maps(tmp_path / "map.txt")


@pytest.mark.long
def test_a_gif_has_a_frame_for_each_explanation(tmp_path, by_top_and_layer):
    by_top_and_layer.save(tmp_path / "maps.gif")
    assert images.frame_count(tmp_path / "maps.gif") == 4
    by_top_and_layer.save(tmp_path / "maps.png", style="contour", colormap="cividis")
    with Image.open(io.BytesIO(by_top_and_layer._repr_png_())) as shown, Image.open(tmp_path / "maps.png") as saved:
        assert shown.size == saved.size and shown.tobytes() != saved.tobytes()


def test_a_record_of_all(by_top_and_layer):
    record = json.loads(json.dumps(by_top_and_layer.as_dict()))
    assert [e["layer"] for e in record["explanations"]] == ["fine", "coarse"] * 2
    assert record["explanations"][0]["class"] == record["class"] and record["network"] == "Small"


def test_labels_name_files():
    assert map_labels(["a:b=0.5"], ["x/y", "x.y"], 1) == ["a-b=0.5.x-y", "a-b=0.5.x.y"]
    with pytest.raises(ValueError, match="two maps would be called 'a.x-y'"):
        map_labels(["a"], ["x/y", "x-y"], 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top": 2, "target": 1}, "top explains the most probable classes, target those that it names"),
        ({"top": 5}, "expected top of at most 4, the number of classes, got 5"),
        ({"target": []}, "no classes: give at least one target"),
        ({"target": [0, 4]}, "no class 4: there are 4, from 0"),
        ({"layers": []}, "expected layers that differ from each other, got none"),
        ({"layers": ["fine", "fine"]}, "expected layers that differ from each other, got fine, fine"),
        ({"layers": "fine"}, r"expected a list of layers, got 'fine': give \['fine'\]"),
        ({"layers": ["finest"]}, "no layer 'finest'"),
        ({"fuse": "mean"}, "fuse joins the maps of several layers: give layers"),
        ({"layers": ["fine"], "fuse": "mean"}, "fuse joins the maps of several layers, got one: fine"),
        ({"layers": ["fine", "coarse"], "fuse": "sum"}, "no fusion 'sum': choose one of mean, maximum"),
        ({"opened": []}, "no networks: give at least one"),
    ],
)
def test_mistakes_are_one_line(change, message, opened, picture):
    options = {"methods": "grad_cam", **change}
    with pytest.raises((ValueError, TypeError), match=message):
        jaxcam.explain(options.pop("opened", opened), picture, **options)


def test_layers_are_those_of_one_network(opened, picture):
    with pytest.raises(ValueError, match="layers are those of one network"):
        jaxcam.explain([opened, opened], picture, layers=["fine", "coarse"])
