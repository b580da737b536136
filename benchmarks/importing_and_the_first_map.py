"""Importing jaxcam costs little over importing jax and flax, and a first map is seconds away from a cold start.

Whole processes, each started afresh and taken in turn: the import of jax and flax.nnx alone, the import of jaxcam, and
`jaxcam --json`, the demo, from the process's start to its end: three maps compiled, drawn and written.
"""

import subprocess
import sys
import tempfile

from benchmarks import timing


def measure(*, small: bool = False) -> dict:
    """Ratios and seconds; small takes one round."""
    with tempfile.TemporaryDirectory() as folder:

        def process(*arguments):
            done = [sys.executable, *arguments]
            return lambda: subprocess.run(done, check=True, capture_output=True, cwd=folder) and None

        times = timing.in_turn(
            {
                "import jax, flax.nnx": process("-c", "import jax, flax.nnx"),
                "import jaxcam": process("-c", "import jaxcam"),
                "demo": process("-m", "jaxcam", "--force", "--json"),
            },
            repeats=1 if small else 9,
        )
    return {
        "ratios": {
            "import jaxcam / import jax and flax.nnx": timing.median_ratio(
                times, "import jaxcam", "import jax, flax.nnx"
            ),
            "the demo, whole process / import jaxcam": timing.median_ratio(times, "demo", "import jaxcam"),
        },
        "seconds": timing.summary(times),
    }
