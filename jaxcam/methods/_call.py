"""How a named method is called: the checks that need values, then jit.

A method is `method(cut, image, target=None, [key], *, options)`. Its options are static under jit, but for those that
may be traced (`std`, so that a sweep over it compiles once); a `functools.partial` that is made anew for each call does
not compile anew. A method that hands its further options to another function, as `**options`, shows them in its
signature.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import jax

from jaxcam._base import checks
from jaxcam.cutting import check_cut, check_target
from jaxcam.formulas import scores

P = ParamSpec("P")
R = TypeVar("R")


def method(
    *, options_of: Callable[..., Any] | None = None, traced: Sequence[str] = ("std",), several: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: the method, jitted, behind the checks that need values.

    Args:
      options_of: where the method's `**options` go; those that the method does not set itself become its own.
      traced: options that may be arrays, traced or not.
      several: whether the method takes `Cuts` of several layers.

    Example:
      >>> import jax.numpy as jnp
      >>> @method()
      ... def mean_activation(cut, image, target=None, *, power: int = 1):
      ...     return (cut.features(cut.params, image) ** power).mean(-1)
      >>> import jaxcam
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> mean_activation(cut, jnp.ones([64, 64, 3])).shape
      (16, 16)
      >>> mean_activation(cut, jnp.ones([64, 64, 3]), pwoer=2)
      Traceback (most recent call last):
        ...
      TypeError: mean_activation has no option 'pwoer': choose of target, power
    """

    def decorate(compute: Callable[P, R]) -> Callable[P, R]:
        signature = _with_options(inspect.signature(compute), options_of)
        parameters = signature.parameters
        static = [name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY and name not in traced]
        compiled = jax.jit(compute, static_argnames=static)

        @functools.wraps(compute)
        def checked(cut, image, target=None, *key, **options):
            for name in set(options) - set(parameters):
                known = ", ".join(list(parameters)[2:])
                raise TypeError(f"{compute.__name__} has no option {name!r}: choose of {known}")
            if key and "key" not in parameters:
                raise TypeError(f"{compute.__name__} takes no key: it draws no noise; jaxcam.average_maps averages it")
            checks.check_functions(options)
            check_cut(cut, several=several)
            image = checks.checked_image(image)
            default = {name: p.default for name, p in parameters.items()}
            check_target(cut, image, target, options.get("score", default.get("score", scores.logit)))
            if "n_samples" in parameters:
                given = {name: options.get(name, default[name]) for name in ("n_samples", "std")}
                checks.check_noise(given["n_samples"], given["std"], key[0] if key else options.get("key"))
            if options.get("standard_error") is not None:
                n_samples = options.get("n_samples", default["n_samples"])
                checks.check_standard_error(options["standard_error"], n_samples)
            if options.get("batch_size") is not None:
                checks.check_count("batch_size", options["batch_size"], at_least=1)
            options = {name: shared(value) if name in static else value for name, value in options.items()}
            found = compiled(cut, image, target, *key, **options)
            # jit sorts the keys of a dict: the layers stand as they were given.
            return {layer: found[layer] for layer in cut.layers} if isinstance(found, dict) else found

        checked.__signature__ = signature  # type: ignore[attr-defined]
        return cast(Callable[P, R], checked)

    return decorate


def options_of(function: Callable[..., Any]) -> list[str]:
    """The names of a function's keyword-only options."""
    return [name for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY]


def shared(value: Any) -> Any:
    """The first of equal partials, which jit takes for different functions; anything else as it is."""
    if type(value) is not functools.partial:
        return value
    typed = [(name, type(held), shared(held)) for name, held in sorted(value.keywords.items())]
    try:
        return _partial(value.func, tuple((type(held), shared(held)) for held in value.args), tuple(typed))
    except TypeError:  # it holds an array, which may change
        return value


@functools.lru_cache(maxsize=256)
def _partial(function, args, keywords):
    return functools.partial(function, *(held for _, held in args), **{name: held for name, _, held in keywords})


def _with_options(signature, options_of):
    """The signature with the options of the other function in the place of `**options`."""
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    if options_of is None:
        return signature
    names = {p.name for p in own}
    others = [
        p
        for p in inspect.signature(options_of).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name not in names and p.default is not p.empty
    ]
    return signature.replace(parameters=own + others)
