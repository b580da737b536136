"""Figures on a page: titles fit, color bars are as high as the pictures, text is legible, and the ground is white."""

import io

import matplotlib
import numpy as np
import pytest
from PIL import Image

import jaxcam.plots
from jaxcam.datasets import images

PICTURES = {shape: np.random.default_rng(0).uniform(size=(*shape, 3)) for shape in ((32, 48), (48, 20), (10, 60))}
MAP = np.random.default_rng(1).uniform(size=(8, 12))
LONG = "'German short-haired pointer, a dog with a name that is too long for any panel of a figure', 98.2%"
FIGURES = {
    "one": lambda picture: jaxcam.plots.compare([picture], {"Grad-CAM": [MAP]}),
    "long": lambda picture: jaxcam.plots.compare(
        [picture] * 2, {LONG: [MAP, MAP], "b": [MAP, MAP]}, titles=[f"{LONG}\nat {LONG.replace(' ', '_')}", "b"]
    ),
    "family": lambda picture: jaxcam.plots.family(picture, {f"{LONG} {i}": MAP for i in range(6)}, columns=5),
    "filters": lambda picture: jaxcam.plots.filters(picture, [MAP] * 6, range(6)),
    "neurons": lambda picture: jaxcam.plots.neurons(picture, MAP, [(1, 2)], whole=MAP),
    "differences": lambda picture: jaxcam.plots.differences(
        [picture], {LONG: [MAP], "b": [MAP]}, {LONG: ["energy 0.4"], "b": ["energy 0.5"]}, heading=LONG * 3
    ),
}


@pytest.mark.parametrize("shape", [(32, 48), *(pytest.param(s, marks=pytest.mark.long) for s in [(48, 20), (10, 60)])])
@pytest.mark.parametrize("name", FIGURES)
def test_titles_fit_and_the_color_bar_is_as_high_as_the_pictures(name, shape):
    figure = FIGURES[name](PICTURES[shape])
    figure.canvas.draw()
    width, height = figure.bbox.size
    *panels, bar = figure.axes
    for axes in panels:
        picture, title = axes.get_window_extent(), axes.title.get_window_extent()
        middle = (picture.x0 + picture.x1) / 2
        assert title.width <= 2.45 * figure.dpi and title.y1 <= height + 1 and title.y0 >= picture.y1
        others = [other.get_window_extent() for other in panels if other is not axes]
        assert not any(title.overlaps(other) for other in others), "over no other picture"
        neighbors = [other.title.get_window_extent() for other in panels if other is not axes and other.get_title()]
        assert not any(title.overlaps(other) for other in neighbors)
        assert picture.x0 >= 0 and picture.x1 <= width and abs((title.x0 + title.x1) / 2 - middle) < 2
        assert picture.height / picture.width == pytest.approx(shape[0] / shape[1], rel=1e-3), "at its aspect"
    pictures = [axes.get_window_extent() for axes in panels]
    assert bar.get_window_extent().y0 == pytest.approx(min(p.y0 for p in pictures), abs=0.5)
    assert bar.get_window_extent().y1 == pytest.approx(max(p.y1 for p in pictures), abs=0.5)
    assert bar.get_tightbbox().x1 <= width + 1 and legend_of(figure) == "each map, min to max"


def legend_of(figure):
    """What is written beside the color bar, or below the pictures."""
    label = figure.axes[-1].get_ylabel() or next(t.get_text() for t in figure.texts if "min to max" in t.get_text())
    return label.replace("\n", " ")


@pytest.mark.parametrize("name", FIGURES)
def test_text_is_legible_at_800_pixels(name):
    figure = FIGURES[name](PICTURES[32, 48])
    inches = figure.get_size_inches()[0]
    for axes in figure.axes[:-1]:
        assert axes.title.get_fontsize() / 72 / inches * 800 >= 10.9
    assert figure.axes[-1].yaxis.label.get_fontsize() / 72 / inches * 800 >= 9.9


