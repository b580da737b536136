"""What a call is given: images, targets and options, usable ones and others, with what has to come of them.

A draw that cannot be explained names the errors that are right for it: their types, and words of the message.
"""

import fractions
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam


class Refusal(NamedTuple):
    """The error that is right: its types, and a pattern that its message must contain."""

    types: tuple[type[Exception], ...]
    pattern: str


class Draw(NamedTuple):
    """A value that a call is given.

    Attributes:
      kind: its name in the report.
      value: as the user gives it.
      meant: what it means, as NumPy has it; None if it is refused.
      refusal: the error that is right for it.
    """

    kind: str
    value: Any
    meant: Any = None
    refusal: Refusal | None = None


ANY = (TypeError, ValueError)
TYPE, VALUE = (TypeError,), (ValueError,)


def pick(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def is_array_of_numbers(value):
    return hasattr(value, "dtype") and isinstance(value.dtype, np.dtype) and value.dtype.kind in "fiubc"


# Images.


def _values(rng, shape):
    """Finite values of every range, float32."""
    normal = rng.normal(size=shape)
    one_pixel = np.zeros(shape)
    one_pixel[tuple(rng.integers(0, size) for size in shape)] = 1
    choices = {
        "0..1": rng.uniform(0, 1, shape),
        "-1..1": rng.uniform(-1, 1, shape),
        "normal": normal,
        "0..255": rng.integers(0, 256, shape).astype(float),
        "negative": -rng.uniform(0, 3, shape),
        "zeros": np.zeros(shape),
        "ones": np.ones(shape),
        "constant": np.full(shape, rng.normal()),
        "one pixel": one_pixel,
        "1e-4": 1e-4 * normal,
        "1e-12": 1e-12 * normal,
        "1e-30": 1e-30 * normal,
        "denormal": 1e-40 * normal,
        "1e4": 1e4 * normal,
        "1e12": 1e12 * normal,
        "1e30": 1e30 * normal,
        "largest": 3.4e38 * np.sign(normal),
        "many scales": normal * 10.0 ** rng.integers(-10, 6, shape),
        "one huge pixel": rng.uniform(0, 1, shape) + 1e8 * one_pixel,
        "an offset": 1e4 + normal,
        "columns": np.broadcast_to(rng.normal(size=shape[:1] + (1,) * (len(shape) - 1)), shape),
    }
    common = ["0..1", "-1..1", "normal"]
    kind = pick(rng, common) if rng.uniform() < 0.4 else pick(rng, list(choices))
    return kind, np.array(choices[kind], np.float32)


def _reversed_view(values):
    """The same values with negative strides."""
    return np.ascontiguousarray(values[::-1])[::-1]


def _strided(values):
    wide = np.repeat(values, 2, axis=0)
    return wide[::2]


def _read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


# The same values in other containers, all of which mean the same image.
CONTAINERS = {
    "numpy": lambda values: values,
    "jax": jnp.asarray,
    "float64": lambda values: values.astype(np.float64),
    "list": lambda values: values.tolist(),
    "fortran": np.asfortranarray,
    "reversed view": _reversed_view,
    "strided view": _strided,
    "read-only": _read_only,
    "big endian": lambda values: values.astype(">f4"),
    "longdouble": lambda values: values.astype(np.longdouble),
    "list of rows": lambda values: [np.asarray(row) for row in values],
    "tuple of rows": lambda values: tuple(jnp.asarray(row) for row in values),
}


TAKEN_BY_JIT = ("numpy", "jax", "float64", "fortran", "reversed view", "strided view", "read-only")


def image(rng, shape, dtype, *, traced=False):
    """An image that is finite floats of the network's shape."""
    kind, values = _values(rng, shape)
    if dtype != np.float32:
        with np.errstate(all="ignore"):
            values = values.astype(dtype)
        values = np.where(np.isfinite(values.astype(np.float32)), values, np.ones_like(values))
        return Draw(kind, values, values)
    container = "numpy" if rng.uniform() < 0.5 else pick(rng, TAKEN_BY_JIT if traced else list(CONTAINERS))
    return Draw(f"{kind}, {container}", CONTAINERS[container](values), values)


def strange_image(rng, shape):
    """An image that must be refused."""
    _, values = _values(rng, shape)
    place = tuple(rng.integers(0, size) for size in shape)
    spoiled = values.copy()
    spoiled[place] = pick(rng, [np.nan, np.inf, -np.inf])
    finite = lambda kind, value, types, pattern: Draw(kind, value, None, Refusal(types, pattern))
    whole = np.clip(values, 0, 255)
    return pick(
        rng,
        [
            lambda: finite("NaN or infinity", spoiled, VALUE, "NaN or infinite"),
            lambda: finite("NaN or infinity in a jax array", jnp.asarray(spoiled), VALUE, "NaN or infinite"),
            lambda: finite("NaN or infinity in a list", spoiled.tolist(), VALUE, "NaN or infinite"),
            lambda: finite("all NaN", np.full(shape, np.nan), VALUE, "NaN or infinite"),
            lambda: finite("float64 beyond float32", np.full(shape, 1e300), VALUE, "NaN or infinite"),
            lambda: finite("uint8", whole.astype(np.uint8), TYPE, "uint8: image / 255"),
            lambda: finite("int32", whole.astype(np.int32), TYPE, "int32: image / 255"),
            lambda: finite("int64", whole.astype(np.int64), TYPE, "int"),
            lambda: finite("bool", values > 0, TYPE, "floats"),
            lambda: finite("complex", values.astype(np.complex64), TYPE, "floats"),
            lambda: finite("list of ints", whole.astype(int).tolist(), TYPE, "floats"),
            lambda: finite("object", values.astype(object), ANY, "image"),
            lambda: finite("strings", np.full(shape, "a"), ANY, "image"),
            lambda: finite("text", "cat.png", ANY, "image"),
            lambda: finite("None", None, ANY, "image"),
            lambda: finite("a dictionary", {"image": values}, ANY, "image"),
            lambda: finite("ragged rows", [[1.0, 2.0], [1.0]], ANY, "image"),
            lambda: finite("a function", len, ANY, "image"),
            lambda: finite("a key", jax.random.key(0), ANY, "image"),
            lambda: finite("fractions", [[fractions.Fraction(1, 3)]], ANY, "image"),
            lambda: finite("empty", values[:0], VALUE, "no elements"),
            lambda: finite("no channels", values[..., :0], VALUE, "no elements"),
            lambda: finite("an empty list", [], VALUE, "no elements"),
            lambda: finite("a number", 0.5, ANY, "expected an image"),
            lambda: finite("0-d", np.float32(1), ANY, "expected an image"),
            lambda: finite("a batch", values[None], ANY, ""),
            lambda: finite("a batch of two", np.stack([values] * 2), ANY, ""),
            lambda: finite("without channels", values[..., 0], ANY, ""),
            lambda: finite("too many channels", np.concatenate([values] * 3, -1), ANY, ""),
            lambda: finite("flat", values.ravel(), ANY, ""),
        ],
    )()


# Targets.


def class_target(rng, classes):
    """A target that means a class."""
    c = int(rng.integers(classes))
    return pick(
        rng,
        [
            lambda: Draw("None", None, None),
            lambda: Draw("int", c, c),
            lambda: Draw("int", c, c),
            lambda: Draw("jax int", jnp.asarray(c), c),
            lambda: Draw("0-d array", np.array(c), c),
            *(
                lambda t=t: Draw(t.__name__, t(c), c)
                for t in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)
            ),
        ],
    )()


