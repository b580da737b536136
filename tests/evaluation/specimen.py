"""A tiny network, its examples and what compares records, for every test of the evaluation."""

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam

SIDE, CLASSES = 12, 3
METHODS = {"Grad-CAM": jaxcam.grad_cam, "HiResCAM": jaxcam.hires_cam}


def features(params, x):
    return jax.nn.relu(
        jax.lax.conv_general_dilated(x[None], params[0], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]
    )


def head(params, A, x):
    return A.mean((0, 1)) @ params[1] + jnp.max(A, (0, 1)) @ params[2]


def example(seed, **given):
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 1, (SIDE, SIDE, 3)).astype(np.float32)
    mask = np.zeros((SIDE, SIDE), np.int8)
    mask[2:7, 3:9] = 1
    mask[7, 3:9] = -1
    boxes = np.array([[2, 3, 7, 9], [8, 8, 11, 12], [0, 0, 2, 2]][: 1 + seed % 3])
    known = {"image": image, "label": int(rng.integers(CLASSES)), "mask": mask, "boxes": boxes}
    return jaxcam.Example(**{**known, "name": f"image {seed}", **given})


def close(a, b, tolerance=2e-5):
    """Records that are the same to rounding."""
    assert a.keys() == b.keys()
    for column in a:
        np.testing.assert_allclose(a[column], b[column], atol=tolerance, rtol=tolerance, err_msg=column)
