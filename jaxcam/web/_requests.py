"""What a visitor asks for, checked: the fields of the page and of its endpoint become a `Request`.

>>> request = request_of(method="layer_cam", subset="0,0 5,5", region=True)
>>> request.subset, request.region, request.samples
(((0, 0), (5, 5)), True, None)
"""

import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jaxcam.methods
from jaxcam.methods import METHOD_TITLES

DEFAULT_METHOD = "smooth_grad_cam_pp"
MOST_SAMPLES = 100
MOST_STD = 10.0
MOST_SEED = 2**31 - 1
MOST_FILTERS = 64
MOST_NEURONS = 4096
MOST_TEXT = 40_000  # characters
FILTERS_FORM = re.compile(r"\s*\d{1,6}\s*(,\s*\d{1,6}\s*)*")
SUBSET_FORM = re.compile(r"\s*\d{1,6},\d{1,6}(\s+\d{1,6},\d{1,6})*\s*")


@dataclass(frozen=True)
class Request:
    """One map of one picture.

    Attributes:
      model: the label of a network; None for the server's default.
      layer: where it is cut; None for its own.
      target: the class, a number, or a name or number as text; None for the most probable one.
      method: a name of `METHOD_TITLES`.
      samples: the number of noisy copies; None for the method's own.
      std: the standard deviation of the noise, as a share of the image's range; None for the method's own.
      seed: of the noise.
      filters: the chosen feature maps, one map each; all of them, in one map, if there are none.
      subset: the chosen neurons, `(row, column)`; all if there are none.
      region: whether `subset` is two opposite corners of a rectangle.
    """

    model: str | None = None
    layer: str | None = None
    target: int | str | None = None
    method: str = DEFAULT_METHOD
    samples: int | None = None
    std: float | None = None
    seed: int = 0
    filters: tuple[int, ...] = ()
    subset: tuple[tuple[int, int], ...] = ()
    region: bool = False


def request_of(
    *,
    model: str | None = None,
    layer: str | None = None,
    target: int | str | None = None,
    method: str | None = None,
    samples: float | None = None,
    std: float | None = None,
    seed: float | None = None,
    filters: str | None = None,
    subset: str | None = None,
    region: bool | None = None,
) -> Request:
    """A request from the values of fields. An empty field has its default.

    Args:
      model, layer, target, method: as in `Request`.
      samples, std, seed: numbers.
      filters: feature maps, such as "3,7".
      subset: neurons, such as "0,0 4,4".
      region: whether the neurons are two opposite corners.

    Raises:
      ValueError: in one line, what is wrong with a field.

    Example:
      >>> request_of(filters="3, 7", target="").filters
      (3, 7)
      >>> request_of(method="cam", samples=5)
      Traceback (most recent call last):
        ...
      ValueError: samples do not go with CAM, which draws no noise: leave them empty
    """
    method = method or DEFAULT_METHOD
    if method not in METHOD_TITLES:
        raise ValueError(f"no method {_shown(method)}: choose one of {', '.join(METHOD_TITLES)}")
    count = None if samples is None else _integer("samples", samples, MOST_SAMPLES)
    deviation = None if std is None else _number("std", std)
    _check_noise(method, count, deviation)
    neurons = _points(subset or "")
    if region and len(neurons) != 2:
        raise ValueError(f"a region has two opposite corners, such as '0,0 4,4': got {len(neurons)} neurons")
    return Request(
        model=model or None,
        layer=layer or None,
        target=_target(target),
        method=method,
        samples=count,
        std=deviation,
        seed=0 if seed is None else _integer("seed", seed, MOST_SEED),
        filters=_integers(filters or ""),
        subset=neurons,
        region=bool(region),
    )


def method_of(request: Request) -> Callable[..., Any]:
    """The function of `jaxcam.methods` that a request names."""
    return getattr(jaxcam.methods, request.method)


def default_of(method: str, option: str) -> Any:
    """A method's own value of an option; None if it has no such option.

    Example:
      >>> default_of("smooth_grad_cam_pp", "n_samples"), default_of("grad_cam", "n_samples"), default_of("cam", "std")
      (5, 0, None)
    """
    parameter = inspect.signature(getattr(jaxcam.methods, method)).parameters.get(option)
    return None if parameter is None else parameter.default


def samples_of(request: Request) -> int:
    """How many noisy copies a request takes."""
    return (default_of(request.method, "n_samples") or 0) if request.samples is None else request.samples


def _check_noise(method: str, samples: int | None, std: float | None) -> None:
    own = default_of(method, "n_samples")
    if own is None and (samples is not None or std is not None):
        given = "samples do" if samples is not None else "std does"
        raise ValueError(f"{given} not go with {METHOD_TITLES[method]}, which draws no noise: leave them empty")
    if std is not None and not (own if samples is None else samples):
        raise ValueError(f"std goes with samples, and {METHOD_TITLES[method]} draws none by itself: give samples")


def _target(target: int | str | None) -> int | str | None:
    if isinstance(target, str):
        if len(target) > 200:
            raise ValueError(f"expected a class, got a text of {len(target)} characters")
        return target.strip() or None
    return None if target is None else _integer("target", target, MOST_SEED)


def _number(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST_STD:
        raise ValueError(f"expected {name} above 0 and at most {MOST_STD:g}, got {_shown(value)}")
    return float(value)


def _integer(name: str, value: float, most: int) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value != int(value) or not 0 <= value <= most:
        raise ValueError(f"expected {name} to be an integer in 0..{most}, got {_shown(value)}")
    return int(value)


def _integers(text: str) -> tuple[int, ...]:
    """The integers of a text such as "3,7"."""
    if not text.strip():
        return ()
    if len(text) > MOST_TEXT or not FILTERS_FORM.fullmatch(text):
        raise ValueError(f"{_shown(text)} is no list of feature maps such as 3,7")
    numbers = tuple(int(part) for part in text.split(","))
    if len(numbers) > MOST_FILTERS:
        raise ValueError(f"expected at most {MOST_FILTERS} feature maps, got {len(numbers)}")
    return numbers


def _points(text: str) -> tuple[tuple[int, int], ...]:
    """The points of a text such as "0,0 4,4"."""
    if not text.strip():
        return ()
    if len(text) > MOST_TEXT or not SUBSET_FORM.fullmatch(text):
        raise ValueError(f"{_shown(text)} is no list of neurons such as 0,0 4,4")
    pairs = [part.split(",") for part in text.split()]
    if len(pairs) > MOST_NEURONS:
        raise ValueError(f"expected at most {MOST_NEURONS} neurons, got {len(pairs)}")
    return tuple((int(row), int(column)) for row, column in pairs)


def _shown(value: Any) -> str:
    """A value in a message, on one line and not too long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
