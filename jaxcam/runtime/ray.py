"""Maps over a Ray cluster: the cut is built once in each actor, and Ray Data moves images, retries and scales.

    explained = explain_dataset(
        ray.data.read_parquet("s3://bucket/images"), make_cut, jaxcam.grad_cam,
        image="pixels", name="id", out="maps.zarr", num_gpus=1, concurrency=8,
    )

`explain_dataset` needs Ray (`pip install 'jaxcam-saliency[ray]'`); an `Explainer` is a function of batches.
"""

import functools
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxcam._base.types import Method
from jaxcam.cutting import Cut, check_cut
from jaxcam.methods import score_of
from jaxcam.runtime._explain_batch import (
    IMAGES_SAMPLED,
    Explained,
    as_example,
    check_options,
    finite_maps,
    first_sample,
    load_image,
    runner_of,
)
from jaxcam.runtime._figures import Figures
from jaxcam.runtime._fingerprint import content_digest, describe_batch, recorded_sample
from jaxcam.runtime._index import name_digests
from jaxcam.runtime._lock import lock_share
from jaxcam.runtime._open_maps import open_maps
from jaxcam.runtime._ray_actors import batches_of, import_ray, map_in_actors, mesh_of_actor
from jaxcam.runtime._ray_rows import as_bytes, error_text, write_batches
from jaxcam.runtime._runner import Runner, group_by_shape
from jaxcam.runtime._sources import element_digest
from jaxcam.runtime._targets import checked_targets, target_digest
from jaxcam.runtime._zarr import ZarrMaps, is_zarr

MAP, ERROR = "map", "error"  # the columns that are added
AXES_OF_A_MAP = 2  # of the map of an image that failed, if no map tells
Batch = Mapping[str, np.ndarray]


