"""What a request computes: functions of arrays and files, without a page.

>>> from jaxcam.web._networks import Network, Networks
>>> from jaxcam.web._pictures import SAMPLES
>>> networks = Networks([Network("digits")])
>>> answer = explain_request(networks, SAMPLES["digits 1"].path, Request(method="grad_cam"))
>>> answer.class_name, answer.saliency.shape
('3', (16, 16))
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam import datasets
from jaxcam.cutting import class_probabilities
from jaxcam.datasets import find_class, fitted_region
from jaxcam.evaluation import key_of
from jaxcam.explaining import ClassProbability, most_probable
from jaxcam.methods import METHOD_TITLES
from jaxcam.opening import OpenedModel
from jaxcam.web._networks import Networks
from jaxcam.web._pictures import read_picture
from jaxcam.web._requests import Request, method_of, samples_of

TOP = 5
STRONGEST = 24  # feature maps that are shown to choose from


class Answer(NamedTuple):
    """The map of a request.

    Attributes:
      request: with the layer and the number of the class that were explained.
      opened: the network, cut at the layer.
      picture: at its own size, `[H W 3]` in 0..1; a very large one is reduced.
      region: row0, column0, row1, column1 of what the network saw, in the pixels of `picture`.
      class_name: of the class that is explained.
      probability: of that class.
      top: the most probable classes, the most probable one first.
      saliency: the map of what was chosen, `[h w]`, or `[m h w]` for m feature maps.
      warning: a sentence that a reader of the map should know; empty if there is none.
    """

    request: Request
    opened: OpenedModel
    picture: np.ndarray
    region: tuple[float, float, float, float]
    class_name: str
    probability: float
    top: tuple[ClassProbability, ...]
    saliency: np.ndarray
    warning: str

    def as_dict(self) -> dict[str, Any]:
        """Everything but the pixels and the values of the map, ready for JSON."""
        request = self.request
        return {
            "model": request.model,
            "layer": request.layer,
            "target": request.target,
            "class": self.class_name,
            "probability": self.probability,
            "top": [{"class": name, "target": number, "probability": p} for number, name, p in self.top],
            "method": request.method,
            "samples": samples_of(request),
            "std": request.std,
            "seed": request.seed,
            "filters": list(request.filters),
            "subset": [list(point) for point in request.subset],
            "region": request.region,
            "seen": [float(side) for side in self.region],
            "picture_shape": list(self.picture.shape[:2]),
            "map_shape": list(self.saliency.shape),
            "warning": self.warning,
        }


class FeatureMaps(NamedTuple):
    """The feature maps that contribute most to a map.

    Attributes:
      numbers: of the feature maps, the strongest one first.
      maps: relu(w_k A^k) of each, `[m h w]`.
    """

    numbers: tuple[int, ...]
    maps: np.ndarray


class _Prepared(NamedTuple):
    """A picture as a network saw it."""

    request: Request
    opened: OpenedModel
    picture: np.ndarray
    fitted: np.ndarray
    probabilities: np.ndarray


def explain_request(networks: Networks, path: str | os.PathLike, request: Request) -> Answer:
    """The map of a picture file, as `jaxcam.explain` computes it.

    Args:
      networks: of the server.
      path: the picture.
      request: what is asked for.

    Raises:
      ValueError: the file is no picture; there is no such network, layer, class, feature map or neuron; or the method
        is not defined at the layer.
    """
    prepared = _prepare(networks, path, request)
    request, opened = prepared.request, prepared.opened
    shape = networks.shape(request.model, opened.layer)
    _check_choice(request, shape)
    saliency = _feature_maps(networks, prepared) if request.filters else _map(networks, prepared)
    if request.filters:
        saliency = saliency[list(request.filters)]
    if request.subset:
        saliency = np.where(neuron_mask(request, (shape[0], shape[1])), saliency, np.float32(0))
    target = int(request.target or 0)
    return Answer(
        request=request,
        opened=opened,
        picture=prepared.picture,
        region=fitted_region(prepared.picture.shape[:2], opened.input_size, opened.preprocessing.fit),
        class_name=opened.class_names[target],
        probability=float(prepared.probabilities[target]),
        top=most_probable(prepared.probabilities, opened.class_names, TOP),
        saliency=saliency,
        warning="" if saliency.any() else _why_zero(request),
    )


def strongest_feature_maps(
    networks: Networks, path: str | os.PathLike, request: Request, *, count: int = STRONGEST
) -> FeatureMaps:
    """The feature maps whose contributions to the map have the largest sums, each as its own map.

    Args:
      networks, path, request: as in `explain_request`; the feature maps and neurons of the request do not count.
      count: how many.
    """
    by_channel = _feature_maps(networks, _prepare(networks, path, request))
    order = np.argsort(-by_channel.sum((1, 2)), kind="stable")[:count]
    return FeatureMaps(tuple(int(k) for k in order), by_channel[order])


def diagnosis(networks: Networks, path: str | os.PathLike, request: Request) -> str:
    """The report of `jaxcam.diagnose` on the class and the layer of a request."""
    prepared = _prepare(networks, path, request)
    # It looks at values, so that it is not compiled as a whole and kept.
    networks.programs.note(("diagnosis", prepared.request.model, prepared.opened.layer))
    name = prepared.opened.class_names[int(prepared.request.target or 0)]
    report = jaxcam.diagnose(prepared.opened.cut, prepared.fitted, prepared.request.target)
    return f"{prepared.request.model}, class {name!r}\n{report}"


def neuron_mask(request: Request, shape: tuple[int, int]) -> np.ndarray:
    """Which neurons of a layer a request chooses, bools `[h w]`.

    Example:
      >>> neuron_mask(Request(subset=((0, 1), (1, 0)), region=True), (3, 3)).sum(), neuron_mask(Request(), (2, 2)).all()
      (np.int64(4), np.True_)
    """
    mask = np.full(shape, not request.subset)
    if request.region:
        (row0, column0), (row1, column1) = request.subset
        mask[min(row0, row1) : max(row0, row1) + 1, min(column0, column1) : max(column0, column1) + 1] = True
    else:
        for row, column in request.subset:
            mask[row, column] = True
    return mask


def _prepare(networks: Networks, path: str | os.PathLike, request: Request) -> _Prepared:
    """Reads the picture and finds the class."""
    opened = networks.opened(request.model, request.layer)
    label = networks.network(request.model).label
    picture = read_picture(path, opened.input_size)
    example = datasets.Example(picture)
    fitted = np.asarray(datasets.load(example, opened.input_size, fit=opened.preprocessing.fit).image)
    first = networks.opened(label)  # one program for all layers
    probabilities = networks.programs.run(("probabilities", label), _probabilities, first.cut, jnp.asarray(fitted))
    target = _class_number(request.target, opened.class_names, probabilities)
    request = dataclasses.replace(request, model=label, layer=opened.layer, target=target)
    return _Prepared(request, opened, picture, fitted, np.asarray(probabilities))


def _probabilities(cut: jaxcam.Cut, image: jax.Array) -> jax.Array:
    probabilities = class_probabilities(cut, image)
    if probabilities is None:
        raise ValueError(
            "expected a network that returns logits or probabilities of classes, got one of unknown outputs"
        )
    return probabilities


def _class_number(target: int | str | None, names: tuple[str, ...], probabilities: jax.Array) -> int:
    if target is None:
        return int(np.asarray(probabilities).argmax())
    if isinstance(target, str):
        return find_class(target, names)
    if target >= len(names):
        raise ValueError(f"no class {target}: there are {len(names)}, from 0")
    return target


def _map(networks: Networks, prepared: _Prepared) -> np.ndarray:
    """The map of all neurons and feature maps, `[h w]`."""
    return _run(networks, prepared, None)


def _feature_maps(networks: Networks, prepared: _Prepared) -> np.ndarray:
    """relu(w_k A^k) of all feature maps, `[k h w]`, which one program serves whatever a visitor chooses."""
    return _run(networks, prepared, _channels_first)


def _channels_first(products: jax.Array) -> jax.Array:
    return jnp.moveaxis(products, -1, 0)


def _run(networks: Networks, prepared: _Prepared, select: Callable[[jax.Array], jax.Array] | None) -> np.ndarray:
    """The map of a request's method."""
    request, method = prepared.request, method_of(prepared.request)
    options: dict[str, Any] = {} if request.samples is None else {"n_samples": request.samples}
    if select is not None:
        options["select"] = select
    chosen = functools.partial(method, **options)

    def compute(cut, image, target, key, std):
        noise = {} if std is None else {"std": std}
        return chosen(cut, image, target, **key_of(chosen, key), **noise)

    saliency = np.asarray(
        networks.programs.run(
            (request.model, request.layer, request.method, request.samples, select),
            compute,
            prepared.opened.cut,
            jnp.asarray(prepared.fitted),
            jnp.int32(request.target),
            jax.random.key(request.seed),
            None if request.std is None else jnp.float32(request.std),
        )
    )
    if not np.isfinite(saliency).all():
        title = METHOD_TITLES[request.method]
        raise ValueError(f"{title} is not defined at layer {request.layer}: its map is not finite")
    return saliency


def _check_choice(request: Request, shape: tuple[int, ...]) -> None:
    """Raises a ValueError for a feature map or a neuron outside of the layer, `[h w k]`."""
    *spatial, channels = shape
    for k in request.filters:
        if k >= channels:
            raise ValueError(f"feature map {k} is outside the layer {request.layer}: it has 0..{channels - 1}")
    for point in request.subset:
        if point[0] >= spatial[0] or point[1] >= spatial[1]:
            bounds = " x ".join(f"0..{side - 1}" for side in spatial)
            raise ValueError(f"neuron {point} is outside the layer {request.layer}: coordinates are {bounds}")


def _why_zero(request: Request) -> str:
    if request.filters or request.subset:
        return "The map is zero everywhere: nothing in what was chosen speaks for the class."
    return "The map is zero everywhere: the diagnosis says why."
