"""One function on many examples: in chunks that fit the memory, divided over devices.

An example is a pytree of arrays without a batch axis; its first leaf is the image. Examples of one shape are stacked,
and the last chunk is padded, so that one program computes all chunks.

    >>> import numpy as np
    >>> runner = Runner(lambda scale, example: scale * example[0].sum(), np.float32(2), count=3)
    >>> examples = [(np.full([2, 2], i, np.float32),) for i in range(3)]
    >>> [runner(chunk)[: len(chunk)].tolist() for chunk, _ in group_by_shape(zip(examples, "abc"), runner.chunk_size)]
    [[0.0, 8.0, 16.0]]
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcam._base import numerics
from jaxcam.tracing import for_loops

Example = Any  # a pytree of arrays
Item = TypeVar("Item")

# The most examples in a chunk on each device: larger chunks are not faster, and a killed run loses a chunk.
MOST_EXAMPLES = 64
MOST_EXAMPLES_ON_CPU = 8  # a CPU computes one after another
EXAMPLES_WITHOUT_FIGURES = 8  # where the backend does not say how much memory a program takes
MOST_SHAPES_WAITING = 8
SHARE_OF_DEVICE_MEMORY = 0.5
SHARE_OF_MACHINE_MEMORY = 0.125
MOST_MACHINE_MEMORY = 2**32


class Runner:
    """A function on chunks of examples, `function(shared, example)`, compiled once for each shape of example.

    Args:
      function: what `jax.jit` can trace.
      shared: a pytree that every example is computed with; each device holds it.
      count: the number of examples; no chunk is larger.
      batch_size: examples in a chunk, on all devices together; chosen by `memory` by default.
      memory: bytes that a chunk may take on each device, without `shared`. Defaults to half of what the device has
        left, or, where the device does not say, to an eighth of the machine's memory and at most 4 GiB.
      mesh: divides each chunk over all its devices, whatever the names of its axes.
      at_most: the most examples in a chunk on each device; defaults to 64, and to 8 on a CPU.
    """

    def __init__(
        self,
        function: Callable[[Any, Example], Any],
        shared: Any,
        *,
        count: int,
        batch_size: int | None = None,
        memory: float | None = None,
        mesh: Mesh | None = None,
        at_most: int | None = None,
    ):
        def compute_chunk(shared, examples):
            # One example fills a CPU's cores, and several overflow its caches. Many examples fill an accelerator.
            if numerics.on_cpu():
                return jax.lax.map(for_loops(lambda example: function(shared, example)), examples)
            return jax.vmap(lambda example: function(shared, example))(examples)

        self.devices, self.sharding = 1, None
        if mesh is not None:
            if jax.sharding.get_abstract_mesh().empty:
                # Axes that are Explicit would be part of the types inside, where no array has them.
                mesh = Mesh(mesh.devices, mesh.axis_names)
            whole, part = PartitionSpec(), PartitionSpec(mesh.axis_names)
            # Not checked, because the function may hold a loop that was not written for a shard_map.
            compute_chunk = jax.shard_map(
                compute_chunk, mesh=mesh, in_specs=(whole, part), out_specs=part, check_vma=False
            )
            self.devices, self.sharding = mesh.size, NamedSharding(mesh, part)
            shared = jax.device_put(shared, NamedSharding(mesh, whole))
        self.compute_chunk, self.shared = jax.jit(compute_chunk), shared
        self.count, self.batch_size, self.memory = count, batch_size, memory
        self.at_most = at_most or (MOST_EXAMPLES_ON_CPU if numerics.on_cpu() else MOST_EXAMPLES)
        self.programs: dict[Any, Any] = {}
        self.chunk_sizes: dict[Any, int] = {}

    def __call__(self, examples: Sequence[Example]) -> Any:
        """The function's results for examples of one shape, stacked, and after them those of the padding.

        The device may still compute when this returns.
        """
        size = self.chunk_size(examples[0])
        padded = [*examples, *[examples[-1]] * (size - len(examples))]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *padded)
        return self._compiled(examples[0], size)(self.shared, jax.device_put(stacked, self.sharding))

    def chunk_size(self, example: Example) -> int:
        """The number of examples of this shape in a chunk, a multiple of the devices.

        Raises:
          ValueError: one example takes more than `memory`.
        """
        shape = _shape_of(example)
        if shape not in self.chunk_sizes:
            on_each = (
                self._fitting(example, self._on_each_device(self.at_most * self.devices))
                if self.batch_size is None
                else self._on_each_device(self.batch_size)
            )
            self.chunk_sizes[shape] = self.devices * on_each
        return self.chunk_sizes[shape]

    def _on_each_device(self, at_most):
        return -(-min(at_most, self.count) // self.devices)

    def _fitting(self, example, at_most):
        """How many examples fit a device's memory. Below `at_most`, memory is taken to be linear in their number."""
        if at_most == 1 and self.memory is None:
            return 1  # without compiling
        memory = _free_memory() if self.memory is None else self.memory
        wanted = self._memory_of_chunk(example, at_most)
        if wanted is None:
            return min(at_most, EXAMPLES_WITHOUT_FIGURES)
        if wanted <= memory:
            return at_most
        one, two = self._memory_of_chunk(example, 1), self._memory_of_chunk(example, 2)
        if one > memory:
            image = jax.tree.leaves(example)[0]
            raise ValueError(
                f"memory is {memory / 2**20:.4g} MiB: one image {list(image.shape)} takes {one / 2**20:.4g} MiB beside "
                "the model"
            )
        return min(at_most, 1 + int((memory - one) // max(1, two - one)))

    def _memory_of_chunk(self, example, on_each):
        """The bytes that a chunk takes on a device, without `shared`; None if the backend does not say."""
        try:
            figures = self._compiled(example, on_each * self.devices).memory_analysis()
        except (NotImplementedError, jax.errors.JaxRuntimeError):
            return None
        given = on_each * sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(example))
        return figures and figures.temp_size_in_bytes + figures.output_size_in_bytes + given

    def _compiled(self, example, size):
        program_key = size, _shape_of(example)
        if program_key not in self.programs:
            stacked = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype, sharding=self.sharding), example
            )
            self.programs[program_key] = self.compute_chunk.lower(self.shared, stacked).compile()
        return self.programs[program_key]