def strange_class(rng, classes):
    """What is no class, for a score of classes."""
    out_of_range = Refusal(VALUE, "out of range: the model has")
    no_class = Refusal(TYPE, "expected one class, an integer|expected an integer for target")
    return pick(
        rng,
        [
            *(
                lambda value=value: Draw("out of range", value, None, out_of_range)
                for value in (
                    -1,
                    classes,
                    classes + 256,
                    -classes,
                    10**6,
                    2**31,
                    2**32,
                    -(2**33),
                    2**70,
                    np.int8(-1),
                    np.uint8(255),
                    np.int64(2**40),
                    np.uint64(2**63),
                    jnp.asarray(classes),
                )
            ),
            lambda: Draw("float", 1.0, None, no_class),
            lambda: Draw("NaN", float("nan"), None, no_class),
            lambda: Draw("numpy float", np.float32(0), None, no_class),
            lambda: Draw("jax float", jnp.asarray(0.0), None, no_class),
            lambda: Draw("bool", True, None, no_class),
            lambda: Draw("numpy bool", np.bool_(False), None, no_class),
            lambda: Draw("complex", 1j, None, no_class),
            lambda: Draw("text", "tiger cat", None, no_class),
            lambda: Draw("bytes", b"cat", None, no_class),
            lambda: Draw("a list", [0], None, no_class),
            lambda: Draw("an empty list", [], None, no_class),
            lambda: Draw("a tuple", (0, 1), None, no_class),
            lambda: Draw("an array", np.arange(2), None, no_class),
            lambda: Draw("one in an array", np.array([0]), None, no_class),
            lambda: Draw("a dictionary", {"class": 0}, None, no_class),
            lambda: Draw("a set", {0}, None, no_class),
            lambda: Draw("an object", object(), None, no_class),
            lambda: Draw("a function", len, None, no_class),
            lambda: Draw("a key", jax.random.key(0), None, Refusal(TYPE, "target is a key")),
            lambda: Draw("an array of objects", np.array([None, 1], object), None, no_class),
        ],
    )()


