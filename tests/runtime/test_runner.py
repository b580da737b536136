"""Chunks: of one shape, of a size that fits the memory, over devices."""

import functools

import jax
import numpy as np
import pytest

import jaxcam
from jaxcam.runtime import _runner
from tests.runtime.specimen import KEY, RNG, SMALL, check, weighted


def test_images_of_several_shapes_compile_once_each(tiny):
    images = [SMALL[0], SMALL[1], SMALL[2, :4], SMALL[3, :4], SMALL[4]]
    traced = []

    def method(cut, image, target, key):
        traced.append(image.shape)
        return weighted(cut, image, target, key)

    check(jaxcam.explain_batch(method, tiny, images, None, KEY, batch_size=2), tiny, images)
    assert sorted(traced) == [(4, 5, 3), (6, 5, 3)]


def test_portraits_among_landscapes_go_together(tiny):
    images = [SMALL[i] if i % 2 else SMALL[i, :4] for i in range(10)]
    sizes = []
    watched = lambda x: jax.debug.callback(lambda: sizes.append(1)) or x
    method = lambda cut, image, target: jaxcam.grad_cam(cut, watched(image), target)
    found = jaxcam.explain_batch(method, tiny, images, 1, batch_size=5)
    jax.effects_barrier()
    assert len(found.maps) == 10 and len(sizes) == 10, "and none is padded"


def test_a_chunk_fits_the_memory(tiny, monkeypatch):
    """As the compiled program says it; each further image takes as much."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # where a chunk's images are computed together
    image = RNG.uniform(0, 1, (64, 64, 3)).astype(np.float32)
    run = functools.partial(jaxcam.explain_batch, jaxcam.grad_cam, tiny)
    chosen = []
    size = _runner.Runner.chunk_size
    monkeypatch.setattr(
        _runner.Runner, "chunk_size", lambda *given: chosen.append((given[0], size(*given))) or chosen[-1][1]
    )
    for memory in (1e6, 3e6):
        run([image] * 40, memory=memory)
        runner, fits = chosen[-1]
        assert 1 < fits < 40
        example = image, np.int32(0), np.int32(0)
        assert runner._memory_of_chunk(example, fits) <= memory < runner._memory_of_chunk(example, fits + 2)
    run([image] * 100)
    assert chosen[-1][1] == _runner.MOST_EXAMPLES
    with pytest.raises(ValueError, match=r"memory is 0.0009537 MiB: one image \[64, 64, 3\] takes 0\.\d+ MiB"):
        run([image], memory=1000)
    monkeypatch.setattr(_runner.Runner, "_memory_of_chunk", lambda *_: None)
    run([image] * 40)
    assert chosen[-1][1] == _runner.EXAMPLES_WITHOUT_FIGURES


def test_several_at_once_on_an_accelerator(tiny, monkeypatch):
    """vmap in the place of a loop."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    check(jaxcam.explain_batch(weighted, tiny, SMALL, None, KEY, batch_size=4), tiny, SMALL)


@pytest.mark.parametrize("shape", [(8,), (2, 2)])
def test_over_devices(tiny, shape):
    devices = np.array(jax.devices()[: np.prod(shape)]).reshape(shape)
    mesh = jax.sharding.Mesh(devices, ("a", "b")[: len(shape)])
    check(jaxcam.explain_batch(weighted, tiny, SMALL, None, KEY, mesh=mesh, batch_size=3), tiny, SMALL)
