"""How a method is called: checks of the values, then the jitted function.

A method is `method(cut, image, target=None, [key], *, options)`. Its options are static under jit, except those that
may be traced, such as `std`, so that a sweep over them compiles once. A method whose `**options` go to another function
shows the options of that function in its signature.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from jaxcam._base import checks
from jaxcam._base.targets import jit_with_target
from jaxcam._base.types import Score
from jaxcam.cutting import Cuts, canonical_target, check_cut, check_target, for_score
from jaxcam.methods._finite import check_finite
from jaxcam.methods._sampled import Sampled, check_derivatives
from jaxcam.methods._signature import canonical_partial, merged_signature
from jaxcam.perturbations import Smoothed

P = ParamSpec("P")
R = TypeVar("R")
NAMED_CHOICES = ("link", "numerator", "alpha", "compat")
# A check takes the value of its option and the values of all arguments of the call.
Check = Callable[[Any, Mapping[str, Any]], None]
# `(method's name, cut, options, observation)`.
Observer = Callable[[str, Any, Mapping[str, Any], Any], None]


def _check_is_function(name: str) -> Check:
    return lambda value, _: checks.check_function(name, value)


def _check_is_count(name: str) -> Check:
    return lambda value, _: checks.check_count(name, value, at_least=1)


def _with_name(check: Callable[[str, Any], None], name: str) -> Check:
    return lambda value, _: check(name, value)


# In the order of the checks. None is not checked if it is the option's default.
OPTION_CHECKS: dict[str, Check] = {
    **{name: _check_is_function(name) for name in checks.FUNCTIONS},
    **{name: _with_name(checks.check_name_of_choice, name) for name in NAMED_CHOICES},
    "derivatives": check_derivatives,
    "relative": _with_name(checks.check_bool, "relative"),
    "baseline": _with_name(checks.check_numbers, "baseline"),
    "mesh": lambda mesh, _: checks.check_mesh(mesh),
    "key": lambda key, _: checks.check_key(key),
    "n_samples": lambda n_samples, call: checks.check_noise(n_samples, call["std"], call["key"]),
    "standard_error": lambda error, call: checks.check_standard_error(error, call["n_samples"]),
    "steps": _check_is_count("steps"),
    "batch_size": _check_is_count("batch_size"),
}


def explanation_method(
    *,
    options_of: Callable[..., Any] | None = None,
    traced: Sequence[str] = ("std",),
    several: bool = False,
    score: Score | None = None,
    observer: Observer | None = None,
    undefined: str = "",
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator that makes a method of a function: calls are checked, then passed to the jitted function.

    Args:
      options_of: the function that takes the method's `**options`; its options become the method's own.
      traced: options that may be arrays, traced or not; all others are static.
      several: whether the method takes `Cuts` of several layers.
      score: the score of a method that has no option for it, by which the target is checked. By default a class is
        checked against the number of outputs, and every other target is passed on.
      observer: the function returns `(map, observation)`, and each call passes the observation to the observer.
      undefined: what an error says of a map that is not finite although the activation and the outputs are.

    Example:
      >>> import jax.numpy as jnp
      >>> @explanation_method()
      ... def mean_activation(cut, image, target=None, *, power: int = 1):
      ...     return (cut.features(cut.params, image) ** power).mean(-1)
      >>> import jaxcam
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> mean_activation(cut, jnp.ones([64, 64, 3])).shape
      (16, 16)
      >>> mean_activation(cut, jnp.ones([64, 64, 3]), pwoer=2)
      Traceback (most recent call last):
        ...
      TypeError: mean_activation has no option 'pwoer': choose one of target, power
    """

    def decorate(compute: Callable[P, R]) -> Callable[P, R]:
        signature = merged_signature(compute, options_of)
        static = {name for name, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY and name not in traced}
        compiled = jit_with_target(compute, place=2, static_argnames=sorted(static))

        @functools.wraps(compute)
        def checked_method(cut, image, target=None, *key, **options):
            _check_names(compute.__name__, signature, key, options)
            check_cut(cut, several=several)
            image = checks.checked_image(image)
            call = signature.bind(cut, image, target, *key, **options)
            _check_call(call, score)
            target = canonical_target(cut, image, target)
            if "score" in signature.parameters:
                cut, options["score"] = for_score(cut, image, call.arguments["score"])
            options = {name: canonical_partial(value) if name in static else value for name, value in options.items()}
            for name in static & options.keys():
                checks.check_hash(name, options[name])
            result = compiled(cut, image, target, *key, **options)
            if observer is not None:
                result, observation = result
                observer(compute.__name__, cut, options, observation)
            check_finite(result, cut, image, compute.__name__, undefined)
            return _in_order_of_layers(cut, result)

        checked_method.__signature__ = signature  # type: ignore[attr-defined]
        return cast(Callable[P, R], checked_method)

    return decorate


def _default(signature, option):
    return signature.parameters[option].default


def _check_names(method_name, signature, key, options):
    """Raises a TypeError for an option, or a key, that the method does not have."""
    for name in sorted(options.keys() - signature.parameters.keys()):
        known = ", ".join(list(signature.parameters)[2:])
        raise TypeError(f"{method_name} has no option {name!r}: choose one of {known}")
    if key and "key" not in signature.parameters:
        raise TypeError(f"{method_name} takes no key: it draws no noise; jaxcam.average_maps averages it")


def _check_call(call, own_score):
    """Raises a TypeError or ValueError if an argument cannot be used."""
    call.apply_defaults()
    arguments = call.arguments
    if checks.is_key(arguments["target"]) and arguments.get("n_samples") and arguments.get("key") is None:
        raise TypeError("target is a key: the order is method(cut, image, target, key)")
    for name, check in OPTION_CHECKS.items():
        if name not in call.arguments:
            continue
        value = call.arguments[name]
        if value is not None or call.signature.parameters[name].default is not None:
            check(value, call.arguments)
    cut, image, target, *_ = call.args
    check_target(cut, image, target, call.arguments.get("score", own_score))


def _in_order_of_layers(cut, result):
    """The result with its dicts in the order of the cut's layers, which jit replaced by that of the sorted keys."""
    if isinstance(result, Smoothed | Sampled):
        return type(result)(*(_in_order_of_layers(cut, part) for part in result))
    if isinstance(cut, Cuts) and isinstance(result, dict):
        return {layer: result[layer] for layer in cut.layers}
    return result
