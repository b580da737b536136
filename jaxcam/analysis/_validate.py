"""Is the closed form right here? Its derivatives, weights and map against the exact ones, for a model and a layer.

    >>> import jaxcam
    >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    >>> image, _ = jaxcam.pretrained.digits_canvas(0)
    >>> found = jaxcam.validate(cut, image, scores=[jaxcam.scores.logit], links=["exp"])
    >>> found.certificate.affine, found.comparisons[0].errors["map"]
    (True, 0.0)

`print(found)` is a table, `found.as_dict()` is ready for JSON, and after `import jaxcam.plots`
`jaxcam.plots.validation(found, image)` draws it.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam import derivatives
from jaxcam._base import checks, progress
from jaxcam.analysis._finite_differences import KINK, _finite_differences, _locations
from jaxcam.cutting import Cut, check_cut, check_target
from jaxcam.derivatives import certificate as linearity
from jaxcam.formulas import maps, scores, weights

QUANTITIES = ("Y2", "Y3", "alpha", "weights", "map")
CANDIDATES = 4


class Comparison(NamedTuple):
    """One form of the derivatives against the exact ones, for a score and a link.

    Attributes:
      score: its name.
      link: "identity" or "exp".
      form: "closed form", or "powers of g": Y2 = Y g^2 and Y3 = Y g^3 with g the gradient of u, as most libraries have
        it for any score; listed where it is another thing than the closed form.
      errors: for each of Y2, Y3, alpha, weights and map, mean |form - exact| / mean |exact|; NaN where both are zero,
        infinite where only the exact one is. 1 where only the form is zero, as the closed form of an affine score is
        for link="identity" on a smooth head.
      found: the arrays of the form, by the same names.
      exact: the exact arrays.
    """

    score: str
    link: str
    form: str
    errors: dict[str, float]
    found: dict[str, np.ndarray]
    exact: dict[str, np.ndarray]


class Difference(NamedTuple):
    """The exact derivatives against finite differences in float64, at a sample of locations.

    Attributes:
      score: its name.
      link: "identity" or "exp".
      errors: for Y1, Y2 and Y3 the largest |exact - difference| in the sample, by the largest |Y_p| anywhere (by the
        largest |Y1| where Y_p is zero everywhere).
      kept: how many locations were compared; none where the head does not compute in float64 when it is given
        parameters and activation in float64, as one with types of its own does not.
      kinks: how many were drawn and left out, because a relu turned on or off, or a maximum moved, within the step.
    """

    score: str
    link: str
    errors: dict[str, float]
    kept: int
    kinks: int


class Validation(NamedTuple):
    """What `validate` found; see `Comparison` and `Difference`."""

    layer: str | None
    target: int
    certificate: linearity.Certificate
    comparisons: tuple[Comparison, ...]
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        verdict = "exact" if self.certificate.affine else "an approximation"
        lines = [
            f"{self.layer or 'the cut'}, class {self.target}: the head is {self.certificate}",
            f"so the closed form is {verdict} here",
            "",
            f"{'score':<13}{'link':<10}{'form':<14}" + "".join(f"{name:>10}" for name in QUANTITIES),
        ]
        for row in self.comparisons:
            cells = (row.errors[name] for name in QUANTITIES)
            numbers = "".join(f"{'both 0' if math.isnan(e) else f'{e:.1e}':>10}" for e in cells)
            lines.append(f"{row.score:<13}{row.link:<10}{row.form:<14}{numbers}")
        lines += ["relative error against the exact derivatives: mean |form - exact| / mean |exact|", ""]
        for check in self.differences:
            numbers = ", ".join(f"{name} {e:.1e}" for name, e in check.errors.items())
            left = f" ({check.kinks} more lie on a kink)" if check.kinks else ""
            result = f"{numbers} at {check.kept} locations{left}"
            if check.kept == check.kinks == 0:
                result = "not taken: the head does not compute in float64"
            lines.append(f"{check.score:<13}{check.link:<10}{result}")
        lines.append("exact against finite differences in float64: largest difference / largest |Y|")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Everything but the arrays, as dictionaries, lists and numbers; None where a relative error divides by 0."""

        def plain(errors):
            return {name: e if math.isfinite(e) else None for name, e in errors.items()}

        return {
            "layer": self.layer,
            "target": self.target,
            "certificate": self.certificate.as_dict(),
            "comparisons": [
                {"score": row.score, "link": row.link, "form": row.form, "errors": plain(row.errors)}
                for row in self.comparisons
            ],
            "finite_differences": [{**row._asdict(), "errors": plain(row.errors)} for row in self.differences],
        }


