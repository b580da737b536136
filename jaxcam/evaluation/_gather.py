"""The figures of all processes of `jax.distributed`, gathered once at the end of an evaluation."""

import pickle
from collections.abc import Iterable, Sequence

import jax
import numpy as np

from jaxcam.runtime import Outcome


def gathered(outcome: Outcome, names: Iterable[str]) -> Outcome:
    """The outcome of all processes together; of a single process the outcome itself.

    Every process calls it, and waits for the others.

    Args:
      outcome: of this process's share.
      names: of all examples, whose order the results and the failures get: intervals depend on the order of images.
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
    return in_order(outcomes, names)


def in_order(outcomes: Sequence[Outcome], names: Iterable[str]) -> Outcome:
    """Outcomes of several shares as one.

    Example:
      >>> shares = [Outcome({"c": 3}, {"a": "torn"}), Outcome({"b": 2, "d": 4}, {})]
      >>> in_order(shares, "abcd")
      Outcome(results={'b': 2, 'c': 3, 'd': 4}, failed={'a': 'torn'})
    """
    results = {name: result for outcome in outcomes for name, result in outcome.results.items()}
    failed = {name: reason for outcome in outcomes for name, reason in outcome.failed.items()}
    names = list(names)
    return Outcome(
        {name: results[name] for name in names if name in results},
        {name: failed[name] for name in names if name in failed},
    )
