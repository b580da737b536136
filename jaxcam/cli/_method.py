"""The method that the options of `jaxcam explain` and `jaxcam batch` name."""

import argparse
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax

import jaxcam
from jaxcam.cli._method_texts import named_methods
from jaxcam.methods import METHOD_TITLES

# The options of a method that have another name on the command line.
FLAGS = {"n_samples": "samples", "n_locations": "n-locations"}


def chosen_method(options: argparse.Namespace, select: Callable[..., Any] | None = None) -> Callable[..., jax.Array]:
    """The method with its options bound.

    Args:
      options: of the command line.
      select: the method's `select`; None for all feature maps and neurons.

    Raises:
      ValueError: an option that the method does not take, or noise without samples.
    """
    method = getattr(jaxcam, options.method)
    score = None if options.score is None else getattr(jaxcam.scores, options.score)
    given = {"n_samples": options.samples, "std": options.std, "score": score, "link": options.link}
    given |= {"alpha": options.alpha, "derivatives": options.derivatives, "n_locations": options.n_locations}
    given = {name: value for name, value in given.items() if value is not None}
    parameters = inspect.signature(method).parameters
    for name in given:
        if name not in parameters:
            raise ValueError(f"--{FLAGS.get(name, name)} does not go with --method {options.method}")
    if "std" in given and not given.get("n_samples", parameters["n_samples"].default):
        raise ValueError(f"--std goes with --samples: --method {options.method} draws no noise by default")
    if ("n_locations" in given) != (options.derivatives == "sampled"):
        raise ValueError("--derivatives sampled and --n-locations go together: give both, or neither")
    if select is not None:
        given["select"] = select
    return functools.partial(method, **given)


def chosen_methods(
    options: argparse.Namespace, select: Callable[..., Any] | None = None
) -> Sequence[str] | dict[str, Callable[..., jax.Array]]:
    """The methods of `--methods`, or the one of `--method`: as `jaxcam.explain` takes them.

    Raises:
      ValueError: as `chosen_method` and `parse_methods`; or options of `--method` with `--methods`.
    """
    if options.methods is None:
        return {options.method: chosen_method(options, select)}
    for name in ("samples", "std", "score", "link", "alpha"):
        if getattr(options, name) is not None:
            option = {"samples": "n_samples"}.get(name, name)
            raise ValueError(
                f"--{name} goes with --method: in --methods, give options after a colon, such as grad_cam_pp:{option}="
                f"{getattr(options, name)}"
            )
    methods = named_methods(options.methods)
    return list(methods) if set(methods) <= set(METHOD_TITLES) else methods


def key_of_method(options: argparse.Namespace) -> jax.Array | None:
    """The random key of `--seed`, or None if the method takes no key."""
    takes_key = "key" in inspect.signature(getattr(jaxcam, options.method)).parameters
    return jax.random.key(options.seed) if takes_key else None
