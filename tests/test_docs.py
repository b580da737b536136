"""What the README and the docs show runs as it is written there."""

import inspect
import os
import pathlib
import re

os.environ["KERAS_BACKEND"] = "jax"

import jax
import pytest

from jaxcam.cli import _evaluate as reports
from jaxcam.evaluation import measures

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "bring_your_own_model.md").read_text()
SECTIONS = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
BLOCKS = {title: re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) for title, text in SECTIONS}


def test_every_way_has_its_example():
    shown = [title for title, blocks in BLOCKS.items() if blocks]
    assert shown == [
        "Flax NNX", "Flax Linen", "Keras 3", "Vision transformers", "More inputs, other outputs", "Anything else",
    ]  # fmt: skip


LONG = {"Keras 3": pytest.mark.long}


@pytest.mark.parametrize("title", [pytest.param(t, marks=LONG.get(t, ())) for t, blocks in BLOCKS.items() if blocks])
def test_the_examples_run(title, capsys):
    """And say what is written behind them: printed lines begin with the comment, maps have the shape."""
    (code,) = BLOCKS[title]
    if title == "Keras 3":
        pytest.importorskip("keras")
    found = {}
    with jax.numpy_rank_promotion("allow"):  # a user's session, not the tests' strictness
        exec(compile(code, title, "exec"), found)
    shapes = re.findall(r"^saliency = .*# \[([\d ]+)\]", code, flags=re.MULTILINE)
    assert len(shapes) == 1
    assert found["saliency"].shape == tuple(int(size) for size in shapes[0].split())
    printed = capsys.readouterr().out.splitlines()
    said = re.findall(r"^print\(.*\)  # (.*)", code, flags=re.MULTILINE)
    for line, words in zip(printed, said, strict=True):
        if words.startswith(("{", "Cut(")):  # what is printed, or its beginning; else it is a remark
            assert line.startswith(words.removesuffix("..."))


def test_the_readme_runs():
    """Its blocks follow each other, in one session."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) >= 2
    found = {}
    with jax.numpy_rank_promotion("allow"):
        for block in blocks:
            exec(compile(block, "README.md", "exec"), found)
    assert found["saliency"].ndim == 2
    ((call, said),) = re.findall(r"^(jaxcam\.layers\(.*?\))  # (\{.*\})$", "\n".join(blocks), flags=re.MULTILINE)
    assert eval(call, found) == eval(said)


@pytest.mark.parametrize("page", ["methods.md", "many_images.md"])
def test_the_page_runs(page):
    """Its blocks follow each other, and the shapes are those that are said."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), flags=re.DOTALL)
    found: dict = {}
    with jax.numpy_rank_promotion("allow"):
        for block in blocks:
            exec(compile(block, page, "exec"), found)
        said = re.findall(r"^(.*\.shape)\b.*  # (\([\d, ]+\))", "\n".join(blocks), flags=re.MULTILINE)
        assert said
        for call, shape in said:
            assert eval(call, found) == eval(shape)


def test_metrics_have_the_options_of_the_page():
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| (.*?) ?\| .*? \|$", (ROOT / "docs" / "evaluation.md").read_text(), re.MULTILINE
    )
    assert [name for name, _ in rows] == list(measures.MEASURES)
    for name, shown in rows:
        (measure,) = reports.metrics_of(":".join([name, *(each.strip("`") for each in re.findall("`[^`]+`", shown))]))
        taken = inspect.signature(measures.MEASURES[name]).parameters.values()
        options = {each.name: each.default for each in taken if each.kind is each.KEYWORD_ONLY}
        assert {"score": options.get("score"), **measures.bound(measure)} == {"score": None, **options}


def test_the_evaluation_runs(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "evaluation.md").read_text(), flags=re.DOTALL)
    found: dict = {}
    with jax.numpy_rank_promotion("allow"):
        exec(compile(block, "evaluation.md", "exec"), found)
    assert "3 images, 100.0% classified rightly" in capsys.readouterr().out
    assert found["found"].estimates()["all ones"]["average_drop"].mean == 0
