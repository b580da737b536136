"""Keras models: the applications, and models from files. Keras is imported when one is opened."""

import contextlib
import difflib
import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxcam.opening._keras_files import checked_description

SMALL_FACTOR = 0.1  # a Rescaling by less than this takes 0..255


def imported_keras() -> Any:
    """The module `keras` on its JAX backend.

    Raises:
      ValueError: Keras is not installed, or is set to another backend.
    """
    if "keras" not in sys.modules:
        if importlib.util.find_spec("keras") is None:
            raise ValueError("Keras is not installed: pip install keras")
        # Keras reads its backend when it is imported, TensorFlow by default.
        backend = os.environ.setdefault("KERAS_BACKEND", "jax")
        if backend != "jax":
            raise ValueError(f"expected KERAS_BACKEND=jax in the environment, got {backend!r}")
    return importlib.import_module("keras")


def check_application(name: str) -> None:
    """Raises a ValueError if Keras has no application of this name."""
    keras = imported_keras()
    names = sorted(known for known, value in vars(keras.applications).items() if known[0].isupper() and callable(value))
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        choices = f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(names)}"
        raise ValueError(f"Keras has no application {name!r}: {choices}")


def application(name: str, weights: str | None) -> tuple[Any, Callable[[jax.Array], jax.Array]]:
    """A model of `keras.applications`, and its preprocessing of RGB in 0..1.

    Args:
      name: of the application.
      weights: "imagenet", which Keras downloads once, the path of a file, or None for random ones.

    Raises:
      FileNotFoundError: no such file.
      OSError: the weights cannot be downloaded.
      ValueError: no such application, or the file has not its weights.
    """
    check_application(name)
    keras = imported_keras()
    build = getattr(keras.applications, name)
    if weights not in (None, "imagenet") and not os.path.exists(weights):
        raise FileNotFoundError(f"expected 'imagenet', 'none' or the path of a file for weights, got {weights!r}")
    try:
        with _prints_to_stderr():
            model = build(weights=weights)
    except Exception as error:  # Keras raises a bare Exception if a download fails
        reason = _first_line(error)
        if weights == "imagenet" and "fetch failure" in reason:
            raise OSError(
                f"the weights of {name} cannot be downloaded: {reason.rpartition(': ')[2]}; keras:{name}:weights=FILE "
                "takes a file, and weights=none draws them at random"
            ) from error
        raise ValueError(f"keras:{name} with weights={weights}: {reason}") from error
    preprocess_input = sys.modules[build.__module__].preprocess_input
    return model, functools.partial(_preprocessed, preprocess_input)


def saved_model(path: str | os.PathLike) -> Any:
    """The Keras model in a `.keras` or `.h5` file. Nothing in the file is executed.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a file of another kind, a model that would run code, or one that this version of Keras cannot build.
    """
    checked_description(path)
    keras = imported_keras()
    try:
        with _prints_to_stderr():
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # of any kind, as the description may be of any version of Keras
        raise ValueError(f"{os.fspath(path)}: Keras cannot build the model: {_first_line(error)}") from error


def takes_bytes(model: Any) -> bool:
    """Whether a Keras model rescales its images by itself, so that it takes 0..255."""
    rescalings = [layer for layer in getattr(model, "layers", ()) if type(layer).__name__ == "Rescaling"]
    return bool(rescalings) and isinstance(rescalings[0].scale, float) and 0 < rescalings[0].scale < SMALL_FACTOR


def _preprocessed(preprocess_input: Callable[[Any], Any], image: jax.Array) -> jax.Array:
    return preprocess_input(255 * image)


@contextlib.contextmanager
def _prints_to_stderr() -> Iterator[None]:
    """A context in which Keras's lines about downloads do not mix with what a command prints."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
