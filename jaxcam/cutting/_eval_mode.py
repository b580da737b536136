"""The flags that tell a model whether it is trained, set for eval mode."""

import inspect
from collections.abc import Callable
from typing import Any

# Arguments and attributes that models have, and their values in eval mode.
EVAL_FLAGS = {
    "train": False, "training": False, "is_training": False,
    "deterministic": True, "use_running_average": True, "inference": True,
}  # fmt: skip


def with_eval_flags(function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keywords of a call, and the flags for eval mode that the function takes and was not given.

    Example:
      >>> def model(x, train, deterministic=False): ...
      >>> with_eval_flags(model, (1.0,), {"deterministic": False})
      {'train': False, 'deterministic': False}
    """
    try:
        signature = inspect.signature(function)
        given = signature.bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):  # no signature, or not this one: the call itself says it better
        return kwargs
    flags = {name: value for name, value in EVAL_FLAGS.items() if name in signature.parameters and name not in given}
    return {**flags, **kwargs}
