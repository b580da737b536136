"""Where does a group's evidence lie? The energy of maps in named regions, by group of images.

A network that reads a tag in the corner instead of the animal has its maps on the tag, and more so for the classes that
the tag goes with. The report says it in numbers, with intervals, beside the area of the region, which is what a map
that is the same everywhere scores.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> maps = {"before": rng.uniform(size=[40, 8, 8]), "after": rng.uniform(size=[40, 8, 8])}
>>> maps["before"][:20, :2, :2] += 5.0  # the maps of the first group lie on the corner
>>> corner = np.zeros([8, 8], bool)
>>> corner[:2, :2] = True
>>> print(evidence_by_group(maps, {"corner": corner}, ["cats"] * 20 + ["dogs"] * 20))
the share of the map on each region, with 95% intervals; * differs from before on the same images
| region | group | images | area | before | after |
|---|---|---|---|---|---|
| corner | cats | 20 | 0.062 | 0.421 [0.411, 0.430] | 0.061 [0.054, 0.068]* |
| corner | dogs | 20 | 0.062 | 0.070 [0.060, 0.079] | 0.057 [0.047, 0.065] |
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcam.evaluation import Estimate, paired_estimates
from jaxcam.formulas import maps as saliency_maps
from jaxcam.metrics import energy


class Evidence(NamedTuple):
    """The energy of maps in regions by group; `evidence_by_group` makes it. It prints as a Markdown table.

    Attributes:
      energies: for each name of maps and each region, the share of the map's sum that lies in the region, `[n]`; NaN
        for an image without the region.
      areas: for each region its share of the image, `[n]`: what a map that is the same everywhere scores.
      groups: the group of each image.
      reference: the name of the maps that the others are compared with, on the same images.
      estimates: by region, group and name, the mean with its interval, and the paired difference from the reference.
      blank: for each name the number of maps that are zero everywhere, whose energies are 0.
    """

    energies: dict[str, dict[str, np.ndarray]]
    areas: dict[str, np.ndarray]
    groups: tuple[Hashable, ...]
    reference: str
    estimates: dict[str, dict[Hashable, dict[str, Estimate]]]
    blank: dict[str, int]

    def __str__(self) -> str:
        names = list(self.energies)
        compared = f"; * differs from {self.reference} on the same images" if len(names) > 1 else ""
        lines = [
            f"the share of the map on each region, with 95% intervals{compared}",
            f"| region | group | images | area | {' | '.join(names)} |",
            "|---|---|---|---|" + "---|" * len(names),
        ]
        for region, by_group in self.estimates.items():
            for group, by_name in by_group.items():
                counted = np.array([label == group for label in self.groups]) & (self.areas[region] > 0)
                cells = [_cell(estimate) for estimate in by_name.values()]
                area = self.areas[region][counted].mean()
                lines.append(f"| {region} | {group} | {counted.sum()} | {area:.3f} | {' | '.join(cells)} |")
        for name, count in self.blank.items():
            if count:
                lines.append(f"{count} of {len(self.groups)} maps of {name} are zero everywhere and count as 0")
        return "\n".join(lines)


def evidence_by_group(
    maps: Mapping[str, Any],
    regions: Mapping[str, Any],
    groups: Sequence[Hashable],
    *,
    reference: str | None = None,
) -> Evidence:
    """The energy of maps in named regions by group of images, with paired bootstrap intervals.

    Args:
      maps: for each name the maps of n images, `[n *spatial]`, at least 0, at any resolution. Names are methods, or
        one method on a network before and after it was mended.
      regions: for each name a mask `[*spatial]` bool for all images, or one for each, `[n *spatial]`. Maps are resized
        to it. An image whose mask is empty does not count.
      groups: the group of each image, such as its class; any values with a hash.
      reference: the name of the maps that the others are compared with; None for the first.

    Returns:
      An `Evidence`. Regions and groups of which no image has a pixel are left out of its estimates.

    Raises:
      TypeError: maps or regions are not by name, or a mask is not bool.
      ValueError: there is no group or one is NaN, numbers of images differ, a map is negative or not finite, or the
        reference is another name.

    Selvaraju et al., "Grad-CAM", ICCV 2017, "Identifying bias in dataset", looks at maps of single images for this.
    """
    groups = tuple(groups.tolist() if hasattr(groups, "tolist") else groups)
    if not groups or any(group != group for group in groups):
        raise ValueError("expected a group for each image, at least one, and none that is NaN")
    by_name = {name: _checked_maps(name, stack, len(groups)) for name, stack in _named("maps", maps).items()}
    reference = next(iter(by_name)) if reference is None else reference
    if reference not in by_name:
        raise ValueError(f"reference is {reference!r}: choose one of {', '.join(by_name)}")
    masks = {name: _checked_masks(name, mask, groups, by_name) for name, mask in _named("regions", regions).items()}
    areas = {region: mask.reshape(len(groups), -1).mean(1) for region, mask in masks.items()}
    energies = {
        name: {region: np.where(areas[region] > 0, _energies(stack, mask), np.nan) for region, mask in masks.items()}
        for name, stack in by_name.items()
    }
    estimates: dict[str, dict[Hashable, dict[str, Estimate]]] = {}
    for region in masks:
        matrix = np.stack([energies[name][region] for name in by_name], axis=-1)
        for group in dict.fromkeys(groups):
            counted = np.array([label == group for label in groups]) & (areas[region] > 0)
            if counted.any():
                row = paired_estimates(matrix[counted][:, None], list(by_name).index(reference))[0]
                estimates.setdefault(region, {})[group] = dict(zip(by_name, row, strict=True))
    blank = {name: int((stack.reshape(len(groups), -1).max(1) == 0).sum()) for name, stack in by_name.items()}
    return Evidence(energies, areas, groups, reference, estimates, blank)


def _named(argument, values):
    if not isinstance(values, Mapping) or not values:
        raise TypeError(f"expected a dict by name for {argument}, with at least one, got {type(values).__name__}")
    return values


def _checked_maps(name, stack, count):
    array = np.asarray(stack, np.float32)
    if array.ndim < 2 or len(array) != count:
        raise ValueError(f"expected {name!r} with a map for each of the {count} groups' images, got {array.shape}")
    if not np.isfinite(array).all() or array.min(initial=0) < 0:
        raise ValueError(
            f"expected finite maps of at least 0, got values from {array.min()} to {array.max()} in {name!r}"
        )
    # The energy does not depend on a map's scale, and its sums do not overflow for maps of at most 1.
    tops = array.reshape(count, -1).max(1)
    return array / np.where(tops > 0, tops, 1).reshape(-1, *[1] * (array.ndim - 1))


def _checked_masks(name, mask, groups, by_name):
    """The masks of a region, one for each image, `[n *spatial]`."""
    array = np.asarray(mask)
    if array.dtype != bool:
        raise TypeError(f"expected a mask of bool for the region {name!r}, such as trimap == 1, got {array.dtype}")
    axes = next(iter(by_name.values())).ndim - 1
    if array.ndim == axes:
        return np.broadcast_to(array, (len(groups), *array.shape))
    if array.ndim != axes + 1 or len(array) != len(groups):
        raise ValueError(
            f"expected a mask [*spatial] with {axes} axes for the region {name!r}, or one for each of the "
            f"{len(groups)} images, got shape {array.shape}"
        )
    return array


@jax.jit
def _energies(stack, masks):
    return jax.lax.map(lambda pair: energy(saliency_maps.resize(pair[0], pair[1].shape), pair[1]), (stack, masks))


def _cell(estimate):
    mark = "*" if estimate.differs else ""
    return f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]{mark}"
