"""Many images: in chunks that fit the memory, over several devices, to files that a killed run goes on with.

    >>> import jax, jaxcam, numpy as np
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> images = np.stack([jaxcam.pretrained.digits_canvas(i)[0] for i in range(3)])
    >>> maps, failed = explain_batch(jaxcam.grad_cam, cut, images)
    >>> {name: saliency.shape for name, saliency in maps.items()}, failed
    ({'0': (16, 16), '1': (16, 16), '2': (16, 16)}, {})

What is written to a folder is one file a map. Each is written beside its place and renamed, so that whatever stops a
run leaves whole maps and no others; the same call goes on with what is missing.
"""

import logging
import math
import os
import pathlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxcam._base import checks, progress
from jaxcam.cutting import Cut, check_cut, check_target
from jaxcam.runtime._fingerprint import describe_batch, recorded_sample
from jaxcam.runtime._runner import Runner, group_by_shape
from jaxcam.runtime._store import MapFolder

LONGEST = 160  # bytes of a name: file systems take 255, with what is added to it while it is written
log = logging.getLogger("jaxcam")


class Explained(NamedTuple):
    """What became of each image, by name: its map, or the file that holds it, or why there is none."""

    maps: dict[str, Any]
    failed: dict[str, str]


def explain_batch(
    method: Callable[..., jax.Array],
    cut: Cut,
    images: Sequence[Any] | np.ndarray | jax.Array,
    targets: Any = None,
    key: jax.Array | None = None,
    *,
    load: Callable[[Any], Any] | None = None,
    names: Sequence[str] | None = None,
    out: str | os.PathLike | None = None,
    batch_size: int | None = None,
    memory: float | None = None,
    mesh: Mesh | None = None,
) -> Explained:
    """The maps of many images, each as if by itself: `method(cut, image, target, [key])`.

    Images are loaded when their turn comes, and those of one shape are computed together. An image that
    fails (a file that cannot be read, NaN, a shape that the model does not take, a target out of range, a map that is
    not finite) gets one line on the logger "jaxcam", and the others go on.

    Args:
      method: a named method, or any function of this form that jit can trace; bind its options with
        `functools.partial`.
      cut: a `Cut`.
      images: `[n *image]`, or a sequence of images, of picture files, or of whatever `load` takes.
      targets: None for each image's own class of the largest output, one class for all, or one for each, `[n]`.
      key: a `jax.random.key` for methods that take one; image i gets `jax.random.fold_in(key, i)`.
      load: from an element of `images` to the image, floats; where absent, files are read by `read` of the room
        `jaxcam.images` (which is imported by itself), and anything else is an image.
      names: of the maps, one for each image; where absent the files' stems (whole names where stems are shared), or
        the images' numbers, padded with zeros.
      out: a folder for the maps, `NAME.npy` each, and for `run.json`, which describes the run. Where it has maps of the
        same run, that run goes on: what is there is not computed again, and what failed is tried again. A run is the
        same where the method with its options, the layer, the parameters, classes, key and those images are that have
        maps (of files: path, size and time). A chunk that was not finished is computed again.
      batch_size: images at a time, on all devices together; chosen by `memory` where absent. The memory knob: it
        changes the maps by rounding at most.
      memory: bytes that a chunk may take beside the model, on each device; where absent half of what the device has
        left, or an eighth of the machine's memory, at most 4 GiB, where the device does not say. How many images fit is
        taken from the compiled program's own figures, 64 at most on each device, and 8 on a CPU; on a backend without
        figures it is 8.
      mesh: divides each chunk over all its devices, whatever its axes are called; every device holds the parameters.

    Returns:
      `Explained(maps, failed)`: for each name its map, or the path of its file where `out` is given, and for each
      image that failed its message.

    Raises:
      ValueError: not even one image fits; a folder of another run, and what differs; names that cannot be told apart.
      TypeError, ValueError: a method that cannot be called with what it is given, such as one that needs a key.
      OSError: the folder cannot be written, or is full. The maps that are finished stay.

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
    if _is_path(images):
        raise TypeError(f"images is {str(images)!r}: a sequence is wanted, sorted(pathlib.Path(...).iterdir()) for one")
    if not hasattr(images, "__len__"):
        raise TypeError(f"images is a {type(images).__name__}: a sequence is wanted, list(images) for one")
    if memory is not None and (isinstance(memory, bool) or not isinstance(memory, int | float)):
        raise TypeError(f"memory is {memory!r}: a number of bytes is wanted, 4 * 2**30 for 4 GiB")
    if memory is not None and not memory > 0:
        raise ValueError(f"memory is {memory}: a number of bytes is wanted, 4 * 2**30 for 4 GiB")
    if hasattr(images, "ndim"):
        images = np.asarray(images)
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise TypeError(f"images are {images.dtype}: floats in the model's range are wanted, images / 255 for 0..1")
    count = len(images)
    targets = _checked_targets(targets, count)
    if key is not None and not (hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError(f"key is {key!r}: a jax.random.key is wanted, jax.random.key(0) for one")
    if batch_size is not None:
        checks.check_count("batch_size", batch_size, at_least=1)
    names = _checked_names(names, images)
    maps: dict[str, Any] = {}
    failed: dict[str, str] = {}
    if out is not None:
        folder = MapFolder(pathlib.Path(out))
        sample = recorded_sample(folder.out) or _sample(images, load)
        folder.open(describe_batch(method, cut, images, targets, key, load, names, sample))
        maps = {name: folder.path(name) for name in names if folder.path(name).exists()}
    todo = [i for i in range(count) if names[i] not in maps]

    def one(shared, example):
        cut, key = shared
        image, target, i = example
        keys = () if key is None else (jax.random.fold_in(key, i),)
        image_map = method(cut, image, None if targets is None else target, *keys)
        if not isinstance(image_map, jax.Array):
            raise TypeError(f"the method gives {type(image_map).__name__}: one map, an array, is wanted")
        return image_map

    runner = Runner(one, (cut, key), count=len(todo), batch_size=batch_size, memory=memory, mesh=mesh)

    with progress.bar("explaining", count, flops=math.inf if todo else 0) as advance:

        def step():
            if advance is not None:
                advance()

        for _ in maps:
            step()

        def end(name, image_map=None, error=None):
            if error is None and not np.isfinite(image_map).all():
                error = "the map is not finite: the method is not defined for this image, layer and target"
            if error is not None:
                failed[name] = " ".join(str(error).split()) or type(error).__name__
                log.warning("%s: %s", name, failed[name])
            else:
                maps[name] = image_map if out is None else folder.write(name, image_map, len(maps))
            step()

        def finish(flight):
            indices, computed = flight
            for i, image_map in zip(indices, np.asarray(computed), strict=False):  # without the padding
                end(names[i], image_map)

        def loaded():
            for i in todo:
                try:
                    image = np.asarray(_load(images[i], load))
                    check_target(cut, checks.checked_image(image), None if targets is None else targets[i], None)
                except Exception as error:  # whatever a loader raises is one image's failure
                    end(names[i], error=error)
                else:
                    image = image.astype(jax.dtypes.canonicalize_dtype(image.dtype), copy=False)
                    yield (image, np.int32(0) if targets is None else targets[i], np.int32(i)), i

        # While the device computes one chunk, the next is loaded.
        flight: Any = ((), ())
        for examples, indices in group_by_shape(loaded(), runner.chunk_size):
            finish(flight)
            try:
                flight = indices, runner(examples)
            except (TypeError, ValueError) as error:
                if not maps:  # the call itself may be wrong
                    raise
                flight = (), ()
                for i in indices:
                    end(names[i], error=error)
        finish(flight)
    return Explained({name: maps[name] for name in names if name in maps}, failed)


def _is_path(element):
    return isinstance(element, str | os.PathLike)


def _load(element, load):
    if load is not None:
        return load(element)
    if _is_path(element):
        from jaxcam.datasets import images  # Pillow, for those who have files

        return images.read(element)
    return element


def _sample(images, load):
    """The shape and type of the first image that can be loaded, among the first few."""
    for i in range(min(8, len(images))):
        try:
            image = checks.checked_image(_load(images[i], load))
        except Exception:  # it is said when the image's turn comes
            continue
        return jax.ShapeDtypeStruct(image.shape, image.dtype)
    return None


def _checked_targets(targets, count):
    """None, or a class for each image, int32."""
    if targets is None:
        return None
    classes = np.asarray(targets) if np.size(targets) else np.zeros(0, np.int32)
    if classes.dtype.kind not in "iu":
        raise TypeError(f"targets are {classes.dtype}: None, one class or one for each image, integers, is wanted")
    if classes.shape not in ((), (count,)):
        raise ValueError(f"targets have shape {classes.shape}: one class, or one for each of {count} images, is wanted")
    # One that int32 does not hold is out of range as it is, and stays so.
    classes = np.clip(classes, -1, np.iinfo(np.int32).max)
    return np.broadcast_to(classes.astype(np.int32), (count,))


def _checked_names(names, images):
    """A name for each image, no two the same, each fit for a file."""
    if names is None:
        count = len(images)
        if count and not hasattr(images, "ndim") and all(map(_is_path, images)):
            paths = [pathlib.Path(element) for element in images]
            names = [path.stem for path in paths]
            names = names if len(set(names)) == count else [path.name for path in paths]
        else:
            return [str(i).zfill(len(str(count - 1))) for i in range(count)]
    names = list(names)
    if len(names) != len(images):
        raise ValueError(f"names has {len(names)} entries: there are {len(images)} images")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise ValueError(f"two images are called {twice[0]!r}: give names=, one for each image")
    for name in names:
        check_name(name)
    return names


def check_name(name: Any) -> None:
    """A ValueError where a name is none for a file."""
    if not isinstance(name, str) or not name or set(name) & set("/\\\0") or len(os.fsencode(name)) > LONGEST:
        raise ValueError(f"name {name!r} is no name for a file: give names=, short and without a path")
