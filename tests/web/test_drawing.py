"""What the page draws, and where a click falls."""

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import jaxcam
from jaxcam.web import _drawing

REGIONS = {
    "square": (0.0, 15.0, 50.0, 65.0),
    "whole": (0.0, 0.0, 50.0, 80.0),
    "padded": (-15.0, 0.0, 65.0, 80.0),
    "crop": (3.1, 18.3, 46.9, 61.7),
}


@pytest.mark.parametrize("name", REGIONS)
def test_the_map_lies_where_the_network_looked(name):
    rng = np.random.default_rng(0)
    picture, saliency = rng.uniform(size=(50, 80, 3)).astype(np.float32), rng.uniform(size=(7, 7)).astype(np.float32)
    row0, column0, row1, column1 = (round(side) for side in REGIONS[name])
    fine = np.asarray(jaxcam.normalize(jnp.asarray(saliency)))
    fine = np.asarray(jaxcam.resize(jnp.asarray(fine), (row1 - row0, column1 - column0)))
    colors = matplotlib.colormaps[jaxcam.plots.COLORMAP](fine)[..., :3]
    expected = picture.copy()
    for row in range(max(row0, 0), min(row1, 50)):
        for column in range(max(column0, 0), min(column1, 80)):
            expected[row, column] = 0.5 * picture[row, column] + 0.5 * colors[row - row0, column - column0]
    drawn = _drawing.overlay(picture, saliency, REGIONS[name])
    assert np.abs(drawn - expected).max() < 0.02 and np.abs(drawn - expected).mean() < 1e-3


def test_a_constant_map_is_drawn_as_zeros():
    drawn = _drawing.overlay(np.ones([8, 8, 3], np.float32), np.full([2, 2], 3.0, np.float32), (0, 0, 8, 8))
    lowest = np.array(matplotlib.colormaps[jaxcam.plots.COLORMAP](0.0)[:3])
    np.testing.assert_allclose(drawn, np.broadcast_to(0.5 + 0.5 * lowest, (8, 8, 3)), atol=1e-6)


@pytest.mark.parametrize("name", REGIONS)
def test_a_click_finds_the_neuron_whose_cell_it_hits(name):
    row0, column0, row1, column1 = REGIONS[name]
    for row in range(5):
        for column in range(7):
            pixel = (
                row0 + (row + 0.5) * (row1 - row0) / 5 - 0.5,
                column0 + (column + 0.5) * (column1 - column0) / 7 - 0.5,
            )
            assert _drawing.neuron_at(pixel, REGIONS[name], (5, 7)) == (row, column)
    for pixel in ((row0 - 2, column0 + 1), (row0 + 1, column0 - 2), (row1 + 1, column0 + 1), (row0 + 1, column1 + 1)):
        assert _drawing.neuron_at(pixel, REGIONS[name], (5, 7)) is None


def test_chosen_neurons_are_outlined():
    mask = np.zeros([4, 4], bool)
    mask[1, 1] = mask[1, 2] = True
    drawn = _drawing.outlined(np.zeros([400, 400, 3], np.float32), mask, (0.0, 0.0, 400.0, 400.0))[..., 0]
    rows, columns = np.nonzero(drawn)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (100, 199, 100, 299)
    assert not drawn[104:196, 104:296].any(), "a line around both, and none between them"
    assert not _drawing.outlined(np.zeros([40, 40, 3], np.float32), np.zeros([4, 4], bool), (0, 0, 40, 40)).any()


@pytest.mark.parametrize(
    ("size", "drawn"), [((64, 64), (480, 480)), ((3000, 4000), (720, 960)), ((500, 700), (500, 700))]
)
def test_the_size_of_a_drawn_picture(size, drawn):
    assert _drawing.drawn_picture(np.zeros([*size, 3], np.float32)).shape == (*drawn, 3)
