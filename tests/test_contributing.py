"""A method, a metric and a data set are added as docs/contributing.md says, and work."""

import pathlib
import re

import jax
import numpy as np
import pytest
from PIL import Image

import jaxcam

PAGE = (pathlib.Path(__file__).parent.parent / "docs" / "contributing.md").read_text()
BLOCKS = {title: code for title, code in re.findall(r"```python\n# ([\w ]+)\n(.*?)```", PAGE, flags=re.DOTALL)}
HOUSE = pathlib.Path(jaxcam.__file__).parent


@pytest.fixture
def session():
    """The names that a block of the page defines."""

    def run(title):
        names = {}
        exec(compile(BLOCKS[title], f"contributing.md: {title}", "exec"), names)
        return names

    return run


def test_a_method(session, cut, image):
    peak_cam = session("method")["peak_cam"]
    A = cut.features(cut.params, image)
    Y1 = np.asarray(jax.grad(lambda A: cut.head(cut.params, A, image)[3])(A))
    expected = np.maximum((np.asarray(A) * Y1.max((0, 1))).sum(-1), 0)
    np.testing.assert_allclose(peak_cam(cut, image, 3), expected, atol=1e-5 * float(expected.max()))
    with pytest.raises(TypeError, match="peak_cam has no option 'strength'"):
        peak_cam(cut, image, 3, strength=2)


def test_a_metric(session, cut, image):
    metric = session("metric")["above_half_metric"]
    examples = [jaxcam.Example(image, 3, name="canvas")]
    evaluation = jaxcam.evaluate(cut, examples, {"Grad-CAM": jaxcam.grad_cam}, [metric])
    fine = jaxcam.resize(jaxcam.grad_cam(cut, image), image.shape[:2])
    expected = float((fine > 0.5 * fine.max()).mean())
    assert evaluation.estimates()["Grad-CAM"]["above_half"].mean == pytest.approx(expected)
    assert "above half % ↓" in str(evaluation)


def test_a_data_set(session, tmp_path):
    for name in ("3_cat", "0_dog"):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    examples = session("data set")["by_file_name"](tmp_path)
    assert [(example.name, example.label) for example in examples] == [("0_dog", 0), ("3_cat", 3)]
    assert jaxcam.datasets.load(examples[0], (8, 8)).image.shape == (8, 8, 3)


def test_the_tree_is_the_package_list():
    tree = re.search(r"```\njaxcam/\n(.*?)\ntests/", PAGE, flags=re.DOTALL).group(1)
    listed = re.findall(r"^  (\w+)/ ", tree, flags=re.MULTILINE)
    assert sorted(listed) == sorted(folder.name for folder in HOUSE.iterdir() if (folder / "__init__.py").exists())


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:jaxcam|tests|benchmarks)/[\w/.]+)`", PAGE))))
def test_a_path_exists(path):
    assert (HOUSE.parent / path).exists()
