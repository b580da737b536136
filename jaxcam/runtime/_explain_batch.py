"""Many images: in chunks that fit the memory, over several devices, to files that a killed run goes on with.

    >>> import jax, jaxcam, numpy as np
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> images = np.stack([jaxcam.pretrained.digits_canvas(i)[0] for i in range(3)])
    >>> maps, failed = explain_batch(jaxcam.grad_cam, cut, images)
    >>> {name: saliency.shape for name, saliency in maps.items()}, failed
    ({'0': (16, 16), '1': (16, 16), '2': (16, 16)}, {})

A map in a folder is a file that is written under another name and renamed, so that a run stopped at any moment leaves
whole maps only. The same call goes on with the missing ones.
"""

import copy
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxcam._base import checks
from jaxcam._base.targets import with_static_leaves, without_static_leaves
from jaxcam._base.types import Method
from jaxcam.cutting import Cut, check_cut, check_target
from jaxcam.methods import map_of, score_of
from jaxcam.runtime._containers import as_sequence, check_axes, check_element, is_path
from jaxcam.runtime._driver import for_each
from jaxcam.runtime._figures import Figures
from jaxcam.runtime._fingerprint import describe_batch, recorded_sample
from jaxcam.runtime._lock import Share
from jaxcam.runtime._outputs import opened_output
from jaxcam.runtime._runner import Runner
from jaxcam.runtime._sources import Source, checked_names, checked_share, first_elements, local_mesh
from jaxcam.runtime._targets import checked_targets, target_as_arrays

Images = Sequence[Any] | Mapping[str, Any] | np.ndarray | jax.Array | Iterable[Any]
Names = Sequence[str] | Callable[[Any], str] | None
Map = TypeVar("Map", np.ndarray, pathlib.Path)
IMAGES_SAMPLED = 8


class Explained(NamedTuple, Generic[Map]):
    """What became of each image, by name.

    Attributes:
      maps: the map, or the file that holds it if a folder was given. Of a Zarr store it is `open_maps` of the store, a
        mapping of arrays, with the maps of earlier runs and of other shares.
      failed: why an image has no map.
    """

    maps: Mapping[str, Map]
    failed: dict[str, str]


@overload
def explain_batch(
    method: Method,
    cut: Cut,
    images: Images,
    targets: Any = None,
    key: jax.Array | None = None,
    *,
    target: Any = None,
    load: Callable[[Any], Any] | None = None,
    names: Names = None,
    out: None = None,
    stored: str | None = None,
    batch_size: int | None = None,
    memory: float | None = None,
    mesh: Mesh | None = None,
    workers: int | None = None,
    share: Share | None = None,
    log: str | os.PathLike | None = None,
) -> Explained[np.ndarray]: ...


@overload
def explain_batch(
    method: Method,
    cut: Cut,
    images: Images,
    targets: Any = None,
    key: jax.Array | None = None,
    *,
    target: Any = None,
    load: Callable[[Any], Any] | None = None,
    names: Names = None,
    out: str | os.PathLike,
    stored: str | None = None,
    batch_size: int | None = None,
    memory: float | None = None,
    mesh: Mesh | None = None,
    workers: int | None = None,
    share: Share | None = None,
    log: str | os.PathLike | None = None,
) -> Explained[Any]: ...  # paths of a folder, arrays of a Zarr store: the type does not tell the suffix


