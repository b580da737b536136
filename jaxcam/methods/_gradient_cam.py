"""One mechanism for every gradient-weighted map: derivatives of a cut's head, averaged over noise, turned into weights.

    >>> import jax, jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> saliency = gradient_cam(cut, image, weigh=lambda A, Y1: jax.numpy.abs(Y1).max((0, 1)), order=1)
    >>> saliency.shape
    (16, 16)

That is a new method, with every option of the named ones, which are in `jaxcam.methods`.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import is_scaled, on_cpu
from jaxcam._base.types import Image, Score, Target
from jaxcam.cutting import Cut, Cuts, activations, check_spatial, resolve_target
from jaxcam.derivatives import certify, exact_cost
from jaxcam.formulas import maps, scores, weights
from jaxcam.methods._call import explanation_method
from jaxcam.methods._layer_derivatives import ORDERS, derivatives_at_layers
from jaxcam.methods._locally_constant import refuse_locally_constant
from jaxcam.methods._plus_plus import PlusPlusRule, log_alphas_outside
from jaxcam.methods._sampled import draw_at_layers, joined, layers_to_sample, sampled_map
from jaxcam.methods._types import GradientMethod, Key, Maps, Rule, RuleMethod
from jaxcam.perturbations import map_over_noise
from jaxcam.tracing import convolves, flops_of


def _rule_method(compute: Callable[..., Maps]) -> RuleMethod:
    return cast(RuleMethod, explanation_method(several=True)(compute))


@_rule_method
def gradient_cam(
    cut: Cut | Cuts,
    image: Image,
    target: Target = None,
    key: jax.Array | None = None,
    *,
    weigh: Rule,
    order: int,
    score: Score = scores.logit,
    link: str = "identity",
    derivatives: str = "exact",
    n_locations: int | None = None,
    select: maps.Select | None = None,
    n_samples: int = 0,
    std: jax.Array | float = 0.15,
    relative: bool = True,
    standard_error: float | None = None,
    batch_size: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Maps:
    """relu(sum_k w_k A^k), with w from the activation and the derivatives of Y, or from their means over noise.

    With noise, the means D_p of Y_p over noisy inputs replace Y_p. Sample m enters them with its own factor e^(u_m).
    The A of the weights and of the map is that of the clean image. This is Smooth Grad-CAM++ with any rule.
    (`jaxcam.average_maps` averages finished maps instead.)

    Args:
      cut: a `Cut`; or `Cuts`, for a map at each of its layers from one backward pass.
      image: one example, floats, without a batch axis.
      target: what the score takes second, any pytree: for the scores of `jaxcam.scores` a class. For outputs
        `[classes]`, None is the class of the largest output on the clean image.
      key: a `jax.random.key`; not needed for n_samples=0, unless locations are drawn.
      weigh: the rule of the method, `(A, Y1) -> w` for order 1 and `(A, Y1, Y2, Y3) -> w` for order 3. A and each Y are
        `[*spatial k]`; w has a weight for each channel, `[k]`, or for each neuron, `[*spatial k]`. Define the function
        once and reuse it: jit compares functions by identity, and a new one is traced again.
      order: 1, or 3 for the second and third derivatives too.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.
      link: Y = u for "identity", e^u for "exp". The largest factor e^u is left out, because it only scales the map.
      derivatives: for order 3. "closed_form" takes one backward pass. It equals "exact" if the head is piecewise linear
        (relu), and approximates it if the head is smooth (gelu, layer norm, attention). "exact" uses the closed form
        where `jaxcam.certify` proves that the two are equal. "sampled", of `grad_cam_pp` and `smooth_grad_cam_pp`
        alone, pushes only directions of drawn locations: an estimate of "exact", for heads where that takes too long.
        The result is a `jaxcam.Sampled(map, standard_error, weights, weights_standard_error)`.
      n_locations: for "sampled", the locations to draw for each channel, at least 2: with replacement, with
        probability proportional to relu(Y1), and the same for all noisy samples. Where all directions are no more than
        these (a certified head, pooling or a gate, or few locations), all are pushed, and the errors are 0.
      select: feature maps or neurons to show; see `jaxcam.select`.
      n_samples: number of noisy copies; 0 for no noise.
      std: standard deviation of the noise, as a share of the image's range, or in the units of the image with
        relative=False.
      relative: the unit of `std`.
      standard_error: grow the samples, eight at a time, until no location's standard error is above this share of the
        map's maximum, or until there are `n_samples`, which must be at least 16. The result is then a
        `jaxcam.Smoothed(map, standard_error, n_samples)`, of dicts for `Cuts`. 0 takes all samples. It cannot be
        differentiated in reverse mode.
      batch_size: samples at a time, which limits memory. If the head is smooth, samples are taken one at a time, and
        batch_size is the number of directions at a time.
      mesh: devices that the samples are divided over; None for the device that holds the image.

    Returns:
      `[*spatial]`, at least 0; `[m *spatial]` for m selected filters; for `Cuts` a dict of them by layer. With
      `standard_error` a `Smoothed`, and with derivatives="sampled" a `Sampled`.

    Raises:
      TypeError: the image is not floats, or an option is not known.
      ValueError: the image has NaN or infinity, the target is out of range, the key is missing, or the value of an
        option is not known; the score is locally constant in A, because every path passes `stop_gradient`, a rounding
        or a comparison; for order 3, link="identity" with an affine score, where Y2 and Y3 are zero.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> gradient_cam(cut, image, 3, weigh=jaxcam.weights.xgrad_cam, order=1).shape
      (16, 16)
    """
    saliency, _ = _map_and_shares(
        cut, image, target, key, weigh=weigh, order=order, score=score, link=link, derivatives=derivatives,
        n_locations=n_locations, select=select, n_samples=n_samples, std=std, relative=relative,
        standard_error=standard_error, batch_size=batch_size, mesh=mesh,
    )  # fmt: skip
    return saliency


def _map_and_shares(
    cut, image, target, key, *, weigh, order, score, link, derivatives, n_locations, select, n_samples, std, relative,
    standard_error, batch_size, mesh,
):  # fmt: skip
    """The map, and for Grad-CAM++ the share of alphas outside their range by layer, or None."""
    _check_rule(weigh, order, derivatives)
    image = jnp.asarray(image)
    A, outputs = activations(cut, image)
    for layer, activation in A.items():
        check_spatial(layer, activation)
    target, in_range = resolve_target(outputs, target)
    features, head_at = _features_and_head(cut, A)
    clean_features = None if isinstance(cut, Cuts) else A[cut.layer]
    head, point = head_at(image, clean_features)
    is_plus_plus, is_sampled = isinstance(weigh, PlusPlusRule), derivatives == "sampled"
    has_noise = n_samples > 0 and key is not None  # the checks refuse n_samples > 0 without a key
    is_asked = order == 3 and derivatives != "closed_form" and (has_noise or is_sampled)
    is_pushed = is_asked and not certify(head, point).affine

    def score_at(point):
        return score(head(point), target)

    def derivatives_of(x, features_of_x, *, order=order, where=None):
        head, point = head_at(x, features_of_x)
        return derivatives_at_layers(
            head, point, target, score=score, link=link, order=order, derivatives=derivatives,
            batch_size=batch_size, where=where, n_locations=n_locations,
        )  # fmt: skip

    def average(values_of, finish):
        if not has_noise:
            return finish(values_of(image, clean_features)[1])
        # One sample fills the machine if it has a direction for each location, or convolutions on a CPU.
        one_at_a_time = is_pushed or (batch_size is None and on_cpu() and convolves(head, point))
        return map_over_noise(
            features, values_of, finish, image, key, n_samples=n_samples, std=std, relative=relative,
            standard_error=standard_error, batch_size=1 if one_at_a_time else batch_size, mesh=mesh,
        )  # fmt: skip

    refuse_locally_constant(score_at, point)
    finish = functools.partial(_maps_and_shares, cut, A, in_range, weigh, select)
    if standard_error is not None:
        # The error is that of all that is returned. It comes from the maps of parts of the samples, in which D1 is
        # positive at other elements, so every element counts.
        return average(derivatives_of, lambda D: finish(D)[0]), None
    first_order = functools.partial(derivatives_of, order=1)
    where: Any = None
    counts: dict[Any, jax.Array] | None = {} if is_sampled else None
    layers = layers_to_sample(score_at, point, n_locations, batch_size) if is_sampled and is_pushed else []
    if layers:
        where, counts = average(first_order, functools.partial(draw_at_layers, key, layers, n_locations))
    elif is_plus_plus and not has_noise:
        # Grad-CAM++ multiplies alpha by relu(Y1): no other element needs a second and third derivative.
        where = dict.fromkeys(A, _is_positive)
    elif is_plus_plus and is_pushed and _is_worth_a_pass(score_at, point, features, first_order, image, batch_size):
        # With noise relu(D1) decides, and D1 takes only backward passes.
        where = average(first_order, lambda D: {layer: _is_positive(D1) for layer, (D1,) in D.items()})
    return average(functools.partial(derivatives_of, where=where), functools.partial(finish, counts=counts))


def _check_rule(weigh, order, derivatives):
    if order not in ORDERS:
        raise ValueError(f"order is {order!r}: choose one of {', '.join(map(str, ORDERS))}")
    if derivatives == "sampled" and not isinstance(weigh, PlusPlusRule):
        raise ValueError(
            "derivatives='sampled' estimates the weights of grad_cam_pp and smooth_grad_cam_pp, which are sums over "
            "locations of terms with second derivatives: for other methods choose exact or closed_form"
        )


def _maps_and_shares(cut, A, in_range, weigh, select, D, counts=None):
    """The maps from the derivatives, or `Sampled`s from those at drawn locations; and the shares of alphas."""
    is_plus_plus = isinstance(weigh, PlusPlusRule)
    rule = weigh if is_plus_plus else _of_values(weigh)
    by_layer = {
        layer: maps.weighted_sum(A[layer], rule(A[layer], *D[layer]), select=select)
        if counts is None
        else sampled_map(A[layer], D[layer], weigh, counts.get(layer), select)
        for layer in A
    }
    by_layer = jax.tree.map(lambda array: jnp.where(in_range, array, jnp.nan), by_layer)
    result = by_layer[cut.layer] if not isinstance(cut, Cuts) else by_layer if counts is None else joined(by_layer)
    if not is_plus_plus:
        return result, None
    return result, {layer: weigh.share_outside(A[layer], *D[layer], (counts or {}).get(layer)) for layer in A}


def _is_positive(Y1):
    return Y1 > 0


def _is_worth_a_pass(score_at, point, features, first_order, image, batch_size):
    """Whether D1 takes less work than the directions at which it is not positive, about half of them."""
    work = sum(_exact_flops(score_at, point, batch_size))
    return work / 2 > _flops_of_a_sample(features, first_order, image)


def _exact_flops(score_at, point, batch_size):
    """The operations of the exact derivatives at each layer."""

    def score_of_layer(layer, A):
        return score_at({**point, layer: A})

    for layer, A in point.items():
        yield exact_cost(functools.partial(score_of_layer, layer), A, batch_size=batch_size).flops


def _flops_of_a_sample(features, values_of, image):
    return flops_of(jax.make_jaxpr(lambda x: values_of(x, features(x)))(image))


def _of_values(weigh: Rule) -> Rule:
    """The rule for derivatives of which some are `Scaled`."""
    return lambda A, *Y: weigh(A, *(y.value() if is_scaled(y) else y for y in Y))


# The function without checks and jit. The named methods call it, because they have their own.
compute_gradient_cam: Callable[..., Maps] = inspect.unwrap(gradient_cam)


def compute_plus_plus(
    cut: Cut | Cuts, image: Image, target: Target, key: Key, *, numerator: str, alpha: str, **options: Any
) -> tuple[Maps, Any]:
    """The map with the weights of Grad-CAM++, and the share of alphas outside their range by layer, or None.

    Raises:
      ValueError: as `jaxcam.weights.alpha_grad_cam_pp`.
    """
    weights.check_grad_cam_pp_options(numerator=numerator, alpha=alpha)
    rule = PlusPlusRule(numerator, alpha)
    call = inspect.signature(compute_gradient_cam).bind(cut, image, target, key, weigh=rule, order=3, **options)
    call.apply_defaults()
    return _map_and_shares(*call.args, **call.kwargs)


def gradient_method(compute: Callable[..., Maps]) -> GradientMethod:
    """A decorator for a named method that calls `compute_gradient_cam` with its rule and its `**options`."""
    return cast(GradientMethod, explanation_method(options_of=compute_gradient_cam, several=True)(compute))


def plus_plus_method(compute: Callable[..., tuple[Maps, Any]]) -> GradientMethod:
    """A decorator for a named method that returns what `compute_plus_plus` returns."""
    decorate = explanation_method(options_of=compute_gradient_cam, several=True, observer=log_alphas_outside)
    return cast(GradientMethod, decorate(compute))


def _features_and_head(cut, A):
    """`features(x)`, the expensive part, and `head_at(x, features(x))`, the head for the input x and its point there.

    The head is a function of a dict by layer, and the point is such a dict.
    """
    if isinstance(cut, Cuts):
        # The model is one function, so it runs whole where its derivatives are taken. Its head takes displacements from
        # the activations that the model has for x.
        return (
            lambda x: jnp.zeros(()),
            lambda x, _: (lambda deltas: cut.tapped(cut.params, deltas, x)[1], jax.tree.map(jnp.zeros_like, A)),
        )
    return (
        lambda x: cut.features(cut.params, x),
        lambda x, A_of_x: (lambda point: cut.head(cut.params, point[cut.layer], x), {cut.layer: A_of_x}),
    )
