"""Loaders in a process of their own: what hangs, crashes, or takes too much memory is one line."""

import ctypes
import functools
import math
import time

import numpy as np
import pytest

import jaxcam
from jaxcam._base.isolation import Isolated
from jaxcam.runtime import isolated
from jaxcam.runtime._store import MapFolder
from tests.runtime.specimen import SMALL


def load_or_misbehave(i):
    """The image of a number, but for those that are poison."""
    print("what a loader prints is no answer", flush=True)
    if i == 1:
        ctypes.string_at(0)  # a segmentation fault
    if i == 2:
        time.sleep(600)
    if i == 3:
        return np.ones(2**33, np.uint8)
    if i == 4:
        raise FileNotFoundError("no image 4")
    return SMALL[i]


def test_poison_images_fail_alone(tiny, tmp_path):
    load = isolated(load_or_misbehave, seconds=3, memory=2**30)
    explained = jaxcam.explain_batch(jaxcam.grad_cam, tiny, range(6), 1, load=load, out=tmp_path)
    assert list(explained.maps) == ["0", "5"]
    wanted = {"1": "crashed: it was ended by SIGSEGV", "2": "more than 3 seconds", "3": "1024 MiB", "4": "no image 4"}
    assert {name: words in explained.failed[name] for name, words in wanted.items()} == dict.fromkeys(wanted, True)
    # The folder goes on without the process, and with other limits.
    same = jaxcam.explain_batch(
        jaxcam.grad_cam, tiny, range(6), 1, load=isolated(load_or_misbehave, seconds=1, memory=2**29), out=tmp_path
    )
    assert same.maps == explained.maps
    np.testing.assert_array_equal(np.load(explained.maps["5"]).shape, (6, 5))


def test_a_process_that_ended_while_it_was_idle_is_replaced():
    root = Isolated(math.sqrt)
    assert root(4.0) == 2
    [child] = root.idle
    child.process.kill()
    child.process.wait()
    assert root(9.0) == 3, "the number has nothing to do with it"
    root.close()


def test_what_another_process_cannot_import():
    with pytest.raises(TypeError, match="expected a function that another process can import"):
        isolated(functools.partial(lambda scale, i: i, 2))


@pytest.mark.parametrize("torn", [b"", b"\x93NUMPY", slice(0, 100), slice(0, -1)], ids=["none", "magic", "head", "end"])
def test_a_torn_map_is_written_again(tiny, tmp_path, torn):
    explain = functools.partial(jaxcam.explain_batch, jaxcam.grad_cam, tiny, SMALL[:3], 1, out=tmp_path)
    path = explain().maps["1"]
    whole = path.read_bytes()
    path.write_bytes(torn if isinstance(torn, bytes) else whole[torn])
    assert not MapFolder(tmp_path).has_map("1") and MapFolder(tmp_path).has_map("0")
    assert not explain().failed and path.read_bytes() == whole
