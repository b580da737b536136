"""Is the closed form exact for a model and a layer? Its derivatives, weights and map against the exact ones.

    >>> import jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> validation = jaxcam.validate(cut, image, scores=[jaxcam.scores.logit], links=["exp"])
    >>> validation.certificate.affine, validation.comparisons[0].errors["map"]
    (True, 0.0)

`print(validation)` prints a table, `validation.as_dict()` is ready for JSON, and
`jaxcam.plots.validation(validation, image)` draws a figure.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam import derivatives
from jaxcam._base import checks, progress
from jaxcam._base.targets import describe_target, jit_with_target, target_as_json
from jaxcam._base.types import Image, Score, Target
from jaxcam.analysis._finite_differences import Walk, estimate, sample_locations, walk_along
from jaxcam.cutting import Cut, check_cut, check_spatial, check_target, class_or_none, for_score
from jaxcam.derivatives import Certificate, Derivatives, certify
from jaxcam.formulas import maps, scores, weights

# What is compared, in the order of the table.
QUANTITIES = ("Y2", "Y3", "alpha", "weights", "map")
# How many locations are drawn for each that is compared; some lie on a kink.
CANDIDATES = 4


class Comparison(NamedTuple):
    """One approximate form of the derivatives against the exact ones, for a score and a link.

    Attributes:
      score: the name of the score.
      link: "identity" or "exp".
      form: "closed form", or "powers of g": Y2 = Y g^2 and Y3 = Y g^3 with g the gradient of u, which most libraries
        use for any score. It is listed only if it differs from the closed form.
      errors: for each of Y2, Y3, alpha, weights and map, mean |form - exact| / mean |exact|. NaN if both are zero, and
        infinite if only the exact one is. 1 if only the form is zero: for example the closed form of an affine score
        for link="identity" on a smooth head.
      approximate: the arrays of the form, by the same names.
      exact: the exact arrays, by the same names.
    """

    score: str
    link: str
    form: str
    errors: dict[str, float]
    approximate: dict[str, np.ndarray]
    exact: dict[str, np.ndarray]


class Difference(NamedTuple):
    """The exact derivatives against finite differences in float64, at a sample of locations.

    Attributes:
      score: the name of the score.
      link: "identity" or "exp".
      errors: for Y1, Y2 and Y3, the largest |exact - difference| in the sample, divided by the largest |Y_p| anywhere,
        or by the largest |Y1| if Y_p is zero everywhere.
      kept: how many locations were compared. 0 if the head does not compute in float64 when parameters and activation
        are float64, because it casts them to a type of its own.
      kinks: how many locations were drawn and left out, because a relu turned on or off, or the position of a maximum
        changed, within the step.
    """

    score: str
    link: str
    errors: dict[str, float]
    kept: int
    kinks: int


class Validation(NamedTuple):
    """What `validate` found. It prints as a table.

    Attributes:
      layer: where the model is cut; None if the cut has no layer.
      target: the class, or the target as it was given.
      certificate: whether the head is locally affine in A, and what stops it; see `jaxcam.certify`.
      comparisons: the closed form and other forms against the exact derivatives.
      differences: the exact derivatives against finite differences.
    """

    layer: str | None
    target: Any
    certificate: Certificate
    comparisons: tuple[Comparison, ...]
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        verdict = "exact" if self.certificate.affine else "an approximation"
        lines = [
            f"{self.layer or 'the cut'}, {describe_target(self.target)}: the head is {self.certificate}",
            f"so the closed form is {verdict} here",
            "",
            f"{'score':<13}{'link':<10}{'form':<14}" + "".join(f"{name:>10}" for name in QUANTITIES),
        ]
        for row in self.comparisons:
            errors = (row.errors[name] for name in QUANTITIES)
            numbers = "".join(f"{'both 0' if math.isnan(error) else f'{error:.1e}':>10}" for error in errors)
            lines.append(f"{row.score:<13}{row.link:<10}{row.form:<14}{numbers}")
        lines += ["relative error against the exact derivatives: mean |form - exact| / mean |exact|", ""]
        for difference in self.differences:
            numbers = ", ".join(f"{name} {error:.1e}" for name, error in difference.errors.items())
            left_out = f" ({difference.kinks} more lie on a kink)" if difference.kinks else ""
            result = f"{numbers} at {difference.kept} locations{left_out}"
            if difference.kept == difference.kinks == 0:
                result = "not taken: the head does not compute in float64"
            lines.append(f"{difference.score:<13}{difference.link:<10}{result}")
        lines.append("exact against finite differences in float64: largest difference / largest |Y|")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Everything except the arrays, ready for JSON. An error that is not finite is None."""

        def finite_or_none(errors):
            return {name: error if math.isfinite(error) else None for name, error in errors.items()}

        return {
            "layer": self.layer,
            "target": target_as_json(self.target),
            "certificate": self.certificate.as_dict(),
            "comparisons": [
                {"score": row.score, "link": row.link, "form": row.form, "errors": finite_or_none(row.errors)}
                for row in self.comparisons
            ],
            "finite_differences": [{**row._asdict(), "errors": finite_or_none(row.errors)} for row in self.differences],
        }


