"""The notebooks: their text and the `.ipynb` files for Colab are the same. The build of the site executes them."""

import json
import pathlib
import re

import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "docs" / "notebooks"
NAMES = ["exact_derivatives", "flax_model", "keras_model", "photograph"]


def cells_of_text(name):
    """The cells of the text, `(kind, source, tags)`."""
    text = (FOLDER / f"{name}.md").read_text()
    _, header, body = text.split("---\n", 2)
    assert "format_name: myst" in header
    cells = []
    for i, part in enumerate(re.split(r"^```\{code-cell\}\n(.*?)^```$", body, flags=re.MULTILINE | re.DOTALL)):
        if i % 2 == 0:
            if part.strip():
                cells.append(("markdown", part.strip(), []))
        else:
            options = re.match(r":tags: \[(.*?)\]\n\n", part)
            cells.append(
                ("code", part[options.end() if options else 0 :].strip(), options[1].split(", ") if options else [])
            )
    return cells


def cells_of_file(name):
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text())
    return [
        (cell["cell_type"], "".join(cell["source"]), cell["metadata"].get("tags", [])) for cell in notebook["cells"]
    ]


def test_every_notebook_has_both_forms():
    assert sorted(path.stem for path in FOLDER.glob("*.md")) == NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_are_the_same(name):
    assert cells_of_file(name) == cells_of_text(name)


@pytest.mark.parametrize("name", NAMES)
def test_it_installs_what_it_needs_and_links_to_no_unknown_address(name):
    cells = cells_of_file(name)
    assert cells[0][1].startswith("# ") and "://" not in "".join(source for _, source, _ in cells)
    assert f"upload `docs/notebooks/{name}.ipynb`" in cells[0][1]
    first = next((source, tags) for kind, source, tags in cells if kind == "code")
    assert first[0].startswith("%pip install --quiet jaxcam-saliency") and "\n" not in first[0]
    assert first[1] == ["skip-execution"], "the build of the site has jaxcam"
    code = "\n".join(source for kind, source, _ in cells[2:] if kind == "code")
    assert "%pip" not in code and ("import keras" in code) == first[0].endswith(" keras")


@pytest.mark.parametrize("name", NAMES)
def test_no_output_is_stored(name):
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text())
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")
