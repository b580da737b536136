"""The actors of a Ray cluster: batches of a dataset go to them, and come back from them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

MOST_BLOCKS = 1000


def import_ray() -> Any:
    """The library; one line if it is not installed."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError("a cluster needs Ray: pip install 'jaxcam-saliency[ray]'") from error
    return ray


def blocks_of(rows: int, batch_size: int) -> int:
    """The blocks of a dataset of rows that are at hand: one for each batch, so that all actors get some.

    Example:
      >>> blocks_of(7, 2), blocks_of(3, 64), blocks_of(1_000_000, 8)
      (4, 1, 1000)
    """
    return max(1, min(MOST_BLOCKS, -(-rows // batch_size)))


def map_in_actors(
    dataset: Any,
    actor: Callable[..., Any],
    arguments: Sequence[Any],
    settings: Mapping[str, Any],
    *,
    batch_size: int,
    num_cpus: float | None,
    num_gpus: float | None,
    concurrency: int | tuple[int, int],
) -> Any:
    """The dataset of what actors make of the batches of another; nothing is computed before it is read.

    Args:
      dataset: a `ray.data.Dataset`.
      actor: a class whose objects take batches; one object is made in each actor.
      arguments: of the class, by position.
      settings: of the class, by name.
      batch_size: rows in a batch.
      num_cpus: of Ray's, for each actor.
      num_gpus: of Ray's, for each actor.
      concurrency: the number of actors, or the smallest and the largest number.
    """
    pool = import_ray().data.ActorPoolStrategy
    if isinstance(concurrency, int):
        actors = pool(size=concurrency)
    else:
        fewest, most = concurrency
        actors = pool(min_size=fewest, max_size=most)
    return dataset.map_batches(
        actor, fn_constructor_args=arguments, fn_constructor_kwargs=settings, batch_size=batch_size,
        num_cpus=num_cpus, num_gpus=num_gpus, compute=actors, batch_format="numpy",
    )  # fmt: skip


def batches_of(dataset: Any) -> Iterator[Mapping[str, np.ndarray]]:
    """The batches of a dataset as they come; a ValueError if Ray gives up, such as where an actor cannot be made."""
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="numpy")
    except import_ray().exceptions.RayError as error:  # its text is the traceback of the actor
        raise ValueError(f"Ray gave up: {str(error).strip().splitlines()[-1].strip()}") from error


def mesh_of_actor() -> Mesh | None:
    """All devices of an actor that has several."""
    devices = jax.local_devices()
    return Mesh(np.array(devices), ("images",)) if len(devices) > 1 else None
