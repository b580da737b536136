"""A process of a job of several, as tests/runtime/test_processes.py starts them: NUMBER COUNT PORT FOLDER."""

import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam

COUNT = 12


def tiny():
    """A small cut, and images."""
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)}
    cut = jaxcam.Cut(params, lambda p, x: jnp.maximum(x @ p["kernel"], 0), lambda p, A, x: A.mean((0, 1)), "hidden")
    return cut, rng.uniform(0, 1, (COUNT, 6, 5, 3)).astype(np.float32)


def explained(out):
    """The maps, in the process's share."""
    cut, images = tiny()
    return jaxcam.explain_batch(jaxcam.grad_cam, cut, images, out=out, batch_size=2)


def evaluated(out):
    """The tables. An example fails, so that the shares have different numbers of results."""
    cut, images = tiny()
    images[2] = np.nan
    examples = [jaxcam.Example(image, label=i % 4, name=f"image {i}") for i, image in enumerate(images)]
    return jaxcam.evaluate(cut, examples, [jaxcam.grad_cam], ["drop"], out=out)


if __name__ == "__main__":
    number, count, port, folder = sys.argv[1:]
    jax.distributed.initialize(f"127.0.0.1:{port}", int(count), int(number))
    assert jax.local_device_count() == 2 and jax.device_count() == 2 * int(count)
    explained(pathlib.Path(folder) / "maps")
    evaluation = evaluated(pathlib.Path(folder) / "figures")
    pathlib.Path(folder, f"{count}-{number}.json").write_text(json.dumps([str(evaluation), *evaluation.images]))
