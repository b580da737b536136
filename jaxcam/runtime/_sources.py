"""The images of a call, one after another: of a sequence or of any iterable, and of a process its share.

>>> source = Source(iter(["a.png", "b.png", "c.png"]), names=None, targets=Targets(3), share=(1, 2))
>>> [(name, item.number, item.element) for name, item in source.items()]
[('b', 1, 'b.png')]
"""

import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jaxcam.runtime._containers import is_path
from jaxcam.runtime._fingerprint import content_digest, content_or_stamp, describe
from jaxcam.runtime._index import SeenNames
from jaxcam.runtime._lock import Share
from jaxcam.runtime._names import check_name
from jaxcam.runtime._targets import Targets, target_digest


class Item(NamedTuple):
    """An image to come: its place among all, its element if it comes from an iterable, and its digest if it has one."""

    number: int
    element: Any = None
    digest: str = ""


class Source:
    """The images of a call.

    Args:
      images: a sequence or an array, or any other iterable, which is read once.
      names: one for each image of a sequence; a function from an element to its name; None for an iterable to take the
        stems of paths, and numbers otherwise.
      targets: of the images; the targets of an iterable's images may be a function of the element.
      share: number of the share, and the number of shares: image i is in share i modulo their number.
    """

    def __init__(
        self,
        images: Any,
        names: Sequence[str] | Callable[[Any], str] | None,
        targets: Targets,
        share: Share = (0, 1),
        target_of: Callable[[Any], Any] | None = None,
    ):
        self.images, self.targets, self.share, self.target_of = images, targets, share, target_of
        self.names: Any = names
        self.is_sequence = hasattr(images, "__len__") and hasattr(images, "__getitem__")
        self.total = len(images) if self.is_sequence else None
        # In an array or a list, elements are at hand; another sequence may decode what it is asked for.
        self.is_at_hand = not self.is_sequence or isinstance(images, list | tuple | np.ndarray)

    @property
    def count(self) -> int | None:
        """The number of images in the share; None if it is not known."""
        index, shares = self.share
        return None if self.total is None else max(0, -(-(self.total - index) // shares))

    @property
    def has_own_targets(self) -> bool:
        """Whether targets differ from image to image."""
        return self.targets.own is not None or self.target_of is not None

    def items(self) -> Iterator[tuple[str, Item]]:
        """The items of the share with their names.

        Raises:
          ValueError: two images of an iterable have one name; a name that cannot be that of a file.
        """
        index, shares = self.share
        if self.is_sequence:
            yield from ((self.names[i], Item(i)) for i in range(index, len(self.images), shares))
            return
        seen = SeenNames()
        for number, element in enumerate(self.images):
            if number % shares == index:
                name = self._name_of(number, element)
                if not seen.add(name):
                    raise ValueError(
                        f"two images are called {name!r}: give names=, a function from an element to a name"
                    )
                yield name, Item(number, element)

    def targets_as_json(self) -> Any:
        """What a folder records of the targets."""
        if self.target_of is None:
            return self.targets.as_json()
        return {"function": describe(self.target_of, with_state=False)}

    def in_order(self, results: dict[str, Any]) -> dict[str, Any]:
        """Results by name in the order of a sequence."""
        return {name: results[name] for name in self.names if name in results} if self.is_sequence else results

    def _name_of(self, number, element):
        if callable(self.names):
            name = self.names(element)
        else:
            name = pathlib.Path(element).stem if is_path(element) else str(number)
        check_name(name)
        return name

    def element(self, item: Item) -> Any:
        """What stands for the image."""
        return self.images[item.number] if self.is_sequence else item.element

    def target(self, item: Item, element: Any) -> Any:
        """The target of an image, whose element may be expensive to get and is not asked for again."""
        return self.targets.of_image(item.number) if self.target_of is None else self.target_of(element)

    def digests(self) -> dict[str, str]:
        """By name, what identifies the images of a sequence, and their targets if a function makes them."""
        digests = {}
        for name, image in zip(self.names, self.images, strict=True):
            target = [] if self.target_of is None else [self._target_digest(image)]
            digests[name] = content_digest(content_or_stamp(image), *target)
        return digests

    def digest(self, item: Item, *, with_place: bool) -> str:
        """What identifies an image and its target in a store, as far as it is known without decoding it.

        Args:
          item: of the source.
          with_place: whether the map depends on the image's number.
        """
        parts: list[Any] = [item.number] if with_place else []
        if self.is_at_hand:
            element = self.element(item)
            parts.append(element_digest(element))
            if self.target_of is not None:
                parts.append(self._target_digest(element))
        if self.targets.own is not None:
            parts.append(target_digest(self.targets.of_image(item.number)))
        return content_digest(*parts)

    def _target_digest(self, element):
        assert self.target_of is not None
        try:
            return target_digest(self.target_of(element))
        except Exception:  # reported when the turn of that image comes
            return "no target"


def element_digest(element: Any) -> str:
    """A digest of an element: of a file its path, size and time of change, of a pytree its arrays, numbers and text.

    Of other objects, such as pictures that another library has opened, it is the type alone, because loading changes
    their state.

    Example:
      >>> element_digest({"pixels": np.zeros(2), "label": 3}) == element_digest({"pixels": np.zeros(2), "label": 4})
      False
    """
    if is_path(element):
        return content_digest(content_or_stamp(element))
    return content_digest(
        *(part for path, leaf in jax.tree.leaves_with_path(element) for part in (path, _content(leaf)))
    )


def _content(leaf):
    return leaf if hasattr(leaf, "dtype") or isinstance(leaf, bytes) else describe(leaf, with_state=False)


def checked_names(names: Any, images: Any) -> list[str]:
    """A name for each image of a sequence, no two the same, each fit for a file."""
    if callable(names):
        names = [names(images[i]) for i in range(len(images))]
    if names is None:
        count = len(images)
        if not count or hasattr(images, "ndim") or not all(map(is_path, images)):
            return [str(i).zfill(len(str(count - 1))) for i in range(count)]
        paths = [pathlib.Path(element) for element in images]
        names = [path.stem for path in paths]
        names = names if len(set(names)) == count else [path.name for path in paths]
    names = list(names)
    if len(names) != len(images):
        raise ValueError(f"expected one name for each of {len(images)} images, got {len(names)}")
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise ValueError(f"two images are called {repeated[0]!r}: give names=, one for each image")
    for name in names:
        check_name(name)
    return names


def checked_share(share: Share | None) -> Share:
    """The share of this process: the given one, or its place among the processes of `jax.distributed`."""
    if share is None:
        return jax.process_index(), jax.process_count()
    is_pair = isinstance(share, tuple) and len(share) == 2 and all(type(number) is int for number in share)
    if not is_pair or not 0 <= share[0] < share[1]:
        raise ValueError(f"expected share=(number, shares) with 0 <= number < shares, got {share!r}")
    return share


def local_mesh(mesh: Mesh | None) -> Mesh | None:
    """The mesh of this process's own devices. Under `jax.distributed` a process computes on all of them by default."""
    if jax.process_count() == 1:
        return mesh
    if mesh is None:
        return Mesh(np.array(jax.local_devices()), ("images",)) if jax.local_device_count() > 1 else None
    return mesh.local_mesh


def first_elements(images: Any, count: int) -> tuple[list[Any], Iterable[Any]]:
    """The first elements of an iterable, and an iterable of all."""
    iterator = iter(images)
    first = [element for _, element in zip(range(count), iterator, strict=False)]

    def chained():
        yield from first
        yield from iterator

    return first, chained()
