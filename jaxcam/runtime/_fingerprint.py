"""TODO."""

import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import re
import types
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.cutting import Cut, activations


def differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """What two runs differ in, a phrase each."""
    return [
        f"other {name}"
        if name in ("params", "model")
        else f"{name} {_short(there.get(name))}, not {_short(here.get(name))}"
        for name in here | there
        if here.get(name) != there.get(name)
    ]


def _short(value):
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def settings(
    method: Callable[..., jax.Array],
    cut: Cut,
    images: Any,
    targets: np.ndarray | None,
    key: jax.Array | None,
    load: Callable[[Any], Any] | None,
    names: Sequence[str],
    sample: jax.ShapeDtypeStruct | None,
) -> dict[str, Any]:
    """What a run is, in words that JSON has; arrays by their digest."""
    return {
        "jaxcam": importlib.metadata.version("jaxcam-saliency"),
        "method": described(method),
        **of_model(cut, sample),
        "images": {name: digest(seen(image)) for name, image in zip(names, images, strict=True)},
        "load": described(load, state=False),
        "targets": targets if targets is None else _one_or_digest(targets),
        "key": None if key is None else [str(jax.random.key_impl(key)), jax.random.key_data(key).tolist()],
    }


def of_model(cut: Cut, sample: jax.ShapeDtypeStruct | None) -> dict[str, Any]:
    """The layer, what the model does to such an image, and its parameters."""
    return {
        "layer": cut.layer,
        "model": None if sample is None else [list(sample.shape), str(sample.dtype), program(cut, sample)],
        "params": digest(*(part for path, leaf in jax.tree.leaves_with_path(cut.params) for part in (path, leaf))),
    }


def sample_of(out: pathlib.Path) -> jax.ShapeDtypeStruct | None:
    """The shape and type of the image that the model of the folder's run was traced with, where it has one."""
    try:
        shape, dtype, _ = json.loads((out / "run.json").read_text())["model"]
        return jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def program(cut: Cut, sample: jax.ShapeDtypeStruct) -> str | None:
    """What the model does, without its parameters; None where it does not take the image."""
    try:
        closed = jax.make_jaxpr(activations)(cut, sample)
    except (TypeError, ValueError):  # which is said for that image
        return None
    return digest(re.sub(" at 0x[0-9a-f]+", "", str(closed.jaxpr)), *closed.consts)


def _one_or_digest(targets):
    return int(targets[0]) if targets.size and (targets == targets[0]).all() else digest(targets)


def described(value: Any, *, state: bool = True, within: tuple = ()) -> Any:
    """In words that JSON has; without state, all but what a function of one's own holds, such as a loader's cache.

    `within` has the functions that this is part of: one that calls itself is described once.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value

    def inside(each):
        return described(each, state=state, within=(*within, value))

    if isinstance(value, functools.partial):
        options = {name: inside(option) for name, option in sorted(value.keywords.items())}
        given = {"arguments": [*map(inside, value.args)]} if value.args else {}
        return {"name": inside(value.func), **given, **options}
    if isinstance(value, tuple | list):
        return [*map(inside, value)]
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        # The type of a key is no NumPy type.
        number = value.shape == () and isinstance(value.dtype, np.dtype) and value.dtype.kind in "biuf"
        return value.item() if number else digest(value)
    if isinstance(value, types.MethodType):
        return [inside(value.__func__), inside(value.__self__)]
    name = getattr(value, "__qualname__", None)
    if hasattr(value, "__wrapped__") and not isinstance(value, types.FunctionType):
        return [type(value).__qualname__, inside(value.__wrapped__)]  # a function that was jitted
    if name is None and callable(value) and " at 0x" in repr(value):
        return [type(value).__qualname__, {each: inside(held) for each, held in sorted(vars(value).items())}]
    if name is None:
        text = repr(value)
        if " at 0x" in text:
            held = vars(value) if state and hasattr(value, "__dict__") and not _in(value, within) else {}
            return [type(value).__qualname__, {each: inside(held[each]) for each in sorted(held)}]
        return text if len(text) <= 200 else digest(text)
    name = f"{value.__module__}.{name}"
    ours = name.startswith("jaxcam.") and "<" not in name
    if ours or _in(value, within) or not isinstance(value, types.FunctionType):
        return name
    # Somebody's own, which may be another by the same name: what it does, and what it holds, tell it from that.
    defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).items()]
    held = [cell.cell_contents for cell in value.__closure__ or ()]
    used = [value.__globals__.get(each) for each in value.__code__.co_names]
    # Of what it uses, the numbers, the arrays, and the functions beside it: libraries are as they are.
    held += [each for each in used if not callable(each) or getattr(each, "__module__", None) == value.__module__]
    # What may change while it runs, such as a cache, is not what it is.
    kept = [each for each in held if not isinstance(each, list | dict | set | types.ModuleType)] if state else []
    return [name, digest(*_done(value.__code__)), *map(inside, [*defaults, *kept])]


def _in(value, within):
    return any(value is outer for outer in within)


def _done(code):
    """What a function's code does: its instructions, with the names and constants that they use."""
    yield from (code.co_code, repr(code.co_names), repr(code.co_varnames))
    for const in code.co_consts:
        yield from _done(const) if isinstance(const, types.CodeType) else [repr(const)]


def seen(element: Any) -> Any:
    """An image, or what it is loaded from: an array's values, and of a file its path, size and time."""
    if hasattr(element, "dtype"):
        return element
    if isinstance(element, str | os.PathLike):
        try:
            status = os.stat(element)
        except OSError:  # it will be said when its turn comes
            return f"{element}: none"
        return f"{element}: {status.st_size} {status.st_mtime_ns}"
    return json.dumps(described(element))


def digest(*parts: Any) -> str:
    """Of arrays, with shape and type, and of anything else as text."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        if hasattr(part, "dtype"):
            if jnp.issubdtype(part.dtype, jax.dtypes.prng_key):
                part = jax.random.key_data(part)
            array = np.ascontiguousarray(part)
            found.update(f"{array.dtype}{array.shape}".encode())
            found.update(array.reshape(-1).view(np.uint8).data)
        else:
            found.update(part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass"))
        found.update(b";")
    return found.hexdigest()