def test_figures_are_white_in_every_style():
    with matplotlib.rc_context({"figure.facecolor": "black", "text.color": "white", "axes.titlecolor": "white",
                                "savefig.transparent": True, "axes.labelcolor": "white"}):  # fmt: skip
        figure = jaxcam.plots.compare([PICTURES[32, 48]], {"map": [MAP]})
        content = figure._repr_png_()
    with Image.open(io.BytesIO(content)) as shown:
        pixels = np.asarray(shown.convert("RGBA"))
    assert (pixels[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all(), "white and opaque at the corners"
    assert figure.axes[0].title.get_color() == "black"


def test_maps_of_a_row_share_a_scale_or_say_that_they_do_not():
    maps = {"strong": [4 * MAP], "weak": [MAP]}
    each = jaxcam.plots.compare([PICTURES[32, 48]], maps)
    shared = jaxcam.plots.compare([PICTURES[32, 48]], maps, scale="row")
    drawn = [[axes.images[1].get_array() for axes in figure.axes[1:3]] for figure in (each, shared)]
    np.testing.assert_allclose(drawn[0][0], drawn[0][1], atol=1e-6)
    resized = np.asarray(jaxcam.resize(MAP, (32, 48)))
    low, high = resized.min(), 4 * resized.max()
    np.testing.assert_allclose(drawn[1][1], (resized - low) / (high - low), atol=1e-6)
    np.testing.assert_allclose(drawn[1][0], (4 * resized - low) / (high - low), atol=1e-6)
    assert each.axes[-1].get_ylabel().startswith("each map")
    assert shared.axes[-1].get_ylabel().startswith("maps of a row")


def test_hidden_pixels_do_not_change_the_scale():
    hidden = np.zeros((8, 8), bool)
    hidden[:, :4] = True
    values = np.ma.MaskedArray(np.where(hidden, -100, np.linspace(1, 3, 8)), hidden)
    figure = jaxcam.plots.compare([np.ones([8, 8, 3])], {"map": [values]})
    drawn = figure.axes[1].images[1].get_array()
    assert drawn[0, 4] == pytest.approx(0, abs=1e-6) and drawn[0, 7] == pytest.approx(1) and drawn.mask[:, :4].all()


def test_a_mask_keeps_what_is_above_the_threshold():
    saliency = np.linspace(0, 1, 64).reshape(8, 8)
    figure = jaxcam.plots.compare([np.ones([8, 8, 3])], {"map": [saliency]}, style="mask", threshold=0.25)
    shade = np.asarray(figure.axes[1].images[1].get_array())[..., 3]
    np.testing.assert_array_equal(shade > 0, saliency < 0.25)
    assert len(figure.axes) == 2, "no color bar, because no color stands for a value"
    assert "at least 0.25" in figure.texts[0].get_text()


def test_contours_are_at_the_levels():
    saliency = np.tile(np.linspace(0, 1, 33), (33, 1))
    figure = jaxcam.plots.compare([np.ones([33, 33, 3])], {"map": [saliency]}, style="contour", threshold=0.5)
    (lines,) = figure.axes[1].collections
    (path,) = lines.get_paths()
    np.testing.assert_allclose(path.vertices[:, 0], 16, atol=1e-4)
    jaxcam.plots.compare([np.ones([8, 8, 3])], {"map": [np.zeros([8, 8])]}, style="contour")  # of nothing, no line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "heat"}, "no style 'heat': choose one of overlay, mask, contour"),
        ({"scale": "all"}, "no scale 'all': choose one of each, row"),
        ({"colormap": "jetset"}, "no colormap 'jetset'"),
        ({"threshold": 2.0}, "expected threshold in 0..1, got 2"),
        ({"alpha": -1.0}, "expected alpha in 0..1, got -1"),
    ],
)
def test_mistakes_of_drawing(options, message):
    with pytest.raises(ValueError, match=message):
        jaxcam.plots.compare([PICTURES[32, 48]], {"map": [MAP]}, **options)


def test_an_animation_has_its_frames_at_one_size(tmp_path):
    figures = [jaxcam.plots.compare([p], {"map": [MAP]}) for p in (PICTURES[32, 48], PICTURES[10, 60])]
    jaxcam.plots.animate(figures, tmp_path / "x.gif", seconds=0.5)
    with Image.open(tmp_path / "x.gif") as opened:
        assert opened.n_frames == 2 and opened.info["duration"] == 500 and opened.info["loop"] == 0
        height = opened.height
    first = images.read(tmp_path / "x.gif")
    assert first.shape[0] == height and first[0, 0].min() > 0.99
    with pytest.raises(FileExistsError, match="x.gif exists already"):
        jaxcam.plots.animate(figures, tmp_path / "x.gif")
    with pytest.raises(ValueError, match="ends in '.png': an animation is written as .gif"):
        jaxcam.plots.animate(figures, tmp_path / "x.png")
    with pytest.raises(ValueError, match="there are no figures"):
        jaxcam.plots.animate([], tmp_path / "y.gif")
    with pytest.raises(ValueError, match="expected seconds above 0, got 0"):
        jaxcam.plots.animate(figures, tmp_path / "y.gif", seconds=0)
    assert [path.name for path in tmp_path.iterdir()] == ["x.gif"]