def explain_batch(
    method: Method,
    cut: Cut,
    images: Images,
    targets: Any = None,
    key: jax.Array | None = None,
    *,
    target: Any = None,
    load: Callable[[Any], Any] | None = None,
    names: Names = None,
    out: str | os.PathLike | None = None,
    stored: str | None = None,
    batch_size: int | None = None,
    memory: float | None = None,
    mesh: Mesh | None = None,
    workers: int | None = None,
    share: Share | None = None,
    log: str | os.PathLike | None = None,
) -> Explained[Any]:
    """The maps of many images: `method(cut, image, target, [key])` for each, independent of the other images.

    Images are loaded as late as possible, and those of one shape are computed together. An image that fails (a file
    that cannot be read, NaN, a shape that the model or the memory does not take, a target out of range, a map that is
    not finite) gets one line on the logger "jaxcam", and the others go on.

    Args:
      method: a named method, or any function of this form that `jax.jit` can trace; bind its options with
        `functools.partial`.
      cut: a `Cut`.
      images: `[n *image]`, or a sequence of images, of paths of picture files, or of anything that `load` takes; or a
        dictionary of these, whose keys are the names; or any iterable of such elements, which is read once, a few
        elements ahead of what is computed.
      targets: one for each image: a sequence of anything that the method's score takes, such as a list of classes, or
        a pytree of arrays `[n ...]`; or a function from an element of `images` to its target. One integer is a class
        for all images.
      key: a `jax.random.key` for methods that take one; image i gets `jax.random.fold_in(key, i)`.
      target: one for all images: anything that the score takes. Without it and `targets`, an image is explained by the
        class of its largest output, or by None if the outputs are not `[classes]`.
      load: from an element of `images` to the image, floats. By default, paths are read with
        `jaxcam.datasets.images.read` and have the cut's channel axis, and anything else is taken to be an image.
      names: of the maps, one for each image, or a function from an element to its name. Defaults to the files' stems
        (of a sequence the whole file names if two stems are equal), or to the images' numbers, of a sequence padded
        with zeros.
      out: a folder for the maps, `NAME.npy` each, and for `run.json`, which describes the run. If it holds maps of the
        same run, that run goes on: finished maps are not computed again, and failed images are tried again. Two runs
        are the same if the method with its options, the layer, the model, the parameters, the targets, the key, and
        the images that have maps are the same (of files: path, size and time of change). A chunk that was not finished
        is computed again. A name that ends in ".zarr" is a Zarr store (`pip install 'jaxcam-saliency[zarr]'`), for many
        maps: those of one shape are together, in shards that are written whole or not at all. A run that
        is killed loses the maps that wait for their shard, for about a minute at most. `jaxcam.runtime.open_maps` reads
        both. A second run in a folder that is in use is refused.
      stored: with a Zarr store, "float16" or "uint8" for fewer bytes, with a scale for each map. The error is at most
        1/2048 of the map's largest absolute value, and 1/510 of its range, which includes 0.
      batch_size: images in a chunk, on all devices together; chosen by `memory` by default. It changes the maps by
        rounding only.
      memory: bytes that a chunk may take on each device, without the model. Defaults to half of what the device has
        left, or, if the device does not say, to an eighth of the machine's memory and at most 4 GiB. The compiled
        program says how many images fit; at most 64 are taken on each device, 8 on a CPU, and 8 on a backend that
        does not say.
      mesh: divides each chunk over all its devices, whatever the names of its axes. Every device holds the parameters.
        Under `jax.distributed` a process takes the part of the mesh that is its own, by default all of its devices.
      workers: threads that load images ahead of what is computed, if `load` may run in several threads. By default one
        chunk is loaded while another is computed.
      share: `(number, shares)`: explains the images i with i % shares == number. Defaults to the process's place under
        `jax.distributed`. No process waits for another, and `failed` is of the share. Any number of shares gives the
        same maps, and a later run may have another number.
      log: a file that gets a line of JSON at most every ten seconds, and one at the end: images per second, failures by
        reason, time left.

    Returns:
      `Explained(maps, failed)`: by name the maps, or the paths of their files if `out` is a folder of files, and the
      messages of the images that failed.

    Raises:
      ValueError: the first image does not fit `memory`; the folder holds another run; two images have one name.
      TypeError, ValueError: the method cannot be called as given, such as one that needs a key.
      OSError: the folder cannot be written, or is full. The finished maps stay.

    Example:
      >>> import functools, jaxcam
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> images = [jaxcam.pretrained.digits_canvas(i)[0] for i in range(2)]
      >>> method = functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=2)
      >>> maps, _ = explain_batch(method, cut, images, [3, 5], jax.random.key(0), names=["three", "five"])
      >>> sorted(maps)
      ['five', 'three']
    """
    check_cut(cut)
    check_options(key, batch_size, memory, workers)
    source, sampled = open_source(cut, images, names, target, targets, score_of(method), load, checked_share(share))

    def describe_run(with_images):
        return described_run(method, cut, source, sampled, key, load, out, with_images=with_images)

    figures = Figures(total=source.count, log=log, share=source.share)
    with opened_output(out, stored, source, describe_run, with_place=key is not None) as output:
        items, lacking = output.prepared(source)
        runner = runner_of(
            method, cut, source.targets.shared, key, own_targets=source.has_own_targets, count=lacking,
            batch_size=batch_size, memory=memory, mesh=local_mesh(mesh),
        )  # fmt: skip
        outcome = for_each(
            items, load=functools.partial(load_example, cut, source, load),
            chunk_size=runner.chunk_size, compute=lambda examples, _: runner(examples), collect=finite_maps,
            store=output.write, recorded=output.recorded, label="explaining", total=source.count,
            recoverable=(TypeError, ValueError), workers=workers, figures=figures, keep=output.keeps,
        )  # fmt: skip
    figures.close()
    return Explained(output.maps(source.in_order(outcome.results)), outcome.failed)


def described_run(method, cut, source, sampled, key, load, out, *, with_images) -> dict[str, Any]:
    """What `run.json` records of a call."""
    sample = (None if out is None else recorded_sample(pathlib.Path(out))) or first_sample(
        sampled, load, cut.image_channel_axis
    )
    images = source.digests() if with_images else {}
    return describe_batch(method, cut, images, source.targets_as_json(), key, load, sample)


