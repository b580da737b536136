"""Occlusion beside loops in NumPy, in every layout of an image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(9, 7, 2, 3)).astype(np.float32)


def outputs_of(image):
    """Logits of an image `[9 7 2]`."""
    return np.tensordot(np.asarray(image, np.float64), WEIGHTS.astype(np.float64), 3) / 5


def cut_of(channel_axis=-1):
    def head(params, A, x):
        return jnp.tensordot(A, params, 3) / 5

    return jaxcam.Cut(
        jnp.asarray(WEIGHTS), lambda params, x: jnp.moveaxis(x, channel_axis, -1), head,
        image_channel_axis=channel_axis,
    )  # fmt: skip


def by_loops(image, target, patch, stride, baseline):
    """At each pixel, the mean fall of the logit over the patches that cover it."""
    total, count = np.zeros(image.shape[:2]), np.zeros(image.shape[:2])
    sides = zip(image.shape[:2], patch, stride, strict=True)
    starts = [sorted({min(s, n - p) for s in range(0, n - p + t, t)}) for n, p, t in sides]
    for row in starts[0]:
        for column in starts[1]:
            covered = np.array(image, np.float64)
            covered[row : row + patch[0], column : column + patch[1]] = baseline
            fall = outputs_of(image)[target] - outputs_of(covered)[target]
            total[row : row + patch[0], column : column + patch[1]] += fall
            count[row : row + patch[0], column : column + patch[1]] += 1
    assert count.min() > 0
    return total / count


IMAGE = RNG.uniform(size=(9, 7, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("patch", "stride", "baseline"),
    [((3, 3), (3, 3), 0.0), ((4, 3), (2, 3), 0.5), ((9, 7), (1, 1), [0.2, 0.7]), ((1, 1), (1, 1), 0.0)],
)
def test_it_is_the_mean_fall_over_the_patches(patch, stride, baseline):
    saliency = jaxcam.occlusion(
        cut_of(), IMAGE, 1, patch=patch, stride=stride, baseline=baseline, score=jaxcam.scores.logit, batch_size=4
    )
    np.testing.assert_allclose(saliency, by_loops(IMAGE, 1, patch, stride, baseline), atol=1e-5)


def test_channels_first_under_vmap_and_for_the_predicted_class():
    options = {"patch": 3, "stride": 2, "score": jaxcam.scores.logit}
    expected = by_loops(IMAGE, int(outputs_of(IMAGE).argmax()), (3, 3), (2, 2), 0.0)
    first = np.moveaxis(IMAGE, -1, 0)
    np.testing.assert_allclose(jaxcam.occlusion(cut_of(0), first, **options), expected, atol=1e-5)
    both = jax.vmap(lambda x: jaxcam.occlusion(cut_of(), x, 2, **options))(np.stack([IMAGE, IMAGE[::-1]]))
    np.testing.assert_allclose(both[0], by_loops(IMAGE, 2, (3, 3), (2, 2), 0.0), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 10}, "expected a patch of at most the image's 9 pixels, got 10"),
        ({"patch": 2, "stride": 3}, "expected a stride of at most the patch's 2 pixels, got 3"),
        ({"patch": (2, 2, 2), "stride": 1}, "expected patch to be one integer or 2, one for each axis"),
        ({"patch": 0, "stride": 1}, "patch"),
    ],
)
def test_what_cannot_be_covered(options, message):
    with pytest.raises(ValueError, match=message):
        jaxcam.occlusion(cut_of(), IMAGE, 0, **options)
