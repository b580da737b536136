"""What a public function looks like."""

import inspect
from typing import Any

import pytest

import jaxcam

NAMESPACES = [
    jaxcam.derivatives, jaxcam.linearity, jaxcam.maps, jaxcam.noise, jaxcam.pixels, jaxcam.rules, jaxcam.scores,
    jaxcam.weights, jaxcam.metrics, jaxcam.controls, jaxcam.losses, jaxcam.attacks, jaxcam,
]  # fmt: skip


def is_public(namespace, name, value):
    """A function that a namespace offers; a module that is one file also has functions that it only uses."""
    if not inspect.isfunction(value) or name.startswith("_") or not value.__module__.startswith("jaxcam"):
        return False
    is_package = hasattr(namespace, "__path__")
    return is_package or value.__module__.split(".")[1] == namespace.__name__.split(".")[1]


PUBLIC = {
    f"{namespace.__name__}.{name}": value
    for namespace in NAMESPACES
    for name, value in vars(namespace).items()
    if is_public(namespace, name, value)
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions(name):
    function = PUBLIC[name]
    parameters = inspect.signature(function).parameters
    assert inspect.getdoc(function), "a docstring"
    assert "rng" not in parameters, "keys are called key"
    assert inspect.signature(function).return_annotation not in (Any, inspect.Signature.empty), "a type of the result"
    if function is not jaxcam.grad_cam_plus_smooth:  # the paper's own call, as the paper has it
        options = {"score", "link", "derivatives", "numerator", "select", "n_samples", "std", "batch_size", "filters"}
        options |= {"steps", "baseline", "relative", "standard_error", "mesh", "compat"}
        for option in options & set(parameters):
            if not function.__module__.startswith("jaxcam.derivatives") or option not in ("score", "derivatives"):
                assert parameters[option].kind is inspect.Parameter.KEYWORD_ONLY, option
    positional = [name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    if "key" in positional and "cut" in positional and function is not jaxcam.noise.noisy:
        assert positional[-1] == "key"
    if positional[:2] == ["cut", "image"]:
        expected = [parameter for parameter in ("cut", "image", "saliency", "target", "key") if parameter in positional]
        assert positional == expected
