"""The figures of all processes of `jax.distributed`, gathered once at the end of an evaluation."""

import itertools
import pickle
from typing import Any

import jax
import numpy as np

from jaxcam.runtime import Outcome


def gathered(outcome: Outcome) -> Outcome:
    """The outcome of all processes together, in the order of the examples; the outcome itself of a single process.

    Every process calls it, and waits for the others. Process p has the examples i with i % processes == p.
    """
    if jax.process_count() == 1:
        return outcome
    from jax.experimental import multihost_utils

    # The processes are of one job, which started with the same program: what they send is trusted as much.
    content = np.frombuffer(pickle.dumps(tuple(outcome)), np.uint8)
    sizes = np.ravel(multihost_utils.process_allgather(np.int32(len(content))))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(content)] = content
    parts = multihost_utils.process_allgather(padded)
    outcomes = [Outcome(*pickle.loads(part[:size].tobytes())) for part, size in zip(parts, sizes, strict=True)]
    return Outcome(
        _interleaved([part.results for part in outcomes]), {k: v for part in outcomes for k, v in part.failed.items()}
    )


def _interleaved(parts: list[dict[str, Any]]) -> dict[str, Any]:
    rounds = itertools.zip_longest(*(part.items() for part in parts))
    return dict(pair for pairs in rounds for pair in pairs if pair is not None)
