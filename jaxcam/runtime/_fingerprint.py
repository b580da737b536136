"""What tells one run from another: methods, models and images, described in JSON.

A results folder records in `run.json` the run that wrote it, and a call that describes another run is refused.

- A function of jaxcam is described by its public name, whatever its file and its code; the recorded version of jaxcam
  stands for the code.
- A user's function is described by its name, a digest of its bytecode, and what it holds: defaults, closure variables,
  and the numbers, arrays and functions of its own module that it uses.
- Arrays, parameters and the traced model are described by digests.

    >>> import functools, jaxcam
    >>> describe(functools.partial(jaxcam.grad_cam, score=jaxcam.scores.log_softmax))
    {'name': 'jaxcam.methods.grad_cam', 'score': 'jaxcam.scores.log_softmax'}
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base import checks
from jaxcam.cutting import Cut, activations

PACKAGE = __name__.partition(".")[0]
ADDRESS = " at 0x"  # in the repr of an object that has no repr of its own
LONGEST_TEXT = 200  # characters of a value's text; longer text is described by its digest


def describe_differences(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """What a recorded and the current run differ in, a phrase each."""
    return [
        f"other {name}"
        if name in ("params", "model")
        else f"{name} {_shorten(recorded.get(name))}, not {_shorten(current.get(name))}"
        for name in {**current, **recorded}
        if current.get(name) != recorded.get(name)
    ]


def _shorten(value):
    text = json.dumps(value)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."


def describe_batch(
    method: Callable[..., jax.Array],
    cut: Cut,
    images: Mapping[str, str],  # digests by name
    targets: Any,
    key: jax.Array | None,
    load: Callable[[Any], Any] | None,
    sample: jax.ShapeDtypeStruct | None,
) -> dict[str, Any]:
    """The run of a call of `explain_batch`."""
    return {
        **describe_model(cut, sample),
        "method": describe(method),
        "images": dict(images),
        "load": describe(load, with_state=False),
        "targets": targets,
        "key": None if key is None else [str(jax.random.key_impl(key)), jax.random.key_data(key).tolist()],
    }


def describe_model(cut: Cut, sample: jax.ShapeDtypeStruct | None) -> dict[str, Any]:
    """The version of jaxcam, the layer, what the model computes for an image such as `sample`, and its parameters.

    The channel axis of the image is part of it if channels are not last.
    """
    axis = cut.image_channel_axis
    return {
        "jaxcam": importlib.metadata.version("jaxcam-saliency"),
        "layer": cut.layer,
        **({} if axis == -1 else {"image_channel_axis": axis}),
        "model": None if sample is None else [list(sample.shape), str(sample.dtype), _program_digest(cut, sample)],
        "params": content_digest(
            *(part for path, leaf in jax.tree.leaves_with_path(cut.params) for part in (path, leaf))
        ),
    }


def recorded_sample(out: pathlib.Path) -> jax.ShapeDtypeStruct | None:
    """The shape and type of the image that the folder's model was traced with; None if the folder records none."""
    try:
        shape, dtype, _ = json.loads((out / "run.json").read_text())["model"]
        return jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _program_digest(cut, sample):
    """What the model computes, without its parameters; None if it does not take the image."""
    try:
        closed = jax.make_jaxpr(activations)(cut, sample)
    except (TypeError, ValueError):  # reported when the turn of that image comes
        return None
    return content_digest(re.sub(f"{ADDRESS}[0-9a-f]+", "", str(closed.jaxpr)), *closed.consts)


