"""The code of the README and of the docs runs as written."""

import inspect
import os
import pathlib
import re
import shutil

os.environ["KERAS_BACKEND"] = "jax"

import jax
import pytest

from jaxcam import cli, datasets
from jaxcam.evaluation import measures

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "bring_your_own_model.md").read_text()
SECTIONS = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
BLOCKS = {title: re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) for title, text in SECTIONS}


def test_every_way_has_its_example():
    shown = [title for title, blocks in BLOCKS.items() if blocks]
    assert shown == [
        "Flax NNX", "Which layer", "Flax Linen", "Keras 3", "Vision transformers", "Channels that are not last",
        "More inputs, other outputs", "Anything else",
    ]  # fmt: skip


def test_the_table_of_layers_is_what_is_printed():
    import jaxcam

    (table,) = re.findall(r"```\n(\*.*?)```", dict(SECTIONS)["Which layer"], flags=re.DOTALL)
    assert str(jaxcam.describe_layers(jaxcam.digits())).endswith(table.rstrip())


LONG = {"Keras 3": pytest.mark.long}


@pytest.mark.parametrize("title", [pytest.param(t, marks=LONG.get(t, ())) for t, blocks in BLOCKS.items() if blocks])
def test_the_examples_run(title, capsys):
    """They print what their comments say, and the maps have the stated shapes."""
    (code,) = BLOCKS[title]
    if title == "Keras 3":
        pytest.importorskip("keras")
    session = {}
    with jax.numpy_rank_promotion("allow"):  # a user's session, not the tests' strictness
        exec(compile(code, title, "exec"), session)
    shapes = re.findall(r"^saliency = .*# \[([\d ]+)\]", code, flags=re.MULTILINE)
    assert len(shapes) == 1
    assert session["saliency"].shape == tuple(int(size) for size in shapes[0].split())
    printed = capsys.readouterr().out.splitlines()
    said = re.findall(r"^print\(.*\)  # (.*)", code, flags=re.MULTILINE)
    for line, words in zip(printed, said, strict=True):
        if words.startswith(("{", "Cut(")):  # what is printed, or its beginning; else it is a remark
            assert line.startswith(words.removesuffix("..."))


# What the README's reader has: a function that builds a network, and a photograph.
OWN_NETWORK = """
from flax import nnx

def build():
    rngs = nnx.Rngs(0)
    return nnx.Sequential(
        nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.relu, lambda x: x.mean((1, 2)), nnx.Linear(8, 10, rngs=rngs)
    )
"""


def test_the_readme_runs(tmp_path, monkeypatch):
    """All blocks run in one session."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("my_models.py").write_text(OWN_NETWORK)
    shutil.copy(datasets.sample_photograph(), "cat.jpg")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) >= 2
    session = {}
    with jax.numpy_rank_promotion("allow"):
        for block in blocks:
            exec(compile(block, "README.md", "exec"), session)
    assert session["saliency"].ndim == 2 and pathlib.Path("explained.png").stat().st_size > 10_000
    ((call, said),) = re.findall(r"^(jaxcam\.layers\(.*?\))  # (\{.*\})$", "\n".join(blocks), flags=re.MULTILINE)
    assert eval(call, session) == eval(said)


@pytest.mark.long
@pytest.mark.parametrize(
    "page",
    [
        "methods.md", "many_images.md", "cluster.md", "photographs.md", "masks_boxes_clips.md", "choosing.md",
        "blank_maps.md",
    ],
)  # fmt: skip
def test_the_page_runs(page):
    """All blocks run in one session, and the shapes are those of the comments."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), flags=re.DOTALL)
    session: dict = {}
    with jax.numpy_rank_promotion("allow"):
        for block in blocks:
            exec(compile(block, page, "exec"), session)
        said = re.findall(r"^(.*\.shape)\b.*  # (\([\d, ]+\))", "\n".join(blocks), flags=re.MULTILINE)
        assert said
        for call, shape in said:
            assert eval(call, session) == eval(shape)


@pytest.mark.long
def test_the_table_of_a_resnet_is_what_is_printed():
    import jaxcam

    (table,) = re.findall(r"```\n( +layer.*?)```", (ROOT / "docs" / "choosing.md").read_text(), flags=re.DOTALL)
    printed = str(jaxcam.describe_layers(jaxcam.resnet18(weights=None))).splitlines()
    shown = table.splitlines()
    assert shown == [printed[0], *printed[-(len(shown) - 1) :]]


def test_the_lines_about_blank_maps_are_those_of_the_diagnosis():
    from jaxcam.analysis import _diagnose

    source = " ".join(re.sub(r'"\s+f?"', "", inspect.getsource(_diagnose)).split())
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "blank_maps.md").read_text(), flags=re.MULTILINE)
    said = [row for row in rows if row not in ("the report says", "") and not set(row) <= set("-")]
    assert len(said) == 5
    for row in said:
        line = row.replace("Grad-CAM's", "{title}'s").replace("class 7", "class {self.predicted}")
        for part in re.split(r" ?\.\.\. ?|stop_gradient", line):
            assert part.strip() in source, row


@pytest.mark.long
def test_the_page_on_learning_runs(capsys):
    """All blocks run in one session, and each line with a comment that is a value has that value."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "learning.md").read_text(), flags=re.DOTALL)
    session: dict = {}
    # A user's session; optax itself mixes types.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            exec(compile(block, "learning.md", "exec"), session)
    said = re.findall(r"^(\S.*?)  # (True|\d+|\([\d, ]+\))$", "\n".join(blocks), flags=re.MULTILINE)
    assert len(said) >= 5
    for call, value in said:
        assert eval(call, session) == eval(value), call
    assert "| first digit | ones | 1 |" in capsys.readouterr().out


def test_metrics_have_the_options_of_the_page():
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| (.*?) ?\| .*? \|$", (ROOT / "docs" / "evaluation.md").read_text(), re.MULTILINE
    )
    assert [name for name, _ in rows] == list(measures.MEASURES)
    for name, shown in rows:
        (measure,) = cli.parse_metrics(":".join([name, *(text.strip("`") for text in re.findall("`[^`]+`", shown))]))
        taken = inspect.signature(measures.MEASURES[name]).parameters.values()
        options = {p.name: p.default for p in taken if p.kind is p.KEYWORD_ONLY}
        assert {"score": options.get("score"), **measures.bound(measure)} == {"score": None, **options}


def test_the_evaluation_runs(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "evaluation.md").read_text(), flags=re.DOTALL)
    session: dict = {}
    with jax.numpy_rank_promotion("allow"):
        exec(compile(block, "evaluation.md", "exec"), session)
    assert "3 images, 100.0% classified rightly" in capsys.readouterr().out
    assert session["evaluation"].estimates()["all ones"]["average_drop"].mean == 0