def validate(
    cut: Cut,
    image: jax.Array | np.ndarray,
    target: int | None = None,
    key: jax.Array | None = None,
    *,
    scores: Sequence[Callable[[Any, Any], jax.Array]] = (scores.logit, scores.log_softmax),
    links: Sequence[str] = derivatives.LINKS,
    locations: int = 16,
    batch_size: int | None = None,
) -> Validation:
    """The error of the closed form against the exact derivatives, and of those against finite differences.

    Args:
      cut: a `Cut`.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output.
      key: a `jax.random.key` that chooses where finite differences are taken; `jax.random.key(0)` where absent.
      scores: functions `(outputs, target) -> u`.
      links: of "identity" and "exp".
      locations: how many elements of A, of those with a gradient, the finite differences are taken at.
      batch_size: the memory knob of `jaxcam.derivatives.exact`.

    Returns:
      A `Validation`. It runs outside jit, as it looks at values; it takes as long as the exact derivatives do.

    Raises:
      TypeError, ValueError: as `jaxcam.grad_cam_pp`; and for locations below 1, scores or links that are no lists.

    Example:
      >>> import jaxcam
      >>> model = jaxcam.pretrained.digits(activation=jax.nn.silu)
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> found = jaxcam.validate(jaxcam.cut(model, "block3_conv2"), image, 1)
      >>> found.certificate.affine, found.comparisons[0].errors["Y2"] > 0.1
      (False, True)
    """
    check_cut(cut)
    image = checks.checked_image(image)
    checks.check_count("locations", locations, at_least=1)
    if callable(scores) or isinstance(links, str):
        raise TypeError("scores and links are lists: scores=[jaxcam.scores.logit], links=['exp']")
    scores, links = tuple(scores), tuple(links)
    for name, given, known in (("scores", scores, "functions such as logit"), ("links", links, "identity, exp")):
        if not given:
            raise ValueError(f"{name} is empty: choose of {known}")
    for score in scores:
        check_target(cut, image, target, score)
    for link in links:
        if link not in derivatives.LINKS:
            raise ValueError(f"link is {link!r}: choose one of {', '.join(derivatives.LINKS)}")
    A, outputs = _both(cut, image)
    if isinstance(A, jax.core.Tracer):
        raise TypeError("validate looks at values: call it outside jit, vmap and grad")
    if A.ndim < 2:
        raise ValueError(f"{cut.layer or 'this cut'!r} gives {list(A.shape)}: a map needs a spatial axis, [*spatial k]")
    for what, array in (("the activation", A), ("the outputs", outputs)):
        if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(array)):
            raise ValueError(f"{what} at {cut.layer or 'this cut'!r} are not finite: there is nothing to compare")
    target = int(outputs.argmax() if target is None else target)

    def head(A):
        return cut.head(cut.params, A, image)

    certificate = linearity.certify(head, A)
    comparisons, differences = [], []
    for score in scores:
        name = str(getattr(getattr(score, "func", score), "__name__", "score"))  # a partial has its function's name
        exact = _exact_with_bar(functools.partial(_u, score, head, target), A, batch_size)
        closed = _closed_form(cut, image, A, score, target)
        affine_score = derivatives.score_is_affine(head, A, score, target)
        at = _locations(A, exact.u1, CANDIDATES * locations, jax.random.key(0) if key is None else key)
        walked = _finite_differences(cut, image, A, score, target, at)
        for link in links:
            wanted = _quantities(A, exact, link)
            forms = {"closed form": _quantities(A, closed, link)}
            if link == "exp" and not affine_score:
                zero = jnp.zeros_like(closed.u2)
                forms["powers of g"] = _quantities(A, closed._replace(u2=zero, u3=zero), link)
            for form, found in forms.items():
                errors = {each: _relative(found[each], wanted[each]) for each in QUANTITIES}
                comparisons.append(Comparison(name, link, form, errors, found, wanted))
            differences.append(_difference(name, link, exact, walked, at, locations))
    return Validation(cut.layer, target, certificate, tuple(comparisons), tuple(differences))