class Explainer:
    """From batches with images to batches with maps, for `ray.data.Dataset.map_batches`.

    A batch is what Ray gives: by column an array or a list whose first axis is that of the rows. It comes back with two
    more columns: `map`, and `error`, which is empty if there is a map. No row is lost: an image that cannot be
    explained has a map without elements, of shape (0, 0), and `error` says why. Images of several shapes are computed
    in groups of one shape.

    Args:
      make_cut: a function without arguments that returns the `Cut`; it is called once in each actor.
      method: as in `jaxcam.explain_batch`.
      key: for methods that take one. The image with number i gets `jax.random.fold_in(key, i)`.
      image: the column of the images, floats, or of paths of picture files, or of anything that `load` takes.
      load: from an element of that column to the image.
      target: one for all images.
      targets: the column of the targets, one for each image.
      numbers: the column of the images' numbers, integers, which `key` needs.
      batch_size: images that are computed together; chosen by `memory` by default, at most a batch of Ray.
      memory: bytes that these may take on each device, as in `jaxcam.explain_batch`.

    Raises:
      TypeError, ValueError: `make_cut` returns no cut; a key without numbers; both kinds of targets. Of a call: a
        column that the batch does not have, or has already.

    Example:
      >>> import jaxcam
      >>> def make_cut():
      ...     return jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> explain = Explainer(make_cut, jaxcam.grad_cam, targets="label")
      >>> images = np.stack([jaxcam.pretrained.digits_canvas(i)[0] for i in range(2)])
      >>> images[1] = np.nan
      >>> batch = explain({"image": images, "label": np.array([3, 5])})
      >>> [saliency.shape for saliency in batch["map"]], list(batch["error"])
      ([(16, 16), (0, 0)], ['', 'image has 12288 values that are NaN or infinite in float32'])
    """

    def __init__(
        self,
        make_cut: Callable[[], Cut],
        method: Method,
        key: jax.Array | None = None,
        *,
        image: str = "image",
        load: Callable[[Any], Any] | None = None,
        target: Any = None,
        targets: str | None = None,
        numbers: str | None = None,
        batch_size: int | None = None,
        memory: float | None = None,
    ):
        _check_call(make_cut, key, target, targets, numbers, batch_size, memory)
        self.cut = make_cut()
        check_cut(self.cut)
        self.method, self.key, self.load = method, key, load
        self.image, self.targets, self.numbers = image, targets, numbers
        self.target = checked_targets(target, None, 0, score_of(method)).shared
        self.batch_size, self.memory = batch_size, memory
        self._runner: Runner | None = None
        self._axes = AXES_OF_A_MAP

    def __call__(self, batch: Batch) -> dict[str, Any]:
        """The batch with the columns `map` and `error`."""
        taken = {MAP, ERROR} & batch.keys()
        if taken:
            raise ValueError(f"expected a batch without a column {sorted(taken)[0]!r}, which the explainer adds")
        results = self.explain(batch, np.ones(self._count(batch), bool))
        errors = np.array([error_text(result) if isinstance(result, Exception) else "" for result in results], object)
        return {**batch, MAP: self._as_column(results), ERROR: errors}

    def explain(self, batch: Batch, chosen: np.ndarray) -> list[Any]:
        """For each row its map, or the exception that says why there is none; None for rows that are not chosen.

        Args:
          batch: as in a call.
          chosen: `[n]` bool, the rows to explain.
        """
        count = self._count(batch)
        results: list[Any] = [None] * count
        if self._runner is None and count:
            self._runner = runner_of(
                self.method, self.cut, self.target, self.key, own_targets=self.targets is not None, count=count,
                batch_size=self.batch_size, memory=self.memory, mesh=mesh_of_actor(),
            )  # fmt: skip
        computed = []  # the device computes a chunk while the next one is loaded
        for examples, rows in group_by_shape(self._loaded(batch, np.flatnonzero(chosen), results), self._chunk_size):
            try:
                computed.append((rows, self._computing(examples)))
            except (TypeError, ValueError) as error:
                for row in rows:
                    results[row] = error
        for rows, maps in computed:
            for row, saliency in zip(rows, finite_maps(maps), strict=False):  # what follows is padding
                results[row] = saliency
        return results

    def digest(self, batch: Batch, row: int) -> str:
        """What identifies an image and its target in a store; that of `jaxcam.explain_batch` for the same elements."""
        parts: list[Any] = [] if self.key is None or self.numbers is None else [int(batch[self.numbers][row])]
        parts.append(element_digest(batch[self.image][row]))
        if self.targets is not None:
            parts.append(target_digest(batch[self.targets][row]))
        return content_digest(*parts)

    def describe(self, sample: jax.ShapeDtypeStruct | None) -> dict[str, Any]:
        """What a store records of the run, as `jaxcam.explain_batch` does."""
        targets = checked_targets(self.target, None, 0).as_json() if self.targets is None else {"column": self.targets}
        return describe_batch(self.method, self.cut, {}, targets, self.key, self.load, sample)

    def _count(self, batch):
        for column in (self.image, self.targets, self.numbers):
            if column is not None:
                _check_column(column, batch.keys())
        return len(batch[self.image])

    def _loaded(self, batch, rows, results) -> Iterator[tuple[Any, int]]:
        """The examples that can be loaded and are of a shape that the model takes; of others the exception is kept."""
        for row in map(int, rows):
            try:
                image = load_image(batch[self.image][row], self.load, self.cut.image_channel_axis)
                target = self.target
                if self.targets is not None:
                    target = checked_targets(batch[self.targets][row], None, 0, score_of(self.method)).shared
                number = 0 if self.numbers is None else batch[self.numbers][row]
                example = as_example(self.cut, image, target, number, own_target=self.targets is not None)
            except Exception as error:  # whatever a loader raises is a failure of the image
                results[row] = error
                continue
            try:
                self._chunk_size(example)
            except (TypeError, ValueError) as error:
                results[row] = error
                continue
            yield example, row

    def _chunk_size(self, example):
        assert self._runner is not None
        return self._runner.chunk_size(example)

    def _computing(self, examples):
        assert self._runner is not None
        return self._runner(examples)

    def _as_column(self, results):
        """The maps as one array, or as an array of arrays if their shapes differ."""
        maps = [result for result in results if not isinstance(result, Exception)]
        self._axes = maps[0].ndim if maps else self._axes
        dtype = maps[0].dtype if maps else np.dtype(np.float32)
        filled = [np.zeros((0,) * self._axes, dtype) if isinstance(r, Exception) else r for r in results]
        if len({saliency.shape for saliency in filled}) == 1:
            return np.stack(filled)
        column = np.empty(len(filled), object)
        column[:] = filled
        return column


