"""What a public function looks like."""

import inspect

import pytest

import jaxcam

NAMESPACES = [
    jaxcam.derivatives, jaxcam.linearity, jaxcam.maps, jaxcam.noise, jaxcam.pixels, jaxcam.rules, jaxcam.scores,
    jaxcam.weights, jaxcam.metrics, jaxcam.controls, jaxcam,
]  # fmt: skip
PUBLIC = {
    f"{namespace.__name__}.{name}": value
    for namespace in NAMESPACES
    for name, value in vars(namespace).items()
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
            if not function.__module__.startswith("jaxcam.derivatives") or option not in ("score", "derivatives"):
                assert parameters[option].kind is inspect.Parameter.KEYWORD_ONLY, option
    positional = [name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    if "key" in positional and "cut" in positional and function is not jaxcam.noise.noisy:
        assert positional[-1] == "key"
    if positional[:2] == ["cut", "image"]:
        assert positional == [each for each in ("cut", "image", "saliency", "target", "key") if each in positional]
