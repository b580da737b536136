import jax
import numpy as np
import pytest

import jaxcam
import jaxcam.plots

IMAGE = np.random.default_rng(0).uniform(size=(32, 48, 3))
MAP = np.random.default_rng(1).uniform(size=(8, 12))


def test_a_row_of_methods_for_each_image():
    figure = jaxcam.plots.compare([IMAGE, IMAGE], {"one": [MAP, MAP], "two": [MAP, 0 * MAP]}, titles=["a", "b"])
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["a", "one", "two", "b", "one", "two"]
    assert len(figure.axes) == 7, "and one color bar"
    drawn = panels[1].images[1].get_array()
    expected = jaxcam.normalize(jaxcam.resize(MAP, (32, 48)))
    np.testing.assert_allclose(drawn, expected, atol=1e-6)
    assert not panels[5].images[1].get_array().any(), "a map of zeros is drawn as zeros"


def test_rows_that_do_not_fit():
    with pytest.raises(ValueError, match="expected one map for each of the 2 images, got 1 maps of one"):
        jaxcam.plots.compare([IMAGE, IMAGE], {"one": [MAP]})
    with pytest.raises(ValueError, match="expected one map for each of the 2 chosen filters, got 1"):
        jaxcam.plots.filters(IMAGE, [MAP], [1, 2])


def test_filters():
    figure = jaxcam.plots.filters(IMAGE, [MAP, MAP], [3, 7])
    assert [axes.get_title() for axes in figure.axes[:3]] == ["input", "filter 3", "filter 7"]


def test_chosen_neurons_are_marked_where_they_are():
    figure = jaxcam.plots.neurons(IMAGE, MAP, [(1, 2), (3, 5)], region=True, whole=MAP)
    (box,) = figure.axes[0].patches
    assert box.get_xy() == (2 * 4 - 0.5, 1 * 4 - 0.5) and (box.get_width(), box.get_height()) == (16, 12)
    assert len(jaxcam.plots.neurons(IMAGE, MAP, [(1, 2), (3, 5)]).axes[0].patches) == 2


def test_saving(tmp_path):
    figure = jaxcam.plots.compare([IMAGE], {"one": [jax.numpy.asarray(MAP)]})
    jaxcam.plots.save(figure, tmp_path / "x.png")
    with pytest.raises(FileExistsError, match="x.png exists already"):
        jaxcam.plots.save(figure, tmp_path / "x.png")
    with pytest.raises(ValueError, match="ends in '.doc': choose one of"):
        jaxcam.plots.save(figure, tmp_path / "x.doc")
    jaxcam.plots.save(figure, tmp_path / "x.png", force=True)
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]
