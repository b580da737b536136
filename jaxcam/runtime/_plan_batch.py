"""What a call of `explain_batch` will take, measured on one batch without writing anything."""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from jaxcam._base.types import Method
from jaxcam.cutting import Cut, check_cut
from jaxcam.methods import score_of
from jaxcam.runtime._explain_batch import (
    Images,
    Names,
    check_options,
    described_run,
    finite_maps,
    load_example,
    open_source,
    runner_of,
)
from jaxcam.runtime._lock import Share
from jaxcam.runtime._outputs import inspected_output
from jaxcam.runtime._plan import Plan, measured_plan
from jaxcam.runtime._sources import checked_share, local_mesh
from jaxcam.runtime._zarr import is_zarr

STORED_BYTES = {"float16": 2, "uint8": 1}
NPY_HEADER = 128


def plan_batch(
    method: Method,
    cut: Cut,
    images: Images,
    targets: Any = None,
    key: jax.Array | None = None,
    *,
    target: Any = None,
    load: Callable[[Any], Any] | None = None,
    names: Names = None,
    out: str | os.PathLike | None = None,
    stored: str | None = None,
    batch_size: int | None = None,
    memory: float | None = None,
    mesh: Mesh | None = None,
    workers: int | None = None,
    share: Share | None = None,
) -> Plan:
    """What `explain_batch` with the same arguments will take: how many images, time, disk and memory.

    It counts what is finished in `out`, then loads one batch of what is missing, compiles, and computes the batch
    twice. The second time is that of a batch. Nothing is written, and a folder in use may be looked at.

    Args:
      method: as in `explain_batch`, and so are all other arguments.
      cut: a `Cut`.
      images: a sequence; an iterable would be used up.
      targets: one for each image.
      key: for methods that take one.
      target: one for all images.
      load: from an element of `images` to the image.
      names: of the maps.
      out: the folder or the Zarr store of the run.
      stored: with a Zarr store, "float16" or "uint8".
      batch_size: images in a chunk.
      memory: bytes that a chunk may take.
      mesh: divides each chunk over all its devices.
      workers: threads that load images ahead.
      share: `(number, shares)`; the plan is that of the share.

    Returns:
      `Plan`, which prints as a block of text. The time is an estimate for this machine as it is now, with images like
      those of the first batch.

    Raises:
      TypeError, ValueError: the call that `explain_batch` would refuse, or `images` is an iterable.

    Example:
      >>> import jaxcam
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> images = [jaxcam.pretrained.digits_canvas(i)[0] for i in range(3)]
      >>> plan = plan_batch(jaxcam.grad_cam, cut, images, out="maps", batch_size=1)
      >>> plan.lacking, plan.batch, plan.bytes_of_result
      (3, 1, 1152)
    """
    check_cut(cut)
    check_options(key, batch_size, memory, workers)
    source, sampled = open_source(cut, images, names, target, targets, score_of(method), load, checked_share(share))
    if not source.is_sequence:
        raise TypeError(f"expected a sequence of images for a plan, which reads some, got a {type(images).__name__}")

    def describe_run(with_images):
        return described_run(method, cut, source, sampled, key, load, out, with_images=with_images)

    output = inspected_output(out, stored, source, describe_run, with_place=key is not None)
    items, lacking = output.prepared(source)
    runner = runner_of(
        method, cut, source.targets.shared, key, own_targets=source.has_own_targets, count=lacking,
        batch_size=batch_size, memory=memory, mesh=local_mesh(mesh),
    )  # fmt: skip

    def bytes_of(saliency):
        value = saliency.itemsize if stored is None else STORED_BYTES[stored]
        return saliency.size * value + (0 if out is None or is_zarr(out) else NPY_HEADER)

    return measured_plan(
        items, recorded=output.recorded, load=functools.partial(load_example, cut, source, load),
        chunk_size=runner.chunk_size, compute=lambda examples, _: finite_maps(runner(examples)),
        bytes_of=bytes_of, out=out, workers=workers,
    )  # fmt: skip
