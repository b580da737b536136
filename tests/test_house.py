"""The rules of the house, kept by a test: which room may import which, and what a public function looks like."""

import ast
import inspect
import pathlib
import subprocess
import sys

import pytest

import jaxcam

HOUSE = pathlib.Path(jaxcam.__file__).parent

# From the ground up: a room may import those before it.
FLOORS = [
    "progress", "jaxprs", "convolutions", "sharing", "vgg", "checkpoints", "layouts", "pretrained", "models", "cut",
    "scores", "linearity", "plans", "taylor", "rules", "noise", "derivatives", "weights", "maps", "compat", "checks",
    "calls", "growing", "composition", "averages", "methods", "pixels", "images", "examples", "labels", "challenges",
    "datasets", "runs", "chunks", "batches", "controls", "localisation", "faithfulness", "imputation", "removal",
    "randomisation", "metrics", "measures", "scoring", "tables", "evaluation", "diagnosis", "validation", "plots",
    "reports", "arguments", "__main__",
]  # fmt: skip


def imports(room):
    found = set()
    for node in ast.walk(ast.parse((HOUSE / f"{room}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_every_room_has_its_floor():
    assert {file.stem for file in HOUSE.glob("*.py")} == {*FLOORS, "__init__"}


@pytest.mark.parametrize("room", FLOORS)
def test_imports_run_one_way(room):
    above = FLOORS[FLOORS.index(room) :]
    assert not {f"jaxcam.{other}" for other in above} & imports(room)


@pytest.mark.parametrize("room", FLOORS)
def test_flax_and_matplotlib_stay_in_their_rooms(room):
    named = {name.split(".")[0] for name in imports(room)}
    assert "flax" not in named or room in ("vgg", "models", "pretrained", "sharing")
    assert "matplotlib" not in named or room == "plots"
    assert "rich" not in named or room in ("progress", "__main__")


def test_import_leaves_the_heavy_rooms_closed():
    code = "import jaxcam, sys; print(set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"matplotlib", "PIL", "h5py", "safetensors", "huggingface_hub"}  # flax itself brings rich
    assert not heavy & ast.literal_eval(done.stdout)


ROOMS = [
    jaxcam.derivatives, jaxcam.linearity, jaxcam.maps, jaxcam.noise, jaxcam.pixels, jaxcam.rules, jaxcam.scores,
    jaxcam.weights, jaxcam.metrics, jaxcam.controls, jaxcam,
]  # fmt: skip
PUBLIC = {
    f"{room.__name__}.{name}": value
    for room in ROOMS
    for name, value in vars(room).items()
    if inspect.isfunction(value) and not name.startswith("_") and value.__module__.startswith("jaxcam")
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions(name):
    function = PUBLIC[name]
    parameters = inspect.signature(function).parameters
    assert inspect.getdoc(function), "a docstring"
    assert "rng" not in parameters, "keys are called key"
    if function is not jaxcam.grad_cam_plus_smooth:  # the paper's own call, as the paper has it
        options = {"score", "link", "derivatives", "numerator", "select", "n_samples", "std", "batch_size", "filters"}
        options |= {"steps", "baseline", "relative", "standard_error", "mesh", "compat"}
        for option in options & set(parameters):
            if function.__module__ != "jaxcam.derivatives" or option not in ("score", "derivatives"):
                assert parameters[option].kind is inspect.Parameter.KEYWORD_ONLY, option
    positional = [name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    if "key" in positional and "cut" in positional and function is not jaxcam.noise.noisy:
        assert positional[-1] == "key"
    if positional[:2] == ["cut", "image"]:
        assert positional == [each for each in ("cut", "image", "saliency", "target", "key") if each in positional]
