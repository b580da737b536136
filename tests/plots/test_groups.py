import numpy as np
import pytest

import jaxcam
import jaxcam.plots


def test_mean_maps_by_group():
    rng = np.random.default_rng(0)
    images, maps = rng.uniform(size=(5, 12, 12, 3)), rng.uniform(size=(5, 4, 4)) * np.arange(5)[:, None, None]
    groups = ["a", "b", "a", "b", "a"]
    figure = jaxcam.plots.mean_maps(images, {"CAM": maps}, groups)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["a, 3 images", "CAM", "b, 2 images", "CAM"]
    for members, image_panel, map_panel in (([0, 2, 4], *panels[:2]), ([1, 3], *panels[2:])):
        np.testing.assert_allclose(image_panel.images[0].get_array(), images[members].mean(0), atol=1e-5)
        # The map of image 0 is zero: it counts as zeros.
        mean = sum(maps[i] / maps[i].max() if i else 0 * maps[i] for i in members) / len(members)
        expected = jaxcam.normalize(jaxcam.resize(mean.astype(np.float32), (12, 12)))
        np.testing.assert_allclose(map_panel.images[1].get_array(), expected, atol=1e-5)
    with pytest.raises(ValueError, match="expected one group for each image, got 5 groups and 4 maps of CAM"):
        jaxcam.plots.mean_maps(images, {"CAM": maps[:4]}, groups)
