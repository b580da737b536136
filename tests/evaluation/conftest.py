"""One tiny network, five examples and their evaluation, made once for all tests of this package."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from tests.evaluation.specimen import CLASSES, METHODS, example, features, head


@pytest.fixture(scope="session")
def tiny():
    rng = np.random.default_rng(0)
    shapes = (3, 3, 3, 4), (4, CLASSES), (4, CLASSES)
    params = tuple(jnp.asarray(rng.normal(0, 1, shape), jnp.float32) for shape in shapes)
    return jaxcam.Cut(params, features, head, "first")


@pytest.fixture(scope="session")
def examples():
    return [example(seed) for seed in range(5)]


@pytest.fixture(scope="session")
def whole(tiny, examples):
    return jaxcam.evaluate(tiny, examples, METHODS, ["adcc", "pointing", "found"], target="label")
