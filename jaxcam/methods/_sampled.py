"""`derivatives="sampled"` of Grad-CAM++ and Smooth Grad-CAM++: second derivatives at drawn locations alone."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jaxcam._base import checks
from jaxcam.derivatives import exact_cost
from jaxcam.formulas import maps, sampling
from jaxcam.methods._plus_plus import PlusPlusRule
from jaxcam.perturbations import Smoothed

MapT_co = TypeVar("MapT_co", covariant=True)
LOCATIONS = 2**31 - 2  # no noisy sample of a key has this number


class Sampled(NamedTuple, Generic[MapT_co]):
    """A map from drawn locations: `grad_cam_pp(..., derivatives="sampled", n_locations=20)`.

    The weights are unbiased estimates of those of `derivatives="exact"`; the map is not, because of its relu. For
    `Cuts`, each attribute is a dict by layer. Standard errors are those of the draw of locations; with noise, its
    samples are given. They are 0 where all directions were pushed.

    Attributes:
      map: `[*spatial]`, or `[m *spatial]` for m selected filters.
      standard_error: of the map before its relu, of its shape.
      weights: of the channels, `[k]`.
      weights_standard_error: of the weights, `[k]`.

    Example:
      >>> import jax, jaxcam
      >>> cut = jaxcam.cut(jaxcam.digits(activation=jax.nn.gelu), "block3_conv2")
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> options = dict(derivatives="sampled", n_locations=8)
      >>> sampled = jaxcam.grad_cam_pp(cut, image, 3, jax.random.key(0), **options)
      >>> sampled.map.shape, sampled.weights.shape, sampled.weights_standard_error.shape
      ((16, 16), (64,), (64,))
    """

    map: MapT_co
    standard_error: MapT_co
    weights: MapT_co
    weights_standard_error: MapT_co


def map_of(result: Any) -> Any:
    """The map that a method returned: `map` of a `Smoothed` or `Sampled`, and any other result as it is.

    Example:
      >>> map_of(Smoothed("the map", "its error", 16)), map_of("a map")
      ('the map', 'a map')
    """
    return result.map if isinstance(result, Smoothed | Sampled) else result


def check_derivatives(name: Any, call: Mapping[str, Any]) -> None:
    """Raises a TypeError or ValueError if the options of a call do not go with its `derivatives`."""
    checks.check_name_of_choice("derivatives", name)
    if "n_locations" not in call:  # a method of a user's own
        return
    n_locations = call["n_locations"]
    if name != "sampled":
        if n_locations is not None:
            raise ValueError(f"n_locations={n_locations!r} goes with derivatives='sampled', got derivatives={name!r}")
        return
    if n_locations is None:
        raise ValueError("derivatives='sampled' needs n_locations=, the number of locations to draw for each channel")
    checks.check_count("n_locations", n_locations, at_least=2)
    if call["key"] is None:
        raise ValueError("derivatives='sampled' draws locations and needs a key: jax.random.key(0)")
    if call["standard_error"] is not None:
        raise ValueError("standard_error= is an error over noise: give it or derivatives='sampled', not both")


def layers_to_sample(
    score_at: Callable[[dict[Any, jax.Array]], jax.Array],
    point: dict[Any, jax.Array],
    n_locations: int,
    batch_size: int | None,
) -> list[Any]:
    """The layers at which all directions are more than n_locations for each channel; shapes decide it."""

    def score_of_layer(layer, A):
        return score_at({**point, layer: A})

    def directions(layer):
        return exact_cost(functools.partial(score_of_layer, layer), point[layer], batch_size=batch_size).directions

    return [layer for layer, A in point.items() if n_locations * A.shape[-1] < directions(layer)]


def draw_at_layers(
    key: jax.Array, layers: Sequence[Any], n_locations: int, D: Mapping[Any, tuple[jax.Array]]
) -> tuple[dict[Any, jax.Array], dict[Any, jax.Array]]:
    """The elements that count, and how often those of `layers` are drawn, both by layer, from the first derivatives.

    The draws have nothing in common with the noise of the key.
    """
    key = jax.random.fold_in(key, LOCATIONS)
    counts = {
        layer: sampling.draw_locations(jax.random.fold_in(key, i), *D[layer], n_locations)
        for i, layer in enumerate(sorted(D))
        if layer in layers
    }
    return {layer: counts[layer] > 0 if layer in counts else D1 > 0 for layer, (D1,) in D.items()}, counts


def sampled_map(
    A: jax.Array, D: tuple[Any, ...], rule: PlusPlusRule, counts: jax.Array | None, select: maps.Select | None
) -> Sampled[jax.Array]:
    """The map of one layer with weights from drawn locations, or from all if `counts` is None."""
    if counts is None:
        weights = rule(A, *D)
        error = jnp.zeros_like(weights)
    else:
        Y1, Y2, Y3 = D
        weights, error = rule.sampled(A, Y1, Y2, Y3, counts)
    top = error.max()
    scale = jnp.where((top > 0) & jnp.isfinite(top), top, 1)  # squares of tiny errors are out of range
    variance = maps.weighted_sum(jnp.square(A.astype(error.dtype)), jnp.square(error / scale), select=select)
    return Sampled(maps.weighted_sum(A, weights, select=select), scale * _square_root(variance), weights, error)


def joined(by_layer: Mapping[str, Sampled[jax.Array]]) -> Sampled[dict[str, jax.Array]]:
    """One record of dicts by layer."""
    return Sampled(*(dict(zip(by_layer, values, strict=True)) for values in zip(*by_layer.values(), strict=True)))


def _square_root(x):
    return jnp.sqrt(jax.lax.stop_gradient(x))