def _shape_of(example):
    """What the examples of a chunk have in common: their structure, shapes and types."""
    leaves, structure = jax.tree.flatten(example)
    return structure, *((leaf.shape, leaf.dtype) for leaf in leaves)


def group_by_shape(
    loaded: Iterable[tuple[Example, Item]], chunk_size: Callable[[Example], int]
) -> Iterator[tuple[list[Example], list[Item]]]:
    """Chunks of examples of one shape, and the items that came with them.

    Examples of several shapes wait at once until a chunk is full. If too many shapes wait, the largest group goes.
    """
    waiting: dict[Any, list[tuple[Example, Item]]] = {}

    def take(shape):
        pairs = waiting.pop(shape)
        return [example for example, _ in pairs], [item for _, item in pairs]

    for example, item in loaded:
        shape = _shape_of(example)
        waiting.setdefault(shape, []).append((example, item))
        if len(waiting[shape]) == chunk_size(example):
            yield take(shape)
        elif len(waiting) > MOST_SHAPES_WAITING:
            yield take(max(waiting, key=lambda shape: len(waiting[shape])))
    for shape in list(waiting):
        yield take(shape)


def _free_memory():
    """Bytes for the temporary memory of a chunk."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return SHARE_OF_DEVICE_MEMORY * (stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return MOST_MACHINE_MEMORY
    return min(MOST_MACHINE_MEMORY, SHARE_OF_MACHINE_MEMORY * memory)
