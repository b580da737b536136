"""Energy by group against NumPy loops."""

import numpy as np
import pytest

from jaxcam.analysis import bias


def case():
    rng = np.random.default_rng(0)
    maps = {name: rng.uniform(size=(24, 4, 4)).astype(np.float32) for name in ("before", "after")}
    masks = rng.uniform(size=(24, 4, 4)) < 0.3
    masks[5] = False
    maps["before"][7] = 0
    groups = ["a", "b", "a"] * 8
    return maps, masks, groups


def test_energies_and_estimates_are_those_of_loops():
    maps, masks, groups = case()
    corner = np.zeros((4, 4), bool)
    corner[:2, :2] = True
    report = bias.evidence_by_group(maps, {"tag": masks, "corner": corner}, groups)
    for region, of_image in (("tag", lambda i: masks[i]), ("corner", lambda i: corner)):
        rows = {"a": [], "b": []}
        for i, group in enumerate(groups):
            energies = [float(m[i][of_image(i)].sum() / m[i].sum()) if m[i].any() else 0.0 for m in maps.values()]
            if of_image(i).any():
                rows[group].append(energies)
                shown = [report.energies[name][region][i] for name in maps]
                np.testing.assert_allclose(shown, energies, rtol=1e-5)
        for group, energies in rows.items():
            before, after = report.estimates[region][group].values()
            np.testing.assert_allclose([before.mean, after.mean], np.mean(energies, 0), rtol=1e-5)
            np.testing.assert_allclose(after.difference, np.diff(np.mean(energies, 0))[0], atol=1e-6)
            assert before.images == len(energies) and before.difference == 0
            assert after.difference_low < after.difference < after.difference_high
    assert np.isnan(report.energies["before"]["tag"][5]) and report.energies["before"]["corner"][7] == 0
    np.testing.assert_allclose(report.areas["corner"], 0.25)
    assert report.blank == {"before": 1, "after": 0}
    assert str(report).endswith("1 of 24 maps of before are zero everywhere and count as 0")


def test_a_planted_tag_is_found_in_its_group_alone():
    maps, _, groups = case()
    tag = np.zeros((8, 8), bool)  # at twice the resolution of the maps
    tag[:2, :2] = True
    for i, group in enumerate(groups):
        if group == "a":
            maps["before"][i, 0, 0] = 20
    report = bias.evidence_by_group(maps, {"tag": tag}, groups, reference="after")
    assert report.estimates["tag"]["a"]["before"].differs and not report.estimates["tag"]["b"]["before"].differs
    lines = str(report).splitlines()
    assert lines[0].endswith("* differs from after on the same images") and len(lines) == 6
    assert lines[3].startswith("| tag | a | 16 | 0.062 |") and lines[3].count("*") == 1 and "*" not in lines[4]


def test_refusals():
    maps, masks, groups = case()
    with pytest.raises(TypeError, match="expected a dict by name for maps, with at least one, got ndarray"):
        bias.evidence_by_group(maps["before"], {"tag": masks}, groups)
    with pytest.raises(TypeError, match="expected a mask of bool for the region 'tag', .* got int64"):
        bias.evidence_by_group(maps, {"tag": masks.astype("int64")}, groups)
    with pytest.raises(
        ValueError, match=r"with 2 axes for the region 'tag', or one for each of the 24 images, got shape"
    ):
        bias.evidence_by_group(maps, {"tag": masks[:3]}, groups)
    with pytest.raises(ValueError, match="expected 'before' with a map for each of the 3 groups' images"):
        bias.evidence_by_group(maps, {"tag": masks}, groups[:3])
    with pytest.raises(ValueError, match="reference is 'earlier': choose one of before, after"):
        bias.evidence_by_group(maps, {"tag": masks}, groups, reference="earlier")
    with pytest.raises(ValueError, match="expected finite maps of at least 0, got values from -0.9"):
        bias.evidence_by_group({"signed": maps["after"] - 1}, {"tag": masks}, groups)


def test_groups_are_any_values_and_none_is_lost():
    maps, mask = {"a": np.ones((4, 2, 2), np.float32)}, {"left": np.array([[True, False], [True, False]])}
    assert list(bias.evidence_by_group(maps, mask, np.array([0, 0, 1, 1])).estimates["left"]) == [0, 1]
    for groups in ([0, 0, float("nan"), 1], []):
        with pytest.raises(ValueError, match="expected a group for each image, at least one, and none that is NaN"):
            bias.evidence_by_group(maps, mask, groups)


def test_the_scale_of_a_map_does_not_count():
    mask = {"corner": np.arange(64).reshape(8, 8) < 8}
    maps = {"small": np.full((2, 8, 8), 1e-30), "large": np.full((2, 8, 8), 3e38), "zero": np.zeros((2, 8, 8))}
    energies = bias.evidence_by_group(maps, mask, [0, 1]).energies
    assert [float(energies[name]["corner"][0]) for name in maps] == [0.125, 0.125, 0]