def validate(
    cut: Cut,
    image: Image,
    target: Target = None,
    key: jax.Array | None = None,
    *,
    scores: Sequence[Score] = (scores.logit, scores.log_softmax),
    links: Sequence[str] = derivatives.LINKS,
    locations: int = 16,
    batch_size: int | None = None,
) -> Validation:
    """The error of the closed form against the exact derivatives, and of those against finite differences.

    It runs outside jit, because it looks at values, and takes as long as the exact derivatives.

    Args:
      cut: a `Cut`.
      image: one example, floats, without a batch axis.
      target: what the scores take; None for the class of the largest output of `[classes]`.
      key: a `jax.random.key` that chooses the locations of the finite differences. Defaults to `jax.random.key(0)`.
      scores: functions `(outputs, target) -> u`.
      links: "identity", "exp" or both.
      locations: how many elements of A the finite differences are taken at, of those with a gradient.
      batch_size: the memory knob of `jaxcam.derivatives.exact`.

    Returns:
      A `Validation`.

    Raises:
      TypeError, ValueError: as `jaxcam.grad_cam_pp`; if `locations` is below 1, or `scores` or `links` is not a list
        or is empty.

    Example:
      >>> import jaxcam
      >>> model = jaxcam.pretrained.digits(activation=jax.nn.silu)
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> validation = jaxcam.validate(jaxcam.cut(model, "block3_conv2"), image, 1)
      >>> validation.certificate.affine, validation.comparisons[0].errors["Y2"] > 0.1
      (False, True)
    """
    if callable(scores) or isinstance(links, str):
        raise TypeError("scores and links are lists: scores=[jaxcam.scores.logit], links=['exp']")
    scores, links = tuple(scores), tuple(links)
    image = _checked_arguments(cut, image, target, scores, links, locations)
    A, outputs = _activation_and_outputs(cut, image)
    _check_activation(cut, A, outputs)
    explained_class = class_or_none(outputs, target)
    target = target if explained_class is None else int(explained_class)
    key = jax.random.key(0) if key is None else key

    comparisons, differences = [], []
    for given in scores:
        scored, score = for_score(cut, image, given)
        head = functools.partial(_head_of, scored, image)
        exact = _exact_with_bar(functools.partial(_score_of, score, head, target), A, batch_size)
        closed = _closed_form(scored, image, A, score, target)
        is_affine = derivatives.score_is_affine(head, A, score, target)
        sample = sample_locations(A, exact.u1, CANDIDATES * locations, key)
        walk = walk_along(scored, image, A, score, target, sample)
        for link in links:
            row = (_name_of(given), link)
            comparisons += _compare_forms(row, A, exact, closed, is_affine)
            differences.append(_compare_with_walk(row, exact, walk, sample, locations))
    certificate = certify(functools.partial(_head_of, cut, image), A)
    return Validation(cut.layer, target, certificate, tuple(comparisons), tuple(differences))


def _checked_arguments(cut, image, target, scores, links, locations):
    """The image as an array."""
    check_cut(cut)
    image = checks.checked_image(image)
    checks.check_count("locations", locations, at_least=1)
    for name, given, choices in (("scores", scores, "functions such as logit"), ("links", links, "identity, exp")):
        if not given:
            raise ValueError(f"{name} is empty: choose some of {choices}")
    for score in scores:
        checks.check_function("score", score)
        check_target(cut, image, target, score)
    for link in links:
        checks.check_name_of_choice("link", link)
        if link not in derivatives.LINKS:
            raise ValueError(f"link is {link!r}: choose one of {', '.join(derivatives.LINKS)}")
    return image


