"""Compiled programs are kept between runs of the command line, because compiling takes most of a short run.

They are in the user's cache folder, in `jaxcam/compiled`, at most 512 MiB. `JAX_COMPILATION_CACHE_DIR` names another
folder, and an empty name turns this off.
"""

import os

import jax
import platformdirs

MOST_BYTES = 512 * 2**20
LEAST_SECONDS = 0.1  # what compiles faster is not kept


def keep_compiled_programs() -> None:
    """Lets JAX keep compiled programs in a folder, unless the environment says where, or that it should not."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = platformdirs.user_cache_path("jaxcam", appauthor=False) / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", MOST_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
