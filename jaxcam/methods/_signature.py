"""Signatures and options of functions: their names, merged signatures, and partials that are equal."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from jaxcam.cutting import canonical_function


def option_names(function: Callable[..., Any]) -> list[str]:
    """The names of a function's keyword-only parameters.

    Example:
      >>> option_names(lambda cut, image, *, std, n_samples=5: None)
      ['std', 'n_samples']
    """
    return [name for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY]


def merged_signature(function: Callable[..., Any], options_of: Callable[..., Any] | None) -> inspect.Signature:
    """The signature of `function`, whose `**options` go to `options_of`, with these options written out.

    Options of `options_of` that `function` sets, or that have no default, are left out.

    Example:
      >>> def average(image, *, n_samples: int = 50, std: float = 0.15): ...
      >>> def brighter(image, *, std: float = 0.3, **options): ...
      >>> str(merged_signature(brighter, average))
      '(image, *, std: float = 0.3, n_samples: int = 50)'
    """
    signature = inspect.signature(function)
    if options_of is None:
        return signature
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    own_names = {p.name for p in own}
    passed_on = [
        p
        for p in inspect.signature(options_of).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in own_names and p.default is not p.empty
    ]
    return signature.replace(parameters=own + passed_on)


def bound_value(function: Callable[..., Any], parameter: str) -> Any:
    """What a call takes for a parameter that it does not name: bound by `functools.partial`, or the default; or None.

    Example:
      >>> bound_value(functools.partial(int, base=2), "base"), bound_value(lambda image, *, std=0.3: None, "std")
      (2, 0.3)
    """
    inner = function
    while isinstance(inner, functools.partial):
        if parameter in inner.keywords:
            return inner.keywords[parameter]
        inner = inner.func
    known = inspect.signature(function).parameters.get(parameter)
    return None if known is None or known.default is known.empty else known.default


def score_of(method: Callable[..., Any]) -> Any:
    """The score of a method, bound to it or its default; None if the method does not have that option.

    Example:
      >>> score_of(functools.partial(lambda cut, image, *, score=max: None, score=min)) is min
      True
    """
    return bound_value(method, "score")


def takes_key(method: Callable[..., Any]) -> bool:
    """Whether a method draws noise with the options that are bound to it, so that it should be given a key.

    It does not if a key is bound, if `compat` is set, which allows no key, or if its `n_samples` are 0 and the method
    that it may be made of draws none. A method with derivatives="sampled" draws locations.

    Example:
      >>> smooth = lambda cut, image, target, key=None, *, n_samples=5: None
      >>> takes_key(smooth), takes_key(functools.partial(smooth, n_samples=0)), takes_key(lambda cut, image: None)
      (True, False, False)
    """
    parameters = inspect.signature(method).parameters
    if "key" not in parameters or bound_value(method, "key") is not None or bound_value(method, "compat") is not None:
        return False
    if parameters["key"].default is inspect.Parameter.empty or "n_samples" not in parameters:
        return True
    if bound_value(method, "derivatives") == "sampled":
        return True
    part = bound_value(method, "method")
    return bound_value(method, "n_samples") != 0 or (callable(part) and takes_key(part))


def canonical_partial(value: Any) -> Any:
    """The first `functools.partial`, or function with the same code and values, that is equal to the value.

    jit compares functions by identity, so two equal ones would be traced twice. Any other value is returned as it is.

    Example:
      >>> canonical_partial(functools.partial(int, base=2)) is canonical_partial(functools.partial(int, base=2))
      True
    """
    if type(value) is not functools.partial:
        return canonical_function(value)
    # The types are part of the key, because 1 == True == 1.0.
    arguments = tuple((type(argument), canonical_partial(argument)) for argument in value.args)
    keywords = sorted(value.keywords.items())
    typed_keywords = tuple((name, type(argument), canonical_partial(argument)) for name, argument in keywords)
    try:
        return _cached_partial(canonical_function(value.func), arguments, typed_keywords)
    except TypeError:  # an argument is not hashable, such as an array, which may change
        return value


@functools.lru_cache(maxsize=256)
def _cached_partial(function, typed_arguments, typed_keywords):
    arguments = [argument for _, argument in typed_arguments]
    return functools.partial(function, *arguments, **{name: argument for name, _, argument in typed_keywords})
