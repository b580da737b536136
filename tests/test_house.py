"""The rules of the house, kept by a test: which package imports which, and where a library is known."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

import jaxcam

HOUSE = pathlib.Path(jaxcam.__file__).parent

# From the ground up. A package imports packages of the floors below it and, on its own floor, those written before it.
FLOORS = [
    ["_base", "tracing", "formulas", "datasets"],
    ["derivatives", "cutting", "perturbations", "networks"],
    ["pretrained", "methods", "metrics", "runtime"],
    ["evaluation", "analysis", "opening", "losses"],
    ["plots", "explaining"],
    ["web"],
    ["cli"],
]
ORDER = [package for floor in FLOORS for package in floor]
# A library, and the files that may import it: a package, or one file of it.
KNOWN_IN = {
    "flax": {"cutting", "networks", "pretrained"},
    "keras": {"opening"},
    "matplotlib": {"plots"},
    "optax": {"losses"},
    "gradio": {"web"},
    "PIL": {"datasets", "pretrained"},
    "rich": {"_base/progress.py"},
    "h5py": {"pretrained"},
    "safetensors": {"pretrained"},
    "av": {"datasets"},
    "ray": {"runtime/_ray_actors.py"},
}
# Functions that may be longer: a pickle machine is one table of opcodes.
MOST_CODE_LINES = {"read_pickle": 70}
# Public names of version 0.1 that stay as aliases for one version, and names in files of earlier versions.
OLD_SPELLINGS = {"centre", "centre_gaussian", "model_randomisation", "randomised", "localised"}
FILES = sorted(HOUSE.rglob("*.py"))
MODULES = {
    ".".join(("jaxcam", *file.relative_to(HOUSE).with_suffix("").parts)).removesuffix(".__init__") for file in FILES
}


def name_of(file):
    return str(file.relative_to(HOUSE))


def imported_modules(file):
    """Every module that a file imports, also inside functions; `from package import module` counts as the module."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)} has a relative import"
            full_names = {f"{node.module}.{alias.name}" for alias in node.names}
            modules |= {full_name if full_name in MODULES else node.module for full_name in full_names}
    return modules


def package_of(file):
    return file.relative_to(HOUSE).parts[0]


IN_PACKAGES = [file for file in FILES if package_of(file) in ORDER]


def test_every_package_has_its_floor():
    assert {folder.name for folder in HOUSE.iterdir() if (folder / "__init__.py").exists()} == set(ORDER)
    assert {file.name for file in HOUSE.glob("*.py")} == {"__init__.py", "__main__.py"}
    assert max(map(len, FLOORS)) <= 5


@pytest.mark.parametrize("file", IN_PACKAGES, ids=name_of)
def test_imports_go_down_and_through_faces(file):
    package = package_of(file)
    below = ORDER[: ORDER.index(package)]
    for module in imported_modules(file):
        parts = module.split(".")
        if parts[0] != "jaxcam" or parts[1:2] == [package]:
            continue
        if parts == ["jaxcam"]:
            assert package in ("cli", "web"), f"{name_of(file)} imports the root, which imports {package}"
            continue
        assert parts[1] in below, f"{name_of(file)} imports {module}, which is not below {package}"
        private = [part for part in parts[2:] if part.startswith("_")]
        assert not private, f"{name_of(file)} imports {module}: import it through the face of {parts[1]}"


@pytest.mark.parametrize("file", IN_PACKAGES, ids=name_of)
def test_a_private_name_stays_in_its_package(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[:2] != ["jaxcam", package_of(file)]:
            private = [alias.name for alias in node.names if node.module.startswith("jaxcam") and alias.name[0] == "_"]
            assert private in ([], ["_base"]) or node.module == "jaxcam", f"{name_of(file)} imports {private}"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_library_is_known_where_it_may_be(file):
    libraries = {module.split(".")[0] for module in imported_modules(file)}
    for library in libraries & KNOWN_IN.keys():
        allowed = KNOWN_IN[library]
        assert package_of(file) in allowed or name_of(file) in allowed, f"{name_of(file)} imports {library}"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_files_and_functions_stay_short(file):
    lines = file.read_text().splitlines()
    assert len(lines) <= 400
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef):
            count = code_lines(node, lines)
            assert count <= MOST_CODE_LINES.get(node.name, 50), f"{node.name} has {count} lines of code"


def code_lines(function, lines):
    """How many lines a function has without its docstring, comments and blank lines."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = range(first.lineno, first.end_lineno + 1) if has_docstring else ()
    numbers = [n for n in range(function.lineno, function.end_lineno + 1) if n not in docstring]
    return sum(1 for n in numbers if lines[n - 1].strip() and not lines[n - 1].strip().startswith("#"))


def test_names_and_messages_say_what_they_mean():
    """Bounds on words that carry nothing, which docs/contributing.md asks to avoid."""
    bound_names = []
    text = ""
    for file in FILES:
        text += file.read_text()
        for node in ast.walk(ast.parse(file.read_text())):
            stored = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            name = node.id if stored else node.arg if isinstance(node, ast.arg) else None
            if name in {"found", "each", "one", "how"}:
                bound_names.append(f"{name_of(file)}:{node.lineno}: {name}")
    assert len(bound_names) <= 40, bound_names
    assert len(re.findall(r"\b(?:is|are) wanted\b", text)) <= 5
    assert len(re.findall(r"\brooms?\b", text)) <= 3
    british = r"\b\w*(?:colour|centre|behaviour|licence|neighbour|favour|(?:normal|random|local|minim|maxim)is[ei])\w*"
    assert set(re.findall(british, text)) <= OLD_SPELLINGS


def test_import_leaves_heavy_libraries_alone():
    code = "import jaxcam, sys; print(set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"gradio", "matplotlib", "PIL", "h5py", "safetensors", "huggingface_hub"}  # flax itself imports rich
    assert not heavy & ast.literal_eval(done.stdout)
