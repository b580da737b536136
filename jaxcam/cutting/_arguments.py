"""The arguments of a model's call: which of them is the image, and whether `inputs=` fits the others."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxcam.cutting._eval_mode import EVAL_FLAGS


class Arguments(NamedTuple):
    """The arguments that a model's call takes.

    Attributes:
      names: of the arguments that may be given by position, in their order.
      required: those that have no default, flags of training left out.
      by_name: those that are given by name alone.
      any_number: whether the call takes further arguments by position.
      any_name: whether the call takes arguments of any name.
      image_is_first_unnamed: whether the image is the first argument that `inputs` does not name.
    """

    names: tuple[str, ...]
    required: frozenset[str]
    by_name: frozenset[str] = frozenset()
    any_number: bool = False
    any_name: bool = False
    image_is_first_unnamed: bool = False

    def __str__(self) -> str:
        return f"the model takes {', '.join(self.names) or 'nothing'}"


def arguments_of(function: Callable[..., Any], *, bound: bool = True) -> Arguments | None:
    """The arguments of a function, without `self` if it is not bound; None if it has no signature.

    Example:
      >>> arguments_of(lambda image, meta, train, scale=1.0: None).required == {"image", "meta"}
      True
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if not bound:
        parameters = parameters[1:]
    kinds = {parameter.kind for parameter in parameters}
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return Arguments(
        tuple(p.name for p in named if p.kind is not p.KEYWORD_ONLY),
        frozenset(p.name for p in named if p.default is p.empty).difference(EVAL_FLAGS),
        frozenset(p.name for p in named if p.kind is p.KEYWORD_ONLY),
        inspect.Parameter.VAR_POSITIONAL in kinds,
        inspect.Parameter.VAR_KEYWORD in kinds,
    )


def place_image(
    x: Any, further: Sequence[Any] | Mapping[str, Any], image: int | str, arguments: Arguments | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call by position and by name.

    Args:
      x: the image.
      further: the other arguments.
      image: the name, or the position, of the argument that is the image.
      arguments: those of the model's call.

    Example:
      >>> place_image("x", ("meta",), 1, None), place_image("x", {"meta": "m"}, "image", None)
      ((('meta', 'x'), {}), ((), {'meta': 'm', 'image': 'x'}))
    """
    by_name = dict(further) if isinstance(further, Mapping) else {}
    by_position = () if isinstance(further, Mapping) else tuple(further)
    if isinstance(image, int) and image > 0 and isinstance(further, Mapping):
        assert arguments is not None  # check_arguments
        image = arguments.names[image]
    if isinstance(image, str):
        return by_position, {**by_name, image: x}
    return (*by_position[:image], x, *by_position[image:]), by_name


def check_arguments(arguments: Arguments | None, inputs: Sequence[Any] | Mapping[str, Any], image: int | str) -> None:
    """Raises a TypeError if `inputs` or `image` do not fit the arguments of a model's call.

    Example:
      >>> check_arguments(arguments_of(lambda image, meta: None), {"tabular": 0}, 0)
      Traceback (most recent call last):
        ...
      TypeError: inputs has 'tabular', which is no argument: the model takes image, meta
    """
    if isinstance(image, bool) or not isinstance(image, int | str) or (isinstance(image, int) and image < 0):
        raise TypeError(f"expected the name or the position of an argument for image, got {image!r}")
    names = list(inputs) if isinstance(inputs, Mapping) else []
    count = 0 if isinstance(inputs, Mapping) else len(inputs)
    if isinstance(image, int) and not names and image > count:
        raise TypeError(f"image={image} needs as many inputs before the image, got {count}")
    if arguments is None:
        return
    known = {*arguments.names, *arguments.by_name}
    if isinstance(image, int) and image > 0 and names and image >= len(arguments.names):
        raise TypeError(f"image={image} is no argument: {arguments}")
    if isinstance(image, str) and image not in known and not arguments.any_name:
        raise TypeError(f"image={image!r} is no argument: {arguments}")
    for name in names:
        if name not in known and not arguments.any_name:
            raise TypeError(f"inputs has {name!r}, which is no argument: {arguments}")
    given = count + (0 if isinstance(image, str) else not names or image == 0)
    if given > len(arguments.names) and not arguments.any_number:
        raise TypeError(f"got {given} arguments by position with the image: {arguments}")
    _check_each_once(arguments, names, count, image)


def _check_each_once(arguments, names, count, image) -> None:
    """Raises a TypeError if an argument is given twice, or is missing."""
    positional = list(arguments.names[: count + 1] if isinstance(image, int) and not names else arguments.names[:count])
    if isinstance(image, str):
        image_name: str | None = image
    elif names and image == 0 and arguments.image_is_first_unnamed:
        unnamed = [name for name in arguments.names if name not in names]
        image_name = unnamed[0] if unnamed else arguments.names[0]
    else:
        image_name = arguments.names[image] if image < len(arguments.names) else None
    given = [*positional, *names]
    if image_name in given and not (isinstance(image, int) and not names):
        raise TypeError(f"{image_name!r} is given in inputs and is the image: image= names the image; {arguments}")
    twice = [name for name in names if name in positional]
    if twice:
        raise TypeError(f"{twice[0]!r} is given twice: {arguments}")
    missing = [name for name in arguments.required if name not in (*given, image_name)]
    if missing:
        raise TypeError(f"{', '.join(map(repr, sorted(missing)))} is missing in inputs=: {arguments}")


def keras_arguments(names: Iterable[str], optional: Iterable[str]) -> Arguments:
    """The arguments of a functional Keras model, which are the names of its inputs."""
    names = tuple(names)
    flags = frozenset({"training", "mask"}) - set(names)
    return Arguments(names, frozenset(names) - set(optional), flags, image_is_first_unnamed=True)
