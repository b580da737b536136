"""Where the command line keeps compiled programs, and who turns that off."""

import os
import subprocess
import sys

import pytest

PRINTS = (
    "import jax; from jaxcam.cli._compiled_programs import keep_compiled_programs as keep; keep(); "
    "print(jax.config.jax_compilation_cache_dir, jax.config.jax_compilation_cache_max_size)"
)


@pytest.mark.skipif(sys.platform != "linux", reason="the folder is that of Linux")
@pytest.mark.parametrize(
    ("given", "printed"), [(None, "{home}/jaxcam/compiled 536870912"), ("", "-1"), ("{home}/own", "{home}/own -1")]
)
def test_the_folder(given, printed, tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    env |= {} if given is None else {"JAX_COMPILATION_CACHE_DIR": given.format(home=tmp_path)}
    env["XDG_CACHE_HOME"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", PRINTS], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == printed.format(home=tmp_path)