def runner_of(method, cut, target, key, *, own_targets, count, batch_size, memory, mesh) -> Runner:
    """The runner from examples of `as_example` to maps; `target` is that of all images if they have no own ones."""
    function = functools.partial(map_of_example, method, not own_targets)
    shared = (cut, key, with_static_leaves(target))
    return Runner(function, shared, count=count, batch_size=batch_size, memory=memory, mesh=mesh)


def open_source(cut, images, names, target, targets, score, load, share) -> tuple[Source, Sequence[Any]]:
    """The images of a call with their names and targets, and some of them that tell a shape."""
    images, names = as_sequence(images, names, load=load)
    if hasattr(images, "__len__") and hasattr(images, "__getitem__"):
        images = _checked_images(images)
        if load is None:
            check_axes(cut, images)
        target_of = targets if callable(targets) else None
        given = checked_targets(target, None if target_of else targets, len(images), score)
        return Source(images, checked_names(names, images), given, share, target_of), images
    if targets is not None and not callable(targets):
        raise TypeError(
            "expected targets= as a function from an element to its target, because the images are an iterable, got "
            f"a {type(targets).__name__}"
        )
    if names is not None and not callable(names):
        raise TypeError("expected names= as a function from an element to its name, because the images are an iterable")
    first, images = first_elements(images, IMAGES_SAMPLED)
    if load is None and first:
        check_element(first[0])
        check_axes(cut, first)
    given = checked_targets(target, None, 0, score)
    return Source(images, names, given, share, targets), first


def load_example(cut, source, load, item):
    """The example of an item of a source."""
    element = source.element(item)
    image = load_image(element, load, cut.image_channel_axis)
    target = source.target(item, element)
    return as_example(cut, image, target, item.number, own_target=source.has_own_targets)


def as_example(cut, image, target, number, *, own_target):
    """An image as floats of JAX's type, its own target, and its number."""
    image = np.asarray(image)
    check_target(cut, checks.checked_image(image), target)
    image = image.astype(jax.dtypes.canonicalize_dtype(image.dtype), copy=False)
    return image, target_as_arrays(target) if own_target else None, np.int32(number)


def map_of_example(method, is_shared, shared, example):
    """What the runner compiles: from an image, its own target and its number to its map."""
    cut, key, target = shared
    image, own_target, i = example
    keys = () if key is None else (jax.random.fold_in(key, i),)
    saliency = map_of(method(cut, image, without_static_leaves(target if is_shared else own_target), *keys))
    if not isinstance(saliency, jax.Array):
        raise TypeError(f"expected a method that returns one map, an array, got {type(saliency).__name__}")
    return saliency


def finite_maps(maps) -> Iterator[np.ndarray | ValueError]:
    """Waits for the maps of a chunk; a ValueError in the place of a map that is not finite."""
    for saliency in np.asarray(maps):
        if np.isfinite(saliency).all():
            yield saliency
        else:
            yield ValueError("the map is not finite: the method is not defined for this image, layer and target")


def load_image(element, load, channel_axis):
    """The image that an element stands for."""
    if load is None and is_path(element):
        from jaxcam.datasets import images  # imports Pillow, which only picture files need

        if channel_axis is None:
            raise ValueError(f"{os.fspath(element)} has channels, and the cut's images have none: give load=")
        return np.moveaxis(images.read(element), -1, channel_axis)
    image = element if load is None else load(element)
    check_element(image)
    return image


def first_sample(images, load, channel_axis):
    """The shape and type of the first image that can be loaded, among the first few."""
    for i in range(min(IMAGES_SAMPLED, len(images))):
        try:
            element = images[i]
            # A loader may change a container, which is loaded again, and whose digest is not taken yet.
            element = copy.copy(element) if isinstance(element, dict | list) else element
            image = checks.checked_image(load_image(element, load, channel_axis))
        except Exception:  # reported when the turn of that image comes
            continue
        return jax.ShapeDtypeStruct(image.shape, image.dtype)
    return None


def _checked_images(images):
    """A NumPy array of floats, or a sequence as it is."""
    if not hasattr(images, "ndim"):
        return images
    images = np.asarray(images)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(f"expected images of floats in the model's range, got {images.dtype}: images / 255 gives 0..1")
    return images


def check_options(key, batch_size, memory, workers):
    """Raises a TypeError or a ValueError for an option that cannot be meant."""
    if key is not None:
        checks.check_key(key)
    if batch_size is not None:
        checks.check_count("batch_size", batch_size, at_least=1)
    if workers is not None:
        checks.check_count("workers", workers, at_least=1)
    if memory is not None and (isinstance(memory, bool) or not isinstance(memory, int | float)):
        raise TypeError(f"expected a number of bytes for memory, such as 4 * 2**30 for 4 GiB, got {memory!r}")
    if memory is not None and not memory > 0:
        raise ValueError(f"expected a positive number of bytes for memory, such as 4 * 2**30 for 4 GiB, got {memory}")
