"""Memory does not grow with the number of noisy samples: 500 take at most 1.2 times that of 5, and linear time.

Smooth Grad-CAM++ on VGG-16 with random weights at 224 x 224, block5_conv3, n = 5, 50 and 500, each in a process of its
own. Memory is told in three ways: what the compiled program asks for (arguments, results, and all between), and the
largest that the process has held while it ran (on a GPU, that the device has), the parameters among it and without
them. The compiler is done before, and its memory counts only where the system cannot count anew. Time is that of one
forward pass, of n + 1.
"""

import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

COUNTS = (5, 50, 500)
BOUND = 1.2
LINEAR = 1.1


def measure(*, small: bool = False) -> dict:
    """Ratios of the largest count over the smallest; small runs the digits network, 5 and 60."""
    counts = (5, 60) if small else COUNTS
    # Smaller counts are run before and after the largest, which takes minutes.
    order = counts if small else (*counts, *counts[:-1])
    found: dict[int, list[dict]] = {n: [] for n in counts}
    for n in order:
        found[n].append(in_a_process(n, small))
    median = {n: {name: statistics.median(run[name] for run in runs) for name in runs[0]} for n, runs in found.items()}
    few, many = median[counts[0]], median[counts[-1]]
    names = {
        "the program's memory": BOUND,
        "peak memory": BOUND,
        "peak memory above the parameters": None,
        "seconds a forward pass": LINEAR,
    }
    ratios = {f"{name}, n = {counts[-1]} / {counts[0]}": many[name] / few[name] for name in names}
    bounds = {f"{name}, n = {counts[-1]} / {counts[0]}": bound for name, bound in names.items() if bound is not None}
    return {"ratios": ratios, "bounds": bounds, "figures": {f"n = {n}": values for n, values in median.items()}}


def in_a_process(n, small):
    """What `one_count` finds in a fresh process."""
    code = f"from benchmarks import memory_does_not_grow_with_samples as m; m.one_count({n}, small={small})"
    env = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # a GPU's memory is to be seen as it is asked for
    root = pathlib.Path(__file__).parents[1]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env, cwd=root)
    return json.loads(done.stdout.splitlines()[-1])


def one_count(n, *, small):
    """Print the figures of one count, as JSON."""
    import jax

    import jaxcam
    from benchmarks import peers

    model, layer = peers.vgg(small=small)
    cut = jaxcam.cut(model, layer)
    image, key = jax.random.uniform(jax.random.key(0), model.image_shape), jax.random.key(1)
    arguments = jax.block_until_ready((cut, image, key))

    def smooth(cut, image, key):
        return jaxcam.smooth_grad_cam_pp(cut, image, peers.TARGET, key, n_samples=n)

    program = jax.jit(smooth).lower(*arguments).compile()
    asked: Any = program.memory_analysis()
    whole = asked.argument_size_in_bytes + asked.output_size_in_bytes + asked.temp_size_in_bytes
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(cut))
    count_anew()
    seconds = []
    for _ in range(3 if n < 100 else 1):
        start = time.perf_counter()
        jax.block_until_ready(program(*arguments))
        seconds.append(time.perf_counter() - start)
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use") or largest_held()
    found = {
        "the program's memory": whole,
        "peak memory": peak,
        "peak memory above the parameters": peak - parameters,
        "seconds a forward pass": statistics.median(seconds) / (n + 1),
    }
    print(json.dumps(found))


def count_anew():
    """Let the process's peak memory begin at what it holds now, where the system can do that (Linux)."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def largest_held():
    """The process's peak memory in bytes."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return held if sys.platform == "darwin" else held * 1024