def describe(value: Any, *, with_state: bool = True, enclosing: tuple[Any, ...] = ()) -> Any:
    """A function, or an option of one, as JSON values.

    Args:
      value: anything; what has no description of its own is described by its repr.
      with_state: whether what a user's function or object holds is part of it. A loader holds caches: it is described
        without.
      enclosing: the values that hold this one, so that a function which calls itself is described once.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value

    def describe_part(part):
        return describe(part, with_state=with_state, enclosing=(*enclosing, value))

    if isinstance(value, functools.partial):
        arguments = {"arguments": [*map(describe_part, value.args)]} if value.args else {}
        options = {name: describe_part(option) for name, option in sorted(value.keywords.items())}
        return {"name": describe_part(value.func), **arguments, **options}
    if isinstance(value, tuple | list):
        return [*map(describe_part, value)]
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        # A key's type is not a NumPy type.
        is_number = value.shape == () and isinstance(value.dtype, np.dtype) and value.dtype.kind in "biuf"
        return value.item() if is_number else content_digest(value)
    if isinstance(value, types.MethodType):
        return [describe_part(value.__func__), describe_part(value.__self__)]
    if hasattr(value, "__wrapped__") and not isinstance(value, types.FunctionType):
        return [type(value).__qualname__, describe_part(value.__wrapped__)]  # a jitted function
    if not hasattr(value, "__qualname__"):
        shows_state = (with_state or callable(value)) and not _is_among(value, enclosing)
        return _describe_object(value, describe_part, shows_state)
    if not isinstance(value, types.FunctionType) or _is_among(value, enclosing):
        return _public_name(value)
    return _describe_function(value, describe_part, with_state)


def _describe_object(value, describe_part, shows_state):
    text = repr(value)
    if ADDRESS not in text:
        return text if len(text) <= LONGEST_TEXT else content_digest(text)
    held = vars(value) if shows_state and hasattr(value, "__dict__") else {}
    return [type(value).__qualname__, {name: describe_part(held[name]) for name in sorted(held)}]


def _describe_function(function, describe_part, with_state):
    name = _public_name(function)
    if _is_ours(function.__globals__.get("__name__")) and "<lambda>" not in name:
        if hasattr(function, "made_by"):  # the call that makes this function, as a functools.partial
            return describe_part(function.made_by)
        if not _is_ours(function.__module__):  # one of our decorators around a user's function
            return describe_part(function.__wrapped__)
        return name if "<locals>" not in name else {"name": name, **_closure_variables(function, describe_part)}
    return [name, content_digest(*_code_parts(function.__code__)), *map(describe_part, _held(function, with_state))]


def _closure_variables(function, describe_part):
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return {variable: describe_part(cell.cell_contents) for variable, cell in cells}


def _held(function, with_state):
    """The values that a user's function computes with: its defaults and, with its state, variables around it."""
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
    if not with_state:
        return defaults
    used = [function.__globals__.get(name) for name in function.__code__.co_names]
    # Other modules' functions are left out: a library is what it is.
    own = [each for each in used if not callable(each) or getattr(each, "__module__", None) == function.__module__]
    closure = [cell.cell_contents for cell in function.__closure__ or ()]
    # A container may change during the run, as a cache does.
    return defaults + [each for each in closure + own if not isinstance(each, list | dict | set | types.ModuleType)]


def _public_name(value):
    """`jaxcam.methods.grad_cam` for the function in `jaxcam.methods._cam`, `jaxcam.scores.logit` for `formulas.scores`.

    It is the name under the innermost public module: private files, and the package of a public file, may change.
    """
    module = str(getattr(value, "__module__", None))
    if _is_ours(module):
        public = [part for part in module.split(".")[1:] if not part.startswith("_")]
        module = ".".join([PACKAGE, *public[-1:]])
    return f"{module}.{value.__qualname__}"


def _is_ours(module):
    return module == PACKAGE or (isinstance(module, str) and module.startswith(f"{PACKAGE}."))


def _is_among(value, values):
    return any(value is other for other in values)


def _code_parts(code) -> Iterator[Any]:
    """What a function's code does: its instructions, with the names and constants that they use."""
    yield from (code.co_code, repr(code.co_names), repr(code.co_varnames))
    for const in code.co_consts:
        yield from _code_parts(const) if isinstance(const, types.CodeType) else [repr(const)]


def content_or_stamp(element: Any) -> Any:
    """What identifies an image, for `content_digest`: an array itself; a file's path, size and time of change."""
    if hasattr(element, "dtype"):
        return element
    if isinstance(element, str | os.PathLike):
        try:
            status = os.stat(element)
        except OSError:  # reported when the turn of that image comes
            return f"{element}: none"
        return f"{element}: {status.st_size} {status.st_mtime_ns}"
    return json.dumps(describe(element))


def content_digest(*parts: Any) -> str:
    """A digest of arrays, with their shapes and types, of bytes, and of anything else as text."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        if hasattr(part, "dtype"):
            array = np.ascontiguousarray(jax.random.key_data(part) if checks.is_key(part) else part)
            hasher.update(f"{array.dtype}{array.shape}".encode())
            hasher.update(array.reshape(-1).view(np.uint8).data)
        else:
            hasher.update(part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass"))
        hasher.update(b";")
    return hasher.hexdigest()
