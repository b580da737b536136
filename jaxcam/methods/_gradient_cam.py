"""One mechanism for every gradient-weighted map: derivatives of a cut's head, averaged over noise, turned into weights.

    >>> import jax, jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> mine = gradient_cam(cut, image, weigh=lambda A, Y1: jax.numpy.abs(Y1).max((0, 1)), order=1)
    >>> mine.shape
    (16, 16)

That is a method of one's own, with every option that the named ones have. They are in `jaxcam.methods`.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam.derivatives
from jaxcam._base.types import Image, Score, Target
from jaxcam.cutting import Cut, Cuts, activations, check_spatial, resolve_target
from jaxcam.derivatives import certificate as linearity
from jaxcam.formulas import maps, scores
from jaxcam.methods._call import method
from jaxcam.perturbations import grown, noise
from jaxcam.tracing import convolves

DERIVATIVES = ("exact", "closed_form")
ORDERS = (1, 3)


@method(several=True)
def gradient_cam(
    cut: Cut | Cuts,
    image: Image,
    target: Target = None,
    key: jax.Array | None = None,
    *,
    weigh: Callable[..., jax.Array],
    order: int,
    score: Score = scores.logit,
    link: str = "identity",
    derivatives: str = "exact",
    select: maps.Select | None = None,
    n_samples: int = 0,
    std: jax.Array | float = 0.15,
    relative: bool = True,
    standard_error: float | None = None,
    batch_size: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Any:
    """relu(sum_k w_k A^k), with w from the activation and the derivatives of Y, or from their means over noise.

    With noise, D_p, the means over noisy inputs of Y_p, stand in the place of Y_p; sample m enters them with its own
    factor e^(u_m), and the A of the weights and of the map is that of the clean image: Smooth Grad-CAM++ done to any
    rule. (`jaxcam.average_maps` averages finished maps instead.)

    Args:
      cut: a `Cut`; or `Cuts`, for a map at each of its layers from one backward pass.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output on the clean image.
      key: a `jax.random.key`; not needed for n_samples=0.
      weigh: the method's rule, `(A, Y1) -> w` for order 1 and `(A, Y1, Y2, Y3) -> w` for order 3, with A and each Y of
        `[*spatial k]` and w a weight for each channel, `[k]`, or for each neuron, `[*spatial k]`.
        Make it once, not anew for each call: jit knows it by its identity.
      order: 1, or 3 for the second and third derivatives too.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.
      link: Y = u for "identity", e^u for "exp"; the largest factor e^u is left out, it scales the map and no more.
      derivatives: of order 3: "exact", or "closed_form": one backward pass, the same where the head is piecewise linear
        (relu) and an approximation where it is smooth (gelu, layer norm, attention); "exact" takes it where
        `jaxcam.certify` proves that they are the same.
      select: as in `jaxcam.select`.
      n_samples: how many noisy copies; 0 for no noise.
      std: the noise's standard deviation, as a share of the image's range; or, with relative=False, in its own units.
      relative: as `std` says.
      standard_error: grow the samples, eight at a time, until the map's standard error is nowhere above this share of
        the map's maximum, or there are `n_samples`, which must be at least 16; the result is then a
        `jaxcam.Smoothed(map, standard_error, n_samples)`, of dicts for `Cuts`. 0 takes all. It has no reverse mode.
      batch_size: the memory knob: samples at a time; on a smooth head one sample, and this many directions, at a time.
      mesh: devices that the samples are divided over; None for the one that has the image.

    Returns:
      `[*spatial]`, at least 0; `[m *spatial]` for m chosen filters; for `Cuts` a dict of them by layer.

    Raises:
      TypeError: an image of integers.
      ValueError: an image with NaN or infinity, a target out of range, a key that is missing, an option that is not
        known; for order 3, link="identity" with an affine score, where Y2 and Y3 are zero.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> gradient_cam(cut, image, 3, weigh=jaxcam.weights.xgrad_cam, order=1).shape
      (16, 16)
    """
    if order not in ORDERS:
        raise ValueError(f"order is {order!r}: choose one of 1, 3")
    image = jnp.asarray(image)
    A, outputs = activations(cut, image)
    for layer, value in A.items():
        check_spatial(layer, value)
    target, valid = resolve_target(outputs, target)

    def head_at(x, A_of_x):
        """The head as a function of a point that is a dict by layer, and the point for input x."""
        if isinstance(cut, Cuts):
            # Displacements from the values that the network has for x.
            return lambda deltas: cut.tapped(cut.params, deltas, x)[1], jax.tree.map(jnp.zeros_like, A)
        return lambda point: cut.head(cut.params, point[cut.layer], x), {cut.layer: A_of_x}

    how: dict[str, Any] = {"score": score, "link": link, "order": order, "derivatives": derivatives}
    how["batch_size"] = batch_size

    def Y_at(x, A_of_x):
        head, point = head_at(x, A_of_x)
        return derivatives_of_Y(head, point, target, **how)

    def maps_of(D):
        found = {layer: maps.saliency(A[layer], weigh(A[layer], *D[layer]), select=select) for layer in A}
        found = {layer: jnp.where(valid, each, jnp.nan) for layer, each in found.items()}
        return found if isinstance(cut, Cuts) else found[cut.layer]

    clean = None if isinstance(cut, Cuts) else A[cut.layer]
    if n_samples == 0 or key is None:  # a missing key has been refused where there are samples
        return maps_of(Y_at(image, clean)[1])

    def features(x):
        # At several layers the network runs whole, where its derivatives are taken.
        return jnp.zeros(()) if isinstance(cut, Cuts) else cut.features(cut.params, x)

    # On a smooth head the directions of one sample fill the machine and the memory; on a CPU its convolutions do.
    alone = order == 3 and derivatives == "exact" and not linearity.certify(*head_at(image, clean)).affine
    on_cpu = batch_size is None and jax.default_backend() == "cpu"
    if alone or (on_cpu and convolves(*head_at(image, clean))):
        batch_size = 1
    noisily: dict[str, Any] = {"n_samples": n_samples, "std": std, "relative": relative, "batch_size": batch_size}
    if standard_error is None:
        return maps_of(noise.mean_over_noise(features, Y_at, image, key, mesh=mesh, **noisily)[1])
    if mesh is not None:
        raise ValueError("standard_error grows the samples on one device: give it or mesh, not both")
    return grown(features, Y_at, maps_of, image, key, standard_error=standard_error, **noisily)


# Without its checks and its jit, for methods, which have their own.
weighted_map = inspect.unwrap(gradient_cam)


def derivatives_of_Y(
    head: Callable[[Any], Any],
    point: dict[Any, jax.Array],
    target: Any,
    *,
    score: Score,
    link: str,
    order: int,
    derivatives: str,
    batch_size: int | None,
) -> tuple[jax.Array, dict[Any, tuple[jax.Array, ...]]]:
    """`(scale, {layer: (Y1, Y2, Y3)})` of one input, or `(Y1,)` for order 1, each Y to be read as times e^scale.

    The head is a function of a dict of arrays by layer, and the derivatives are those at the point.
    """
    if derivatives not in DERIVATIVES:
        raise ValueError(f"derivatives is {derivatives!r}: choose one of {', '.join(DERIVATIVES)}")

    def u_of(point):
        return score(head(point), target)

    def u_at(layer, A):
        return u_of({**point, layer: A})

    def through(u, *orders):
        found = {}
        for layer in point:
            at_layer = jaxcam.derivatives.Derivatives(u, *(each[layer] for each in orders))
            scale, found[layer] = jaxcam.derivatives.through_link(at_layer, link=link)
        return scale, found

    if order == 1:
        u, u1 = jax.value_and_grad(u_of)(point)
        zero = jax.tree.map(jnp.zeros_like, u1)
        scale, found = through(u, u1, zero, zero)
        return scale, {layer: Y[:1] for layer, Y in found.items()}
    piecewise = derivatives == "closed_form" or linearity.certify(head, point).affine
    if link == "identity" and piecewise and jaxcam.derivatives.score_is_affine(head, point, score, target):
        raise ValueError(
            "link='identity' with an affine score makes Y2 = Y3 = 0 at every location of a piecewise linear network: "
            "alpha is 0/0 and the map is zero. Use link='exp', or another score"
        )
    if piecewise:
        # All layers as one vector, so that one backward pass reaches them.
        flat, back = _as_one(point)
        u, *orders = jaxcam.derivatives.closed_form(lambda v: head(back(v)), flat, score, target, batch_size=batch_size)
        return through(u, *map(back, orders))
    each = {
        layer: jaxcam.derivatives.exact(functools.partial(u_at, layer), A, batch_size=batch_size)
        for layer, A in point.items()
    }
    u = next(iter(each.values())).u
    return through(u, *({layer: found[p] for layer, found in each.items()} for p in (1, 2, 3)))


def _as_one(point):
    """The point as one array, and the way back."""
    if len(point) == 1:
        ((layer, A),) = point.items()

        def back(A):
            return {layer: A}

        return A, back
    shapes = list(point.values())
    with jax.numpy_dtype_promotion("standard"):
        wide = jnp.result_type(*shapes)
    ends = np.cumsum([each.size for each in shapes])[:-1].tolist()

    def apart(flat):
        parts = zip(point, shapes, jnp.split(flat, ends), strict=True)
        return {layer: part.reshape(each.shape).astype(each.dtype) for layer, each, part in parts}

    return jnp.concatenate([each.ravel().astype(wide) for each in shapes]), apart