def explain_dataset(
    dataset: Any,
    make_cut: Callable[[], Cut],
    method: Method,
    key: jax.Array | None = None,
    *,
    image: str = "image",
    load: Callable[[Any], Any] | None = None,
    name: str = "name",
    target: Any = None,
    targets: str | None = None,
    numbers: str | None = None,
    out: str | os.PathLike | None = None,
    stored: str | None = None,
    batch_size: int = 64,
    memory: float | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    concurrency: int | tuple[int, int] = 1,
    log: str | os.PathLike | None = None,
) -> Any:
    """The maps of a Ray dataset, computed by actors of a Ray cluster.

    Actors that die and nodes that are lost are Ray's matter: it computes their batches again, holds readers back while
    the actors are busy, and scales between the numbers of `concurrency`.

    With `out`, this process writes the maps to a Zarr store as they come, each once, and the actors need not see its
    file system. If this process is killed, the same call goes on: finished images are not computed again, and `load` is
    not called for them. The store is that of `jaxcam.explain_batch(..., out=)` for the same elements of the column
    `image`, and either goes on with the other's, unless there are `targets`.

    Args:
      dataset: a `ray.data.Dataset`. Images of several shapes are computed in groups of one shape.
      make_cut: a function without arguments that returns the `Cut`; it is called once in each actor.
      method: as in `jaxcam.explain_batch`.
      key: for methods that take one, with `numbers`.
      image: the column of the images, as in `Explainer`.
      load: from an element of that column to the image.
      name: the column of the maps' names, text, no two the same; needed with `out`.
      target: one for all images.
      targets: the column of the targets, one for each image.
      numbers: the column of the images' numbers, which `key` needs.
      out: a Zarr store, `NAME.zarr`, on a file system of this process.
      stored: "float16" or "uint8" for fewer bytes in the store, with a scale for each map.
      batch_size: rows in a batch of Ray; what the memory takes of it is computed together.
      memory: bytes that these may take on each device.
      num_cpus: of Ray's, for each actor.
      num_gpus: of Ray's, for each actor. An actor computes on all GPUs that it gets.
      concurrency: the number of actors, or the smallest and the largest number.
      log: with `out`, a file that gets lines of JSON with figures of the run.

    Returns:
      Without `out`, a `ray.data.Dataset` with the columns `map` and `error`, as `Explainer` adds them; nothing is
      computed before it is read. With `out`, `Explained(maps, failed)`: the maps of the store by name, and by name why
      the other images have none.

    Raises:
      TypeError, ValueError: Ray is not installed; a column that the dataset does not have; two rows with one name; the
        store is in use or holds another run; no image can be explained; Ray gave up, such as where `make_cut` fails.

    Example:
      >>> import jaxcam, ray  # doctest: +SKIP
      >>> dataset = ray.data.read_images("pictures", include_paths=True)  # doctest: +SKIP
      >>> explain_dataset(dataset, make_cut, jaxcam.grad_cam, load=lambda image: image / 255)  # doctest: +SKIP
    """
    import_ray()
    _check_call(make_cut, key, target, targets, numbers, batch_size, memory)
    _check_out(out, stored, log)
    first = _first_rows(dataset, (image, targets, numbers, None if out is None else name))
    options = {"image": image, "load": load, "target": target, "targets": targets, "numbers": numbers, "memory": memory}

    mapped = functools.partial(
        map_in_actors, dataset, batch_size=batch_size, num_cpus=num_cpus, num_gpus=num_gpus, concurrency=concurrency
    )
    if out is None:
        return mapped(Explainer, (make_cut, method, key), options)
    path = pathlib.Path(out)
    path.mkdir(parents=True, exist_ok=True)
    with lock_share(path, (0, 1)):
        store = ZarrMaps(path, stored)
        store.index.refresh()
        sample = recorded_sample(path) or [row[image] for row in first]
        settings = {"finished": store.index.digests, "sample": sample}
        batches = mapped(_Worker, (make_cut, method, key, options, name), settings)
        failed = write_batches(store, batches_of(batches), Figures(total=None, log=log))
    return Explained(open_maps(path), failed)