def _u(score, head, target, A):
    return score(head(A), target)


def _exact_with_bar(f, A, batch_size):
    """The exact derivatives, with a progress bar if they take seconds."""
    cost = derivatives.exact_cost(f, A, batch_size=batch_size)
    label = f"exact derivatives along {cost.directions:,} directions"
    with progress.bar(label, cost.chunks, flops=cost.flops) as advance:
        return derivatives.exact(f, A, batch_size=batch_size, progress=advance)


@jax.jit
def _both(cut, image):
    A = cut.features(cut.params, image)
    return A, cut.head(cut.params, A, image)


@functools.partial(jax.jit, static_argnames="score")
def _closed_form(cut, image, A, score, target):
    return derivatives.closed_form(lambda A: cut.head(cut.params, A, image), A, score, target)


def _quantities(A, u, link):
    _, (Y1, Y2, Y3) = derivatives.through_link(u, link=link)
    alpha = weights.alpha_grad_cam_pp(A, Y1, Y2, Y3)
    w = weights.grad_cam_pp(A, Y1, Y2, Y3)
    arrays = {"Y2": Y2, "Y3": Y3, "alpha": alpha, "weights": w, "map": maps.saliency(A, w)}
    return {name: np.asarray(array) for name, array in arrays.items()}


def _relative(found, exact):
    size, error = (float(np.abs(np.asarray(x, np.float64)).mean()) for x in (exact, np.subtract(found, exact)))
    if size == 0:
        return math.nan if error == 0 else math.inf
    return error / size


def _difference(name, link, exact, walked, at, count):
    h, u, u1 = walked
    if u.dtype != np.float64:
        return Difference(name, link, dict.fromkeys(("Y1", "Y2", "Y3"), math.nan), 0, 0)

    def estimate(inner, outer, h):
        """Derivatives at 0 from the points at +-h, `inner`, and +-2h, `outer`, to fourth order."""
        (low, high), (lower, higher) = inner, outer
        first = (8 * (u[:, high] - u[:, low]) - (u[:, higher] - u[:, lower])) / (12 * h)
        second = (8 * (u1[:, high] - u1[:, low]) - (u1[:, higher] - u1[:, lower])) / (12 * h)
        third = (16 * (u1[:, high] + u1[:, low]) - (u1[:, higher] + u1[:, lower]) - 30 * u1[:, 3]) / (12 * h**2)
        if link == "identity":
            return first, second, third
        return first, second + first**2, third + 3 * first * second + first**3

    coarse, fine = estimate((1, 5), (0, 6), h), estimate((2, 4), (1, 5), h / 2)
    everywhere = [np.asarray(Y, np.float64).ravel() for Y in derivatives.through_link(exact, link=link)[1]]
    sizes = [np.abs(Y).max() or np.abs(everywhere[0]).max() or 1.0 for Y in everywhere]
    # Where halving the step changes the answer, u is not smooth within it.
    smooth = np.all([abs(a - b) <= KINK * size for a, b, size in zip(coarse, fine, sizes, strict=True)], axis=0)
    kept = np.flatnonzero(smooth)[:count]
    seen = kept[-1] + 1 if kept.size == count else smooth.size
    kinks = int((~smooth[:seen]).sum())
    errors = {}
    for p, size in enumerate(sizes):
        apart = np.abs(everywhere[p][at[kept]] - fine[p][kept])
        errors[f"Y{p + 1}"] = float(apart.max() / size) if kept.size else math.nan
    return Difference(name, link, errors, kept.size, kinks)
