"""A branch that skips work of which nothing counts, under `vmap` as well."""

import jax


@jax.custom_batching.custom_vmap
def any_in_batch(is_live: jax.Array) -> jax.Array:
    """Whether any is 1. Under vmap: of any example, so that a branch stays a branch and does not become a selection."""
    return is_live.any()


@any_in_batch.def_vmap
def _any_of_all_examples(axis_size, in_batched, is_live):
    return any_in_batch(is_live), False