def _check_activation(cut, A, outputs):
    layer = cut.layer or "this cut"
    if isinstance(A, jax.core.Tracer):
        raise TypeError("validate looks at values: call it outside jit, vmap and grad")
    check_spatial(cut.layer, A)
    for what, tree in (("activation", A), ("outputs", outputs)):
        if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree)):
            raise ValueError(f"expected finite values at {layer!r}, got {what} with NaN or infinite values")


def _name_of(score):
    """The name of a score; that of its function for a partial."""
    return str(getattr(getattr(score, "func", score), "__name__", "score"))


def _head_of(cut, image, A):
    return cut.head(cut.params, A, image)


def _score_of(score, head, target, A):
    return score(head(A), target)


def _exact_with_bar(f, A, batch_size):
    """The exact derivatives, with a progress bar if they take seconds."""
    cost = derivatives.exact_cost(f, A, batch_size=batch_size)
    label = f"exact derivatives along {cost.directions:,} directions"
    with progress.bar(label, cost.chunks, flops=cost.flops) as advance:
        return derivatives.exact(f, A, batch_size=batch_size, progress=advance)


@jax.jit
def _activation_and_outputs(cut, image):
    A = cut.features(cut.params, image)
    return A, cut.head(cut.params, A, image)


@functools.partial(jit_with_target, static_argnames="score")
def _closed_form(cut, image, A, score, target):
    return derivatives.closed_form(lambda A: cut.head(cut.params, A, image), A, score, target)


def _compare_forms(
    row: tuple[str, str], A: jax.Array, exact: Derivatives, closed: Derivatives, score_is_affine: bool
) -> list[Comparison]:
    """The comparisons for a score and a link."""
    _, link = row
    forms = {"closed form": closed}
    if link == "exp" and not score_is_affine:
        zero = jnp.zeros_like(closed.u2)
        forms["powers of g"] = closed._replace(u2=zero, u3=zero)
    exact_arrays = _arrays(A, exact, link)
    comparisons = []
    for form, approximate in forms.items():
        arrays = _arrays(A, approximate, link)
        errors = {name: _relative_error(arrays[name], exact_arrays[name]) for name in QUANTITIES}
        comparisons.append(Comparison(*row, form, errors, arrays, exact_arrays))
    return comparisons


def _arrays(A: jax.Array, u: Derivatives, link: str) -> dict[str, np.ndarray]:
    """The quantities that are compared, from the derivatives of u."""
    _, (Y1, Y2, Y3) = derivatives.through_link(u, link=link)
    alpha = weights.alpha_grad_cam_pp(A, Y1, Y2, Y3)
    w = weights.grad_cam_pp(A, Y1, Y2, Y3)
    arrays = {"Y2": Y2, "Y3": Y3, "alpha": alpha, "weights": w, "map": maps.weighted_sum(A, w)}
    return {name: np.asarray(array) for name, array in arrays.items()}


def _relative_error(approximate: np.ndarray, exact: np.ndarray) -> float:
    """Mean |approximate - exact| / mean |exact|; NaN for 0/0."""
    size, error = (float(np.abs(np.asarray(x, np.float64)).mean()) for x in (exact, np.subtract(approximate, exact)))
    if size == 0:
        return math.nan if error == 0 else math.inf
    return error / size


def _compare_with_walk(
    row: tuple[str, str], exact: Derivatives, walk: Walk, sample: np.ndarray, count: int
) -> Difference:
    """The exact derivatives against finite differences at the first `count` smooth locations of the sample."""
    _, link = row
    if walk.u.dtype != np.float64:
        return Difference(*row, dict.fromkeys(("Y1", "Y2", "Y3"), math.nan), 0, 0)
    estimates = estimate(walk, link)
    everywhere = [np.asarray(Y, np.float64).ravel() for Y in derivatives.through_link(exact, link=link)[1]]
    sizes = [np.abs(Y).max() or np.abs(everywhere[0]).max() or 1.0 for Y in everywhere]
    smooth = estimates.is_smooth(sizes)
    kept = np.flatnonzero(smooth)[:count]
    drawn = kept[-1] + 1 if kept.size == count else smooth.size
    kinks = int((~smooth[:drawn]).sum())
    errors = {}
    for name, Y, difference, size in zip(("Y1", "Y2", "Y3"), everywhere, estimates.fine, sizes, strict=True):
        error = np.abs(Y[sample[kept]] - difference[kept])
        errors[name] = float(error.max() / size) if kept.size else math.nan
    return Difference(*row, errors, kept.size, kinks)
