"""What a call of `evaluate` will take, measured on one batch without writing anything."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from jaxcam._base.types import Method, Score
from jaxcam.cutting import Cut
from jaxcam.datasets import Example
from jaxcam.evaluation._evaluate import checked_call, steps_of
from jaxcam.evaluation._selection import AnyMetric
from jaxcam.evaluation._stored import rows_as_json
from jaxcam.formulas import scores
from jaxcam.runtime import Plan, measured_plan


def plan_evaluation(
    cut: Cut,
    examples: Sequence[Any],
    methods: Mapping[str, Method] | Sequence[Method],
    metrics: Sequence[AnyMetric] | None = None,
    key: jax.Array | None = None,
    *,
    target: Any = "predicted",
    targets: Any = None,
    score: Score = scores.probability,
    reference: str | None = None,
    load: Callable[[Any], Example] | None = None,
    out: str | os.PathLike | None = None,
    memory: float | None = None,
    mesh: Mesh | None = None,
    workers: int | None = None,
    share: tuple[int, int] | None = None,
) -> Plan:
    """What `evaluate` with the same arguments will take: how many images, time, disk and memory.

    It counts what is finished in `out`, then loads one batch of what is missing, compiles, and measures the batch
    twice. The second time is that of a batch. Nothing is written.

    Args:
      cut: as in `evaluate`, and so are all other arguments.
      examples: a sequence; an iterable would be used up.
      methods: by name, or a sequence of functions.
      metrics: names, functions or `Metric`s.
      key: the source of all random numbers.
      target: the explained class.
      targets: a target for each image.
      score: of the whole and of the masked image.
      reference: the method that the others are compared with.
      load: from an element of `examples` to an `Example`.
      out: the folder of the run.
      memory: bytes that a chunk of images may take.
      mesh: divides the images over all its devices.
      workers: threads that load examples ahead.
      share: `(number, shares)`; the plan is that of the share.

    Returns:
      `jaxcam.runtime.Plan`, which prints as a block of text. The time is an estimate for this machine as it is now,
      with images like those of the first batch. The report that `jaxcam evaluate` draws at the end is not in it.

    Raises:
      TypeError, ValueError: the call that `evaluate` would refuse, or `examples` is an iterable.

    Example:
      >>> import jaxcam
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> examples = [jaxcam.Example(jaxcam.pretrained.digits_canvas(i)[0], name=f"{i}") for i in range(2)]
      >>> plan = plan_evaluation(cut, examples, [jaxcam.grad_cam], ["drop"])
      >>> plan.inputs, plan.lacking
      (2, 2)
    """
    if not isinstance(examples, Sequence):
        raise TypeError(f"expected a sequence of examples for a plan, which reads some, got {type(examples).__name__}")
    call = checked_call(
        cut, examples, methods, metrics, key, target=target, targets=targets, score=score, reference=reference,
        load=load, memory=memory, mesh=mesh, share=share,
    )  # fmt: skip
    steps = steps_of(call, load, out, read_only=True)
    return measured_plan(
        steps.items(examples, call.share), recorded=steps.recorded, load=steps.load, chunk_size=call.scorer.size,
        compute=steps.compute, bytes_of=_bytes_of_record, out=out, workers=workers,
    )  # fmt: skip


def _bytes_of_record(record):
    return len(json.dumps({**record, "rows": rows_as_json(record["rows"])}))
