"""The Python code and the command lines that give the maps of the page.

A file is called by its name without its folder: a visitor has a copy elsewhere, and learns no folder of the server.
"""

import os
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

from jaxcam.datasets import find_class
from jaxcam.web._maps import Answer
from jaxcam.web._networks import Network, without_folder
from jaxcam.web._pictures import sample_of
from jaxcam.web._requests import Request

FILES = ("weights", "classes")


def python_code(network: Network, answers: Sequence[Answer], path: str | os.PathLike) -> str:
    """The Python code that computes the maps of one picture.

    Args:
      network: that computed them.
      answers: of requests that differ in their methods alone.
      path: the picture.

    Example:
      >>> from jaxcam.web._maps import explain_request
      >>> from jaxcam.web._networks import Networks
      >>> from jaxcam.web._pictures import SAMPLES
      >>> networks, canvas = Networks([Network("digits")]), SAMPLES["digits 1"].path
      >>> answer = explain_request(networks, canvas, Request(method="grad_cam", filters=(3, 7)))
      >>> print(python_code(networks.network("digits"), [answer], canvas))
      import functools
      <BLANKLINE>
      import jax
      import jaxcam
      <BLANKLINE>
      opened = jaxcam.open_model("digits", layer="block3_conv2")
      methods = {"grad_cam": functools.partial(jaxcam.grad_cam, select=jaxcam.select(filters=[3, 7]))}
      image = jaxcam.pretrained.digits_canvas(1)[0]
      explanation = jaxcam.explain(opened, image, 3, jax.random.key(0), methods=methods)  # class '3'
      saliency = explanation.maps["grad_cam"]  # [2 16 16]
    """
    first = answers[0].request
    sample = sample_of(path)
    image = sample.python if sample else _quoted(pathlib.PurePath(path).name)
    model = _quoted(network.label) if isinstance(network.model, str) else "model"
    options = "".join(f", {name}={_python_value(name, value)}" for name, value in _options(network).items())
    methods = {answer.request.method: _python_method(answer.request) for answer in answers}
    items = [f'"{name}": {method}' for name, method in methods.items()]
    table = f"{{{items[0]}}}" if len(items) == 1 else "{\n    " + ",\n    ".join(items) + ",\n}"
    needs_partial = any(method.startswith("functools") for method in methods.values())
    shape = " ".join(map(str, answers[0].saliency.shape))
    lines = [
        *(["import functools", ""] if needs_partial else []),
        "import jax",
        "import jaxcam",
        "",
        f"opened = jaxcam.open_model({model}, layer={_quoted(first.layer or '')}{options})",
        f"methods = {table}",
        f"image = {image}",
        f"explanation = jaxcam.explain(opened, image, {first.target}, jax.random.key({first.seed}), methods=methods)"
        f"  # class {answers[0].class_name!r}",
        *(f'saliency = explanation.maps["{name}"]  # [{shape}]' for name in methods),
    ]
    return "\n".join(lines)


def command_lines(network: Network, answers: Sequence[Answer], path: str | os.PathLike) -> str:
    """The command line of each map, one a line.

    Args:
      network, answers, path: as in `python_code`.
    """
    if not isinstance(network.model, str):
        return "# the command line takes no model that Python made: give package.module:function"
    sample = sample_of(path)
    name = pathlib.PurePath(path).name
    image = sample.shell if sample else shlex.quote(f"./{name}" if name.startswith("-") else name)
    words = ["jaxcam explain", image, _flag("model", network.label)]
    return "\n".join(" ".join([*words, *_flags(network, answer)]) for answer in answers)


def _flags(network: Network, answer: Answer) -> list[str]:
    request = answer.request
    flags = [_flag("layer", request.layer)]
    flags += [_flag(name.replace("_", "-"), value) for name, value in _options(network).items()]
    flags += [_flag("target", _target_text(answer)), _flag("method", request.method)]
    flags += [_flag("samples", request.samples)] if request.samples is not None else []
    flags += [_flag("std", request.std)] if request.std is not None else []
    flags += [_flag("seed", request.seed)] if request.seed else []
    flags += [_flag("filters", ",".join(map(str, request.filters)))] if request.filters else []
    if request.subset:
        flags.append(_flag("subset", " ".join(f"{row},{column}" for row, column in request.subset)))
    return flags + (["--region"] if request.region else [])


def _target_text(answer: Answer) -> str:
    """The class as `--target` takes it: its number, or its name if the number is the name of another class."""
    number, names = int(answer.request.target or 0), answer.opened.class_names
    return str(number) if find_class(str(number), names) == number else answer.class_name


def _flag(name: str, value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return f"--{name}={shlex.quote(text)}" if text.startswith("-") else f"--{name} {shlex.quote(text)}"


def _options(network: Network) -> dict[str, Any]:
    """The options of `jaxcam.open_model` that the network was given, but its layer; files without their folders."""
    options = {name: value for name, value in network.options.items() if name != "layer"}
    return {name: without_folder(str(value)) if name in FILES else value for name, value in options.items()}


def _python_value(name: str, value: Any) -> str:
    return _quoted(value) if isinstance(value, str) else repr(value)


def _python_method(request: Request) -> str:
    options = {"n_samples": request.samples, "std": request.std}
    words = [f"{name}={value}" for name, value in options.items() if value is not None]
    chosen = [f"filters={list(request.filters)}"] if request.filters else []
    chosen += ["region=True"] if request.region else []
    chosen += [f"subset={list(request.subset)}"] if request.subset else []
    words += [f"select=jaxcam.select({', '.join(chosen)})"] if chosen else []
    function = f"jaxcam.{request.method}"
    return f"functools.partial({function}, {', '.join(words)})" if words else function


def _quoted(text: str) -> str:
    """A text as Python has it, in double quotes where that needs no escape."""
    return f'"{text}"' if repr(text) == f"'{text}'" and '"' not in text else repr(text)
