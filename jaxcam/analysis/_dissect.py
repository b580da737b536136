"""Network Dissection: the concept that each channel detects, by the overlap of its highest values with masks."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base import checks
from jaxcam._base.numerics import as_floats
from jaxcam.cutting import Cut, check_cut, check_spatial
from jaxcam.formulas import maps

QUANTILE = 0.005
LEAST_IOU = 0.04
# Resizing a plateau of one value may round it down.
ROUNDING = 1e-6
SHOWN_CONCEPTS = 12


class Dissection(NamedTuple):
    """What each channel of a layer detects. It prints as a list of concepts with their channels.

    Attributes:
      layer: the layer's name.
      concepts: the names of the concepts.
      iou: `[channels concepts]`, the overlap of a channel's highest values with a concept's masks, in 0..1.
      thresholds: `[channels]`, the value from which a channel counts as active; infinite for a constant channel.
      least_iou: the overlap from which a channel has a concept's name.
      images: the number of images.
    """

    layer: str
    concepts: tuple[str, ...]
    iou: np.ndarray
    thresholds: np.ndarray
    least_iou: float
    images: int

    @property
    def names(self) -> tuple[str | None, ...]:
        """For each channel the concept of its largest IoU, or None if that is below `least_iou`."""
        best = self.iou.argmax(1)
        return tuple(
            self.concepts[concept] if self.iou[channel, concept] >= self.least_iou else None
            for channel, concept in enumerate(best)
        )

    def channels(self, concept: str) -> list[int]:
        """The channels that have a concept's name, by falling IoU.

        Raises:
          ValueError: there is no such concept.
        """
        if concept not in self.concepts:
            raise ValueError(f"there is no concept {concept!r}: choose one of {', '.join(self.concepts)}")
        of_concept = self.iou[:, self.concepts.index(concept)]
        named = [channel for channel, name in enumerate(self.names) if name == concept]
        return sorted(named, key=lambda channel: -of_concept[channel])

    def __str__(self) -> str:
        by_concept = {concept: self.channels(concept) for concept in self.concepts}
        detectors = sum(map(len, by_concept.values()))
        unique = sum(bool(channels) for channels in by_concept.values())
        lines = [
            f"{self.layer or 'the cut'}: {detectors} of {len(self.iou)} channels detect {unique} of "
            f"{len(self.concepts)} concepts, IoU at least {self.least_iou:g}, on {self.images} images"
        ]
        order = sorted(by_concept, key=lambda concept: (-len(by_concept[concept]), self.concepts.index(concept)))
        for concept in [concept for concept in order if by_concept[concept]][:SHOWN_CONCEPTS]:
            channels = by_concept[concept]
            best = self.iou[channels[0], self.concepts.index(concept)]
            shown = ", ".join(map(str, channels[:8])) + (", ..." if len(channels) > 8 else "")
            lines.append(f"  {concept}: {len(channels)}, best IoU {best:.3f} (channels {shown})")
        return "\n".join(lines)


def dissect(
    cut: Cut,
    images: Any,
    masks: Mapping[str, Any],
    *,
    labeled: Mapping[str, Any] | None = None,
    quantile: float = QUANTILE,
    least_iou: float = LEAST_IOU,
    batch_size: int = 16,
) -> Dissection:
    """Network Dissection: for each channel, the concepts whose masks its highest values overlap.

    T_k is the value that channel k exceeds at a share `quantile` of all locations of all images. The channel, resized
    to the masks, is active where it is at least T_k. IoU(k, c) = sum over images of |active and mask| / sum over images
    of |active or mask|. For a channel that is at its minimum at more than 1 - `quantile` of the locations, such as one
    behind a relu that is nearly always zero, T_k is half of the way from its minimum to its next value. Masks with
    fewer pixels than the channel has locations are repeated to its locations.

    Args:
      cut: a `Cut`.
      images: `[n *spatial c]`, floats in the model's range.
      masks: for each concept its masks, `[n *spatial]` bool, at any resolution, the same for all concepts. An image
        without the concept has an empty mask.
      labeled: for a concept the images that are labeled for it, `[n]` bool, where data sets with different concepts are
        joined: its IoU counts these images alone, and its masks of others are not read. A concept that is not in it is
        labeled in all images, as all are by default. The thresholds count all images.
      quantile: the share of locations at which a channel is active; the paper has 0.005. Few images have few locations:
        with less than 1 / quantile of them the result is noise, and is refused.
      least_iou: the overlap from which a channel has a concept's name; the paper has 0.04, its first version 0.05.
      batch_size: images at a time. The activations of all images are kept on the host, in float32.

    Returns:
      A `Dissection`.

    Raises:
      TypeError: the cut is a model or at several layers; masks or `labeled` are not bool, or not by name.
      ValueError: there are no masks, their shapes differ, or they do not fit the images; `labeled` has a name that is
        no concept; `quantile` is not in 0..1, or the images have too few locations for it.

    Bau et al., "Network dissection: quantifying interpretability of deep visual representations", CVPR 2017.

    Example:
      >>> import jaxcam
      >>> red_and_blue = jaxcam.Cut((), lambda params, x: x[..., ::2], lambda params, A, x: A.mean((0, 1)), "colors")
      >>> image = jnp.zeros([1, 16, 16, 3]).at[0, :4, :4, 0].set(1.0).at[0, 8:, 8:, 2].set(1.0)
      >>> corner = jnp.zeros([1, 16, 16], bool).at[0, :4, :4].set(True)
      >>> print(dissect(red_and_blue, image, {"corner": corner}))
      colors: 1 of 2 channels detect 1 of 1 concepts, IoU at least 0.04, on 1 images
        corner: 1, best IoU 1.000 (channels 0)
    """
    check_cut(cut)
    checks.check_count("batch_size", batch_size, at_least=1)
    images = _checked_images(images)
    stacked = _checked_masks(masks, len(images))
    known = _checked_labeled(labeled, tuple(masks), len(images))
    activations = _activations(cut, images, batch_size)
    if not 0 < quantile < 1:
        raise ValueError(f"expected a quantile in 0..1, exclusive, got {quantile}")
    locations = activations[..., 0].size
    if locations * quantile < 1 - ROUNDING:
        raise ValueError(
            f"expected at least {int(np.ceil(1 / quantile))} locations for quantile={quantile:g}, got {locations} in "
            f"{len(images)} images of {list(activations.shape[1:-1])} locations: give more images"
        )
    thresholds = _thresholds(activations.reshape(-1, activations.shape[-1]), quantile)
    stacked = _no_coarser_than(activations.shape[1:-1], stacked, cut.layer)
    overlaps = _overlaps(activations, thresholds, stacked, known, batch_size)
    return Dissection(cut.layer, tuple(masks), overlaps, thresholds, least_iou, len(images))


def _checked_images(images):
    images = np.asarray(images)
    if not jnp.issubdtype(images.dtype, jnp.floating) or images.ndim < 2 or not len(images):
        raise TypeError(f"expected images [n *spatial c], floats, got {images.dtype} of shape {images.shape}")
    return images


def _checked_masks(masks, count):
    """The masks of all concepts, `[concepts n *spatial]`."""
    if not isinstance(masks, Mapping):
        raise TypeError(f"expected a dict of masks by concept, got a {type(masks).__name__}")
    if not masks:
        raise ValueError("there are no concepts: expected at least one, with its masks")
    arrays = {concept: np.asarray(array) for concept, array in masks.items()}
    shape = next(iter(arrays.values())).shape
    for concept, array in arrays.items():
        if array.dtype != bool:
            raise TypeError(f"expected masks of bool, such as trimap == 1, got {array.dtype} for {concept!r}")
        if array.ndim < 2 or len(array) != count:
            raise ValueError(
                f"expected masks [{count} *spatial], one for each image, got {array.shape} for {concept!r}"
            )
        if array.shape != shape:
            raise ValueError(
                f"expected masks of one shape, got {array.shape} for {concept!r} and {shape} for {next(iter(arrays))!r}"
            )
    return np.stack(list(arrays.values()))


def _no_coarser_than(spatial, masks, layer):
    """The masks `[concepts n *spatial]`, repeated along the axes in which they have less than the layer's locations."""
    if masks.ndim - 2 != len(spatial):
        raise ValueError(
            f"expected masks with the {len(spatial)} axes of the layer {layer!r}, {spatial}, got {masks.shape[2:]}"
        )
    for axis, size in enumerate(spatial, start=2):
        if masks.shape[axis] < size:
            masks = masks.take(np.arange(size) * masks.shape[axis] // size, axis)
    return masks


def _checked_labeled(labeled, concepts, count):
    """Whether each image is labeled for each concept, `[concepts n]`."""
    known = np.ones((len(concepts), count), bool)
    if labeled is None:
        return known
    if not isinstance(labeled, Mapping):
        raise TypeError(f"expected a dict by concept for labeled, got a {type(labeled).__name__}")
    for concept, images in labeled.items():
        array = np.asarray(images)
        if concept not in concepts:
            raise ValueError(f"labeled has no concept {concept!r}: choose from {', '.join(concepts)}")
        if array.dtype != bool:
            raise TypeError(f"expected bool in labeled, got {array.dtype} for {concept!r}")
        if array.shape != (count,):
            raise ValueError(f"expected labeled [{count}], one for each image, got {array.shape} for {concept!r}")
        known[concepts.index(concept)] = array
    return known


@jax.jit
def _features(cut, images):
    return jax.lax.map(lambda image: as_floats(cut.features(cut.params, image)), images)


def _activations(cut, images, batch_size):
    """The activations of all images, `[n *spatial k]`, on the host."""
    check_spatial(cut.layer, jax.eval_shape(cut.features, cut.params, images[0]))
    parts = [np.asarray(_features(cut, images[i : i + batch_size])) for i in range(0, len(images), batch_size)]
    activations = np.concatenate(parts)
    if not np.isfinite(activations).all():
        raise ValueError(f"the activation at {cut.layer or 'this cut'!r} has values that are NaN or infinite")
    return activations


def _thresholds(values: np.ndarray, quantile: float) -> np.ndarray:
    """For values `[locations k]`, the least value that counts as active, `[k]`."""
    exceeding = max(1, int(quantile * len(values)))
    thresholds = np.partition(values, len(values) - exceeding, axis=0)[len(values) - exceeding]
    lowest = values.min(0)
    # A channel that is at its minimum nearly everywhere would be active everywhere.
    above = np.where(values > lowest, values, np.inf).min(0)
    # Half of the way, because resizing lowers a value that stands alone.
    half = np.where(np.isfinite(above), lowest / 2 + above / 2, np.inf)
    return np.where(thresholds > lowest, thresholds, half)


def _overlaps(activations, thresholds, masks, known, batch_size):
    """IoU `[channels concepts]`, over the images that are known to have a concept or not, `[concepts n]`."""
    masks = masks & np.expand_dims(known, tuple(range(2, masks.ndim)))
    intersections, active = np.zeros((len(thresholds), len(masks))), np.zeros((len(thresholds), len(masks)))
    bounds = jnp.asarray(thresholds - ROUNDING * np.abs(np.where(np.isfinite(thresholds), thresholds, 0)))
    for start in range(0, activations.shape[0], batch_size):
        chunk = slice(start, start + batch_size)
        both, alone = _counts(activations[chunk], bounds, masks[:, chunk])
        intersections += np.asarray(both, np.float64)
        active += np.asarray(alone, np.float64).T @ known[:, chunk].T
    covered = masks.reshape(len(masks), -1).sum(1)
    unions = active + covered[None] - intersections
    return np.divide(intersections, unions, out=np.zeros_like(intersections), where=unions > 0)


@jax.jit
def _counts(activations, bounds, masks):
    """The pixels of a chunk that are active and in the mask, `[k concepts]`, and each image's active ones, `[n k]`."""

    def of_image(total, image):
        A, masks = image
        channels = jnp.moveaxis(A, -1, 0)
        is_active = maps.resize(channels, masks.shape[1:]) >= jnp.expand_dims(bounds, range(1, channels.ndim))
        flat, flat_masks = is_active.reshape(len(channels), -1), masks.reshape(len(masks), -1)
        # Counts of one image are exact in float32, and sums over images in integers.
        both = jnp.dot(flat.astype(jnp.float32), flat_masks.astype(jnp.float32).T).astype(jnp.int32)
        return total + both, flat.sum(1).astype(jnp.int32)

    zeros = jnp.zeros((activations.shape[-1], len(masks)), jnp.int32)
    return jax.lax.scan(of_image, zeros, (activations, jnp.moveaxis(masks, 1, 0)))
