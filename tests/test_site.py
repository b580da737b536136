"""The site has every page and every public package. `.ci/run` builds it strictly."""

import importlib.util
import pathlib
import re

import jaxcam
from tests.test_house import ORDER

DOCS = pathlib.Path(__file__).parent.parent / "docs"


def api_pages():
    spec = importlib.util.spec_from_file_location("_api_pages", DOCS / "_api_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_table_of_contents():
    trees = re.findall(r"```\{toctree\}(.*?)```", (DOCS / "index.md").read_text(), flags=re.DOTALL)
    listed = {line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")}
    assert listed == {path.stem for path in DOCS.glob("*.md")} - {"index"} | {"api/index"}


def test_every_public_package_has_a_page():
    pages = api_pages()
    faces = {f"jaxcam.{package}" for package in ORDER if not package.startswith("_")} - {"jaxcam.cli"}
    inside = {"jaxcam.tracing", "jaxcam.formulas"}  # what is public in them are namespaces of the root
    assert faces - inside <= set(pages.NAMESPACES)
    for namespace in pages.NAMESPACES:
        assert pages.public_names(namespace), namespace
    shown = {name for namespace in pages.NAMESPACES for name in pages.public_names(namespace)}
    assert {name for name in jaxcam.__all__ if callable(getattr(jaxcam, name))} <= shown


def test_text_is_escaped_and_code_is_not():
    lines = ["|du/dx| of `a | b`, and `relu`s:", "", "Example:", "  >>> a | b", "  |", "", "Text with |."]
    api_pages().escape(lines)
    escaped = ["\\|du/dx\\| of `a | b`, and `relu`\\ s:", "", "Example:", "  >>> a | b", "  |", "", "Text with \\|."]
    assert lines == escaped
