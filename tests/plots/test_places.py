"""Boxes, strips and animations of clips: what is drawn where."""

import numpy as np
import pytest

from jaxcam import plots
from jaxcam.datasets import clips, images


def test_a_strip_shows_its_own_frames_and_one_scale():
    clip = np.linspace(0, 1, 5)[:, None, None, None] * np.ones([5, 8, 8, 3])
    saliency = np.zeros([5, 4, 4])
    saliency[2], saliency[4] = 1, 2
    figure = plots.strip(clip, {"map": saliency}, count=3)
    shown = [axes.images[0].get_array()[0, 0, 0] for axes in figure.axes[:6]]
    np.testing.assert_allclose(shown, [0, 0.5, 1] * 2)
    np.testing.assert_allclose([axes.images[1].get_array().max() for axes in figure.axes[3:6]], [0, 0.5, 1])
    with pytest.raises(ValueError, match=r"expected a map \[t h w\] of the clip's 5 frames for map, got \(4, 4, 4\)"):
        plots.strip(clip, {"map": saliency[1:]})


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_clip_in_bytes_is_shown_as_one_in_floats(tmp_path, dtype):
    levels = (np.arange(4) * 60)[:, None, None, None] * np.ones([4, 8, 8, 3])
    saliency = np.ones([4, 8, 8])
    figure = plots.strip(levels.astype(dtype), {"map": saliency}, count=4)
    shown = [axes.images[0].get_array()[0, 0, 0] for axes in figure.axes[:4]]
    np.testing.assert_allclose(shown, np.arange(4) * 60 / 255, atol=1e-6)
    plots.animate_clip(levels.astype(dtype), saliency, tmp_path / "clip.gif", height=8)
    left = clips.read(tmp_path / "clip.gif").frames[:, 4, 2, 0]
    np.testing.assert_allclose(left, np.arange(4) * 60 / 255, atol=0.03)
    for wrong in (np.nan, -1):
        with pytest.raises(ValueError, match="expected a map of finite values of at least 0"):
            plots.animate_clip(levels / 255, wrong * saliency, tmp_path / "wrong.gif")
    with pytest.raises(ValueError, match=r"expected a clip \[t h w 3\], got shape \(8, 8, 3\)"):
        plots.strip(levels[0], {"map": np.ones([8, 4, 4])})
    assert not (tmp_path / "wrong.gif").exists()


def test_a_box_is_drawn_round_its_pixels():
    figure = plots.boxes(np.ones([8, 8, 3]), [[1, 2, 5, 8]], [[np.eye(4)]], titles=["3"])
    for axes in figure.axes[:2]:
        (patch,) = axes.patches
        assert (patch.get_xy(), patch.get_width(), patch.get_height()) == ((1.5, 0.5), 6, 4)
    with pytest.raises(ValueError, match="expected at least one box"):
        plots.boxes(np.ones([8, 8, 3]), [], [], titles=[])


def test_an_animation_keeps_every_frame(tmp_path):
    clip, saliency = np.linspace(0, 1, 4)[:, None, None, None] * np.ones([4, 8, 8, 3]), np.ones([4, 8, 8])
    plots.animate_clip(clip, saliency, tmp_path / "clip.gif", height=16)
    assert clips.read(tmp_path / "clip.gif").frames.shape == (4, 16, 32, 3)
    assert images.frame_count(tmp_path / "clip.gif") == 4
    with pytest.raises(FileExistsError):
        plots.animate_clip(clip, saliency, tmp_path / "clip.gif")
    with pytest.raises(ValueError, match=r"expected a clip \[t h w 3\] and a map \[t h w\]"):
        plots.animate_clip(clip, saliency[:3], tmp_path / "other.gif")
