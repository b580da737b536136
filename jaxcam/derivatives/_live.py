"""What skips work of which nothing counts, under `vmap` as well."""

import jax


@jax.custom_batching.custom_vmap
def any_in_batch(is_live: jax.Array) -> jax.Array:
    """Whether any is 1. Under vmap: of any example, so that a branch stays a branch and does not become a selection."""
    return is_live.any()


@any_in_batch.def_vmap
def _any_of_all_examples(axis_size, in_batched, is_live):
    return any_in_batch(is_live), False


@jax.custom_batching.custom_vmap
def live_for_order(is_live: jax.Array, seed: jax.Array) -> jax.Array:
    """Which directions count for their order. Under vmap over targets alone: those that count for any of them.

    The directions that count differ between targets. If their order differed, too, each target would have a push of its
    own, although the pushes are the same up to the score. Where the seed is batched as well, the pushes differ, and
    each example keeps its order, which skips more.

    Args:
      is_live: bools.
      seed: the value that is pushed from.
    """
    del seed
    return is_live


@live_for_order.def_vmap
def _live_for_any_target(axis_size, in_batched, is_live, seed):
    is_batched, is_seed_batched = in_batched
    if is_batched and not is_seed_batched:
        return live_for_order(is_live.any(0), seed), False
    return live_for_order(is_live, seed), is_batched  # an outer vmap may be one over targets
