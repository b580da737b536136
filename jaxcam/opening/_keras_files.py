"""Keras models from files, of which nothing is executed.

A `.keras` or `.h5` file describes a model in JSON. Keras's safe mode refuses Python code in it, but versions of Keras
differ in what else they import because a file says so. So the description is checked before Keras sees it: classes and
functions must be Keras's own, and none of those that run code or read another file.
"""

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

from jaxcam._base import limits
from jaxcam.pretrained import checkpoints

SUFFIXES = (".keras", ".h5", ".hdf5")
# Namespaces of Keras whose members are parts of a model.
MODULES = {
    f"keras.{name}" for name in (
        "activations", "constraints", "dtype_policies", "initializers", "layers", "models", "ops", "quantizers",
        "regularizers",
    )
} | {"keras"}  # fmt: skip
PREFIXES = ("keras.src.ops.", "keras.src.models.", "keras.src.layers.")
# In "keras" itself a file may name these alone.
OF_KERAS = {"DTypePolicy", "FloatDTypePolicy", "QuantizedDTypePolicy", "Functional", "Model", "Sequential"}
RUN_CODE = {"Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"}
READ_FILES = {"StringLookup", "IntegerLookup", "TextVectorization"}
MOST_DEPTH = 200  # of a description; a model of models has some 20
INSTEAD = "build the model in a function of your own, and give module:function"


def checked_description(path: str | os.PathLike) -> dict[str, Any]:
    """The description of the model in a file, every class of which is Keras's own.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file of another kind, weights without a model, or a class that may not be built.
    """
    name = os.fspath(path)
    description = _description_in_zip(path) if name.endswith(".keras") else _description_in_h5(path)
    # Optimizers and losses are not built.
    model = {key: value for key, value in description.items() if key != "compile_config"}
    for part in _described_objects(model, name):
        _check_object(name, part)
    return description


def _description_in_zip(path) -> dict[str, Any]:
    most = limits.current().json_bytes
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            described = archive.getinfo("config.json")
            if max(described.file_size, described.compress_size) > most:
                raise ValueError(f"its config.json has more than {most} bytes (jaxcam.limits: json_bytes)")
            text = archive.read("config.json")
    except Exception as error:  # a damaged archive raises what it likes
        if isinstance(error, OSError) and error.filename is not None:
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"{os.fspath(path)}: not a model that Keras saved as .keras: {reason:.200}") from error
    return _as_description(path, text)


def _description_in_h5(path) -> dict[str, Any]:
    text = checkpoints.hdf5_attribute(path, "model_config")
    if text is None:
        raise ValueError(
            f"{os.fspath(path)} has weights without a model: give the network, such as keras:NAME:weights=FILE"
        )
    return _as_description(path, text)


def _as_description(path, text) -> dict[str, Any]:
    try:
        description = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{os.fspath(path)}: the description of its model is no JSON") from error
    if not isinstance(description, dict):
        raise ValueError(f"{os.fspath(path)}: the description of its model is no JSON object")
    return description


def _described_objects(description: Any, path: str) -> Iterator[Mapping[str, Any]]:
    """Every part of a description that names a class or a function."""
    level = [description]
    for _ in range(MOST_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                if "class_name" in value:
                    yield value
                inner += value.values()
            elif isinstance(value, list):
                inner += value
        level = inner
        if not level:
            return
    raise ValueError(f"{path}: the description of its model is nested more than {MOST_DEPTH} deep")


def _check_object(path: str, part: Mapping[str, Any]) -> None:
    """Raises a ValueError if a class or a function may not be built."""
    module, class_name = part.get("module"), part["class_name"]
    settings = part.get("config")
    layer = settings.get("name") if isinstance(settings, Mapping) else None
    if not isinstance(class_name, str) or not isinstance(module, str | None):
        raise ValueError(f"{path} describes a part whose class has no name: {INSTEAD}")
    named = f"{class_name:.80} layer {layer!r:.80}" if layer else f"{class_name:.80}"
    if class_name in RUN_CODE:
        raise ValueError(f"{path} has a {named}, which would run code from the file: {INSTEAD}")
    if class_name in READ_FILES:
        raise ValueError(f"{path} has a {named}, which may read another file: {INSTEAD}")
    is_of_keras = (
        module is None
        or (module == "keras" and class_name in OF_KERAS)
        or (module in MODULES and module != "keras")
        or (module == "builtins" and class_name == "function")
        or (isinstance(module, str) and module.startswith(PREFIXES))
    )
    if not is_of_keras:
        raise ValueError(
            f"{path} needs {class_name:.80} of {module!s:.80}, which is not a part of Keras's models: {INSTEAD}"
        )
