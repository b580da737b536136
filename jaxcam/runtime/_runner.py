"""One function on many examples: in chunks that fit the memory, divided over devices.

An example is a pytree of arrays without a batch axis, its first leaf the image. Those of one shape are stacked; the
last chunk is padded, so that one program runs them all.

    >>> import numpy as np
    >>> runner = Runner(lambda scale, example: scale * example[0].sum(), np.float32(2), count=3)
    >>> examples = [(np.full([2, 2], i, np.float32),) for i in range(3)]
    >>> [runner(chunk)[: len(chunk)].tolist() for chunk, _ in alike(zip(examples, "abc"), runner.size)]
    [[0.0, 8.0, 16.0]]
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcam.tracing import for_loops

Example = Any
T = TypeVar("T")

# At most, on each device: more gain nothing, and a killed run loses a chunk. On a CPU, where one goes after another:
EXAMPLES_AT_A_TIME = 64
EXAMPLES_ON_A_CPU = 8
SHAPES_AT_A_TIME = 8
EXAMPLES_WITHOUT_FIGURES = 8  # on each device, where the backend does not say what a program takes
SHARE_OF_DEVICE = 0.5
SHARE_OF_RAM = 0.125
RAM_AT_MOST = 2**32


class Runner:
    """A function on chunks of examples, `f(shared, example)`; it compiles once for each shape of example.

    Args:
      f: what jit can trace.
      shared: a pytree that every example is computed with; each device holds it.
      count: examples in all: a chunk is not made for more.
      batch_size: examples at a time, on all devices together; chosen by `memory` where absent.
      memory: bytes that a chunk may take beside `shared`, on each device; where absent half of what the device has
        left, or an eighth of the machine's memory, at most 4 GiB, where the device does not say.
      mesh: divides each chunk over all its devices, whatever its axes are called.
      at_most: examples at a time on each device; 64 where absent, and 8 on a CPU.
    """

    def __init__(
        self,
        f: Callable[[Any, Example], Any],
        shared: Any,
        *,
        count: int,
        batch_size: int | None = None,
        memory: float | None = None,
        mesh: Mesh | None = None,
        at_most: int | None = None,
    ):
        def chunk(shared, examples):
            # One example fills a CPU's cores, and several overflow its caches. An accelerator is filled by many.
            if jax.default_backend() == "cpu":
                return jax.lax.map(for_loops(lambda each: f(shared, each)), examples)
            return jax.vmap(lambda each: f(shared, each))(examples)

        self.devices, self.everywhere, self.divided = 1, None, None
        if mesh is not None:
            if jax.sharding.get_abstract_mesh().empty:
                # Axes that are Explicit would be part of the types inside, which meet none without them.
                mesh = Mesh(mesh.devices, mesh.axis_names)
            all_of, part = PartitionSpec(), PartitionSpec(mesh.axis_names)
            # Not checked: the function may hold a loop that was not written for a shard_map.
            chunk = jax.shard_map(chunk, mesh=mesh, in_specs=(all_of, part), out_specs=part, check_vma=False)
            self.devices, self.everywhere, self.divided = (
                mesh.size, NamedSharding(mesh, all_of), NamedSharding(mesh, part)
            )  # fmt: skip
            shared = jax.device_put(shared, self.everywhere)
        self.chunk, self.shared = jax.jit(chunk), shared
        self.count, self.batch_size, self.memory = count, batch_size, memory
        self.at_most = at_most or (EXAMPLES_ON_A_CPU if jax.default_backend() == "cpu" else EXAMPLES_AT_A_TIME)
        self.compiled: dict[Any, Any] = {}
        self.sizes: dict[Any, int] = {}

    def __call__(self, examples: Sequence[Example]) -> Any:
        """What f gives for examples of one shape, stacked, and after them that of the padding; it may still run."""
        size = self.size(examples[0])
        padded = [*examples, *[examples[-1]] * (size - len(examples))]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *padded)
        return self._program(examples[0], size)(self.shared, jax.device_put(stacked, self.divided))

    def size(self, example: Example) -> int:
        """How many examples of this shape are computed at a time, a multiple of the devices."""
        kind = kind_of(example)
        if kind not in self.sizes:
            self.sizes[kind] = self.devices * (
                self._fit(example, self._each(self.at_most * self.devices))
                if self.batch_size is None
                else self._each(self.batch_size)
            )
        return self.sizes[kind]

    def _each(self, at_most):
        """On each device, no more than there are examples."""
        return -(-min(at_most, self.count) // self.devices)

    def _fit(self, example, at_most):
        """How many fit the memory of a device; where that is fewer than wanted, what they take is linear in them."""
        if at_most == 1 and self.memory is None:
            return 1  # without compiling
        memory = _free() if self.memory is None else self.memory
        wanted = self._bytes(example, at_most)
        if wanted is None:
            return min(at_most, EXAMPLES_WITHOUT_FIGURES)
        if wanted <= memory:
            return at_most
        one, two = self._bytes(example, 1), self._bytes(example, 2)
        if one > memory:
            image = jax.tree.leaves(example)[0]
            raise ValueError(
                f"memory is {memory / 2**20:.4g} MiB: one image {list(image.shape)} takes {one / 2**20:.4g} MiB beside "
                "the model"
            )
        return min(at_most, 1 + int((memory - one) // max(1, two - one)))

    def _bytes(self, example, each):
        """What a chunk takes on a device beside `shared`; None where the backend does not say."""
        try:
            figures = self._program(example, each * self.devices).memory_analysis()
        except (NotImplementedError, jax.errors.JaxRuntimeError):
            return None
        given = each * sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(example))
        return figures and figures.temp_size_in_bytes + figures.output_size_in_bytes + given

    def _program(self, example, size):
        kind = size, kind_of(example)
        if kind not in self.compiled:
            stacked = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype, sharding=self.divided), example
            )
            self.compiled[kind] = self.chunk.lower(self.shared, stacked).compile()
        return self.compiled[kind]


def kind_of(example: Example) -> Any:
    """What the examples of one chunk have in common: their structure, shapes and types."""
    leaves, structure = jax.tree.flatten(example)
    return structure, *((leaf.shape, leaf.dtype) for leaf in leaves)


def alike(
    loaded: Iterable[tuple[Example, T]], size: Callable[[Example], int]
) -> Iterator[tuple[list[Example], list[T]]]:
    """Examples of one kind, as many as are computed at a time, and what came with each; a few wait to be filled."""
    waiting: dict[Any, list[tuple[Example, T]]] = {}

    def taken(kind):
        some = waiting.pop(kind)
        return [example for example, _ in some], [beside for _, beside in some]

    for example, beside in loaded:
        kind = kind_of(example)
        waiting.setdefault(kind, []).append((example, beside))
        if len(waiting[kind]) == size(example):
            yield taken(kind)
        elif len(waiting) > SHAPES_AT_A_TIME:
            yield taken(max(waiting, key=lambda kind: len(waiting[kind])))
    for kind in list(waiting):
        yield taken(kind)


def _free():
    """Bytes for the temporary memory of a chunk, on the device where there are fewest."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return SHARE_OF_DEVICE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    try:
        ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return RAM_AT_MOST
    return min(RAM_AT_MOST, SHARE_OF_RAM * ram)