# Options. What a value must say when it is refused is the name of its option.

COUNT = [0, -1, 2.5, "3", True, [3], float("nan"), np.array([1, 2]), 1j]
STRANGE_OPTIONS: dict[str, list[Any]] = {
    "score": [None, 3, "logit", [jaxcam.scores.logit]],
    "select": [3, "all", [1, 2], {"filters": [0]}],
    "weigh": [None, "grad_cam", 1],
    "link": ["log", None, 1, ["exp"], np.array("exp"), {"exp": 1}],
    "derivatives": ["approximate", None, 1, ["exact"], {}],
    "numerator": ["third", None, 2, ["second"]],
    "alpha": ["clipped", None, 0.5, ["bounded"], True],
    "compat": ["captum", 1, True, ["torch-cam"], {}],
    "order": [2, 0, "1", None, 1.5, [1]],
    "n_samples": [-1, 2.5, "3", None, True, [3], float("nan"), np.array([1, 2]), 1j],
    "std": [-0.1, float("nan"), float("inf"), 1e300, "0.1", None, [0.1, 0.2], np.ones(2), {}, 1j, object(), b"1"],
    "relative": ["yes", None, 2, [True], np.array([True, False]), {}],
    "standard_error": ["0.1", -0.1, float("nan"), True, [0.1], {}, 1j],
    "batch_size": COUNT,
    "steps": [*COUNT, None],
    "mesh": [5, "cpu", [0], True, {}],
    "baseline": ["black", [0.0] * 17, np.ones((2, 2, 2, 2, 2)), float("nan"), float("inf"), {}, 1j, object()],
    "method": [None, "grad_cam", 3],
}
STRANGE_KEYS = [None, 0, "key", np.zeros(2, np.uint32), 1.5, "keys", [0], np.random.default_rng(0)]
STRANGE_CUTS = [None, 3, "block5_conv3", {}, (1, 2), jaxcam, lambda params, x: x, np.ones(3)]


def strange_option(rng, options):
    """A name and a value of an option that must be refused, or a name that no method has."""
    known = [name for name in options if name in STRANGE_OPTIONS]
    if not known or rng.uniform() < 0.15:
        name = pick(rng, ["n_sample", "Score", "layer", "targets", "rng", "image_shape", "alpha_", "_"])
        pattern = f"has no option '{name}': choose one of|unexpected keyword argument '{name}'"
        return Draw(f"unknown {name}", {name: 1}, None, Refusal(TYPE, pattern))
    name = pick(rng, known)
    value = pick(rng, STRANGE_OPTIONS[name])
    return Draw(f"{name}={type(value).__name__}", {name: value}, None, Refusal(ANY, name))


def strange_key(rng):
    value = pick(rng, STRANGE_KEYS)
    value = jax.random.split(jax.random.key(0), 2) if isinstance(value, str) and value == "keys" else value
    return Draw(f"key={type(value).__name__}", value, None, Refusal(ANY, "key"))