def _first_rows(dataset, columns):
    """Some rows; a ValueError if there are none, or if they lack a column."""
    first = dataset.take(IMAGES_SAMPLED)
    if not first:
        raise ValueError("the dataset has no rows: there is nothing to explain")
    for column in columns:
        if column is not None:
            _check_column(column, first[0].keys())
    return first


class _Worker:
    """From batches with images to rows for the store: name, digest, the bytes of the map, error.

    A row of a finished image has neither a map nor an error. The first row of a batch also describes the run.
    """

    def __init__(
        self,
        make_cut: Callable[[], Cut],
        method: Method,
        key: jax.Array | None,
        options: dict[str, Any],
        name: str,
        *,
        finished: np.ndarray,
        sample: jax.ShapeDtypeStruct | Sequence[Any],
    ):
        self.explainer, self.name, self.finished = Explainer(make_cut, method, key, **options), name, finished
        if isinstance(sample, jax.ShapeDtypeStruct):
            shape = sample
        else:
            shape = first_sample(sample, options["load"], self.explainer.cut.image_channel_axis)
        self.run = json.dumps(self.explainer.describe(shape))

    def __call__(self, batch: Batch) -> dict[str, Any]:
        names = [str(name) for name in batch[self.name]]
        # Taken before a loader may change an element.
        digests = [self.explainer.digest(batch, row) for row in range(len(names))]
        results = self.explainer.explain(batch, ~np.isin(name_digests(names), self.finished))
        return {
            "name": np.array(names, object),
            "digest": np.array(digests, object),
            "map": np.array([as_bytes(r) if isinstance(r, np.ndarray) else b"" for r in results], object),
            "error": np.array([error_text(r) if isinstance(r, Exception) else "" for r in results], object),
            "run": np.array([self.run, *[""] * (len(names) - 1)][: len(names)], object),
        }


def _check_out(out, stored, log):
    """Raises a ValueError if there is no store, and options of one, or if the output is none."""
    if out is None and (stored is not None or log is not None):
        raise ValueError("stored= and log= are of a store: give out='NAME.zarr'")
    if out is not None and not is_zarr(out):
        raise ValueError(f"expected out='NAME.zarr' for a dataset, whose images are not listed, got {str(out)!r}")


def _check_column(column, columns):
    if column not in columns:
        raise ValueError(f"the dataset has no column {column!r}: expected one of {', '.join(map(repr, columns))}")


def _check_call(make_cut, key, target, targets, numbers, batch_size, memory):
    """Raises a TypeError or a ValueError for arguments that cannot be meant."""
    check_options(key, batch_size, memory, None)
    if not callable(make_cut):
        raise TypeError(
            "expected a function without arguments that returns the cut, such as lambda: jaxcam.cut(model(), "
            f"'layer'), got a {type(make_cut).__name__}"
        )
    if target is not None and targets is not None:
        raise TypeError("expected target=, one for all images, or targets=, a column, got both")
    if key is not None and numbers is None:
        raise ValueError(
            "expected numbers=, a column of integers, with a key: rows have no order, and image i gets fold_in(key, i)"
        )
