"""Ctrl-C, while a command waits for a compiled program."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import PIL.Image
import pytest

from jaxcam.cli._interrupts import ended_by_ctrl_c

# A shell ignores SIGINT in what it runs in the background, and so would the command.
COMMAND = """
import signal, sys
from jaxcam.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""
# Its features count for minutes, in one program.
ENDLESS = """
import jax
import jax.numpy as jnp
import jaxcam

def features(params, x):
    print("tracing", flush=True)
    count = jax.lax.fori_loop(0, 2**31 - 1, lambda i, y: jnp.sin(y + x.sum()), 0.0)
    return jnp.zeros([2, 2, 3]) + count

def model():
    return jaxcam.Cut({}, features, lambda params, A, x: A.mean((0, 1)))
"""


def test_an_interrupt_that_became_another_exception_is_one():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), ended_by_ctrl_c(130, None):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as error:
                raise RuntimeError("callback failed") from error
        with pytest.raises(RuntimeError, match="of its own"), ended_by_ctrl_c(130, None):
            raise RuntimeError("of its own")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a process")
def test_ctrl_c_ends_a_command_inside_a_compiled_program(tmp_path):
    (tmp_path / "endless.py").write_text(ENDLESS)
    root = pathlib.Path(__file__).parents[2]
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    words = ["explain", "picture.png", "--model", "endless:model", "--input-size", "8x8", "--preprocess", "0..1"]
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout.readline() == "tracing\n", process.communicate()
            time.sleep(4)  # to be traced to the end, compiled and started
            before = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors) == (130, "")
    assert time.monotonic() - before < 30  # the program takes minutes
    assert [path.name for path in tmp_path.glob("*.png")] == ["picture.png"]
