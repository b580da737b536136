"""The site has every page and every public package. `.ci/run` builds it strictly."""

import importlib.util
import inspect
import pathlib
import re

import jaxcam
import jaxcam.datasets.images
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
    notebooks = {f"notebooks/{path.stem}" for path in DOCS.glob("notebooks/*.md")}
    assert listed == {path.stem for path in DOCS.glob("*.md")} - {"index"} | {"api/index"} | notebooks


def test_every_public_package_has_a_page():
    pages = api_pages()
    faces = {f"jaxcam.{package}" for package in ORDER if not package.startswith("_")} - {"jaxcam.cli"}
    inside = {"jaxcam.tracing", "jaxcam.formulas"}  # what is public in them are namespaces of the root
    assert faces - inside <= set(pages.NAMESPACES)
    for namespace in pages.NAMESPACES:
        assert pages.public_names(namespace), namespace
    shown = {name for namespace in pages.NAMESPACES for name in pages.public_names(namespace)}
    assert {name for name in jaxcam.__all__ if callable(getattr(jaxcam, name))} <= shown


def reached_modules(module=jaxcam):
    """The modules of jaxcam that its face names, and those that their faces name."""
    source = pathlib.Path(module.__file__).read_text()
    for _, name in re.findall(r"^from (jaxcam\S*) import (\w+) as \2$", source, flags=re.MULTILINE):
        value = getattr(module, name)
        if inspect.ismodule(value):
            yield value
            yield from reached_modules(value)


def test_no_public_name_is_without_a_page():
    pages = api_pages()
    shown = {
        id(getattr(pages.namespace_module(namespace), name))
        for namespace in pages.NAMESPACES
        for name in pages.public_names(namespace)
    }
    modules = {module.__name__: module for module in (*reached_modules(), jaxcam.datasets.images)}  # which loads Pillow
    assert {"jaxcam.analysis.bias", "jaxcam.perturbations.attacks", "jaxcam.methods.controls"} <= set(modules)
    missing = []
    for module in modules.values():
        for name, value in vars(module).items():
            home = str(getattr(value, "__module__", ""))
            own = home.startswith("jaxcam") if hasattr(module, "__path__") else home == module.__name__
            if own and not name.startswith("_") and callable(value) and id(value) not in shown:
                missing.append(f"{module.__name__}.{name}")
    assert missing == []


def test_text_is_escaped_and_code_is_not():
    lines = ["|du/dx| of `a | b`, and `relu`s:", "", "Example:", "  >>> a | b", "  |", "", "Text with |."]
    api_pages().escape(lines)
    escaped = ["\\|du/dx\\| of `a | b`, and `relu`\\ s:", "", "Example:", "  >>> a | b", "  |", "", "Text with \\|."]
    assert lines == escaped
