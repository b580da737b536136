"""Why does this map look as it does? What is known about one explanation before anybody looks at a picture of it.

>>> import jaxcam
>>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
>>> image, _ = jaxcam.pretrained.digits_canvas(1)
>>> print(diagnose(cut, image))
block3_conv2, class 3: score 10.5, probability 0.8...
the head is locally affine in A [16 16 64]: the closed form is exact
Y2 is zero at 75.0% of A, alpha's denominator negative at 0...%
relu cuts off 15...% of Grad-CAM's map and 0.0% of Grad-CAM++'s
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base import checks
from jaxcam.cutting import Cut, activations, check_cut, check_spatial, check_target, resolve_target
from jaxcam.derivatives import certificate as linearity
from jaxcam.formulas import scores, weights
from jaxcam.methods import derivatives_of_Y

NAMES = {"grad_cam": "Grad-CAM", "grad_cam_pp": "Grad-CAM++"}


class Diagnosis(NamedTuple):
    """What `diagnose` found. It prints as a short report.

    Attributes:
      layer: of the cut.
      target: the class that is explained.
      predicted: the class of the largest output; None where the outputs are not `[classes]`.
      score: u.
      probability: the softmax probability of the target; None where the outputs are not `[classes]`.
      certificate: whether the head is locally affine in A, and what stops it; see `jaxcam.certify`.
      zero_second: the share of A's elements where Y2 is zero; there alpha is zero too, or 0/0 taken as zero.
      negative_denominators: the share of A's elements where alpha's denominator is negative: alpha, a weight of an
        average in the paper, is negative there.
      cut_off: for "grad_cam" and "grad_cam_pp", the share of the map's locations that are negative before the relu; 1
        for an all-negative map.
      zero_map: for both, whether the map is zero everywhere.
      not_finite: how many elements of A, Y1, Y2 and Y3 are NaN or infinite.
    """

    layer: str | None
    target: int
    predicted: int | None
    score: float
    probability: float | None
    certificate: linearity.Certificate
    zero_second: float
    negative_denominators: float
    cut_off: dict[str, float]
    zero_map: dict[str, bool]
    not_finite: int

    def __str__(self) -> str:
        chance = "" if self.probability is None else f", probability {self.probability:.4f}"
        verdict = "exact" if self.certificate.affine else "an approximation"
        lines = [f"{self.layer or 'the cut'}, class {self.target}: score {self.score:.4g}{chance}"]
        if self.predicted not in (None, self.target):
            lines.append(f"the model predicts class {self.predicted}: this is the map of another class")
        lines += [
            f"the head is {self.certificate}: the closed form is {verdict}",
            f"Y2 is zero at {self.zero_second:.1%} of A, alpha's denominator negative at "
            f"{self.negative_denominators:.1%}",
            f"relu cuts off {self.cut_off['grad_cam']:.1%} of Grad-CAM's map and {self.cut_off['grad_cam_pp']:.1%} of "
            "Grad-CAM++'s",
        ]
        for name, title in NAMES.items():
            if self.cut_off[name] == 1:
                lines.append(f"{title}'s map is negative everywhere before the relu: nothing here speaks for the class")
            elif self.zero_map[name]:
                lines.append(f"{title}'s map is zero everywhere")
        if self.not_finite:
            lines.append(f"{self.not_finite} values of the activation and its derivatives are NaN or infinite")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Everything as dictionaries, lists and numbers, ready for JSON; None for a number that is not finite."""
        found = {**self._asdict(), "certificate": self.certificate.as_dict()}
        strange = [name for name, each in found.items() if isinstance(each, float) and not math.isfinite(each)]
        return {**found, **dict.fromkeys(strange)}


def diagnose(
    cut: Cut,
    image: jax.Array | np.ndarray,
    target: int | None = None,
    *,
    score: Callable[[Any, Any], jax.Array] = scores.logit,
    link: str = "exp",
    batch_size: int | None = None,
) -> Diagnosis:
    """What is known about a map before it is drawn: certificate, degenerate locations, signs, score and probability.

    Args:
      cut: a `Cut`.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.
      link: of the derivatives that Grad-CAM++ is made of, "exp" or "identity"; Grad-CAM's are those of u.
      batch_size: the memory knob of `jaxcam.derivatives.exact`.

    Returns:
      A `Diagnosis`. It runs outside jit, as it looks at values, and takes as long as the exact Grad-CAM++.

    Raises:
      TypeError, ValueError: as `jaxcam.grad_cam_pp`.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(1)
      >>> found = diagnose(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image)
      >>> found.target, found.predicted, found.certificate.affine, found.not_finite
      (3, 3, True, 0)
    """
    check_cut(cut)
    image = checks.checked_image(image)
    check_target(cut, image, target, score)
    if batch_size is not None:
        checks.check_count("batch_size", batch_size, at_least=1)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in (image, target, *jax.tree.leaves(cut))):
        raise TypeError("diagnose looks at values: call it outside jit, vmap and grad")
    found = jax.tree.map(np.asarray, _measured(cut, image, target, score=score, link=link, batch_size=batch_size))
    vector = found["probabilities"] is not None
    A = jax.eval_shape(lambda: activations(cut, image)[0])[cut.layer]
    return Diagnosis(
        cut.layer,
        int(found["target"]),
        int(found["probabilities"].argmax()) if vector else None,
        float(found["u"]),
        float(found["probabilities"][found["target"]]) if vector else None,
        linearity.certify(lambda A: cut.head(cut.params, A, image), A),
        float(found["zero_second"]),
        float(found["negative"]),
        {name: float(found["cut_off"][name]) for name in NAMES},
        {name: bool(found["zero_map"][name]) for name in NAMES},
        int(found["not_finite"]),
    )


@functools.partial(jax.jit, static_argnames=("score", "link", "batch_size"))
def _measured(cut, image, target, *, score, link, batch_size):
    at_layers, outputs = activations(cut, image)
    A = at_layers[cut.layer]
    check_spatial(cut.layer, A)
    target, _ = resolve_target(outputs, target)

    def head(point):
        return cut.head(cut.params, point[cut.layer], image)

    _, Y = derivatives_of_Y(
        head, {cut.layer: A}, target, score=score, link=link, order=3, derivatives="exact", batch_size=batch_size
    )
    u, u1 = jax.value_and_grad(lambda A: score(head({cut.layer: A}), target))(A)
    Y1, Y2, Y3 = Y[cut.layer]
    denominator = weights.denominator_grad_cam_pp(A, Y2, Y3)
    rules = {"grad_cam": weights.grad_cam(u1), "grad_cam_pp": weights.grad_cam_pp(A, Y1, Y2, Y3)}
    raw = {name: (A.astype(w.dtype) * jnp.broadcast_to(w, A.shape)).sum(-1) for name, w in rules.items()}
    vector = getattr(outputs, "ndim", None) == 1
    return {
        "u": u,
        "target": target,
        "probabilities": jax.nn.softmax(outputs) if vector else None,
        "zero_second": (Y2 == 0).mean(),
        "negative": (denominator < 0).mean(),
        "cut_off": {name: (each < 0).mean() for name, each in raw.items()},
        "zero_map": {name: (each <= 0).all() for name, each in raw.items()},
        "not_finite": jnp.stack([(~jnp.isfinite(each)).sum() for each in (A, Y1, Y2, Y3)]).sum(),
    }
