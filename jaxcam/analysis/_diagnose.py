"""Why does a map look as it does? What is known about an explanation before anyone looks at a picture of it.

>>> import jaxcam
>>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
>>> image, _ = jaxcam.pretrained.digits_canvas(1)
>>> print(diagnose(cut, image))
block3_conv2, class 3: score 10.5, probability 0.8...
the outputs are logits
the head is locally affine in A [16 16 64]: the closed form is exact
Y2 is zero at 75.0% of A, alpha's denominator negative at 0...%
alpha is outside [0, 1/2] at 0.0% of A where Y1 > 0; alpha='bounded' moves the map by up to 0.0% of its maximum
relu cuts off 15...% of Grad-CAM's map and 0.0% of Grad-CAM++'s
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base import checks
from jaxcam._base.numerics import safe_divide
from jaxcam._base.targets import describe_target, jit_with_target, target_as_json
from jaxcam._base.types import Image, Score, Target
from jaxcam.cutting import (
    Cut,
    activations,
    canonical_function,
    check_cut,
    check_spatial,
    check_target,
    class_or_none,
    class_probabilities,
    for_score,
    output_kind,
    resolve_target,
)
from jaxcam.derivatives import Certificate, certify
from jaxcam.formulas import maps, scores, weights
from jaxcam.methods import METHOD_TITLES, derivatives_at_layers

# The methods whose maps are looked at.
METHODS = ("grad_cam", "grad_cam_pp")
# What is printed of the outputs.
OUTPUTS_TEXT = {
    "logits": "the outputs are logits",
    "sigmoid logits": "the outputs are logits of independent sigmoids",
    "probabilities": "the outputs are probabilities, a softmax: strip_activation=True explains the logit",
    "sigmoids": "the outputs are sigmoids: strip_activation=True explains the logit",
    "unknown": "it is not known what the outputs are, so there is no probability: give score=",
}


class Diagnosis(NamedTuple):
    """What `diagnose` found. It prints as a short report.

    Attributes:
      layer: where the model is cut; None if the cut has no layer.
      target: the class that is explained, or the target as it was given if it is no class.
      predicted: the class of the largest output; None if the outputs are not `[classes]`.
      score: u.
      probability: the model's probability of the target: the softmax of logits, or the output itself if the model ends
        in a softmax or a sigmoid. None if the target is no class, or it is not known what the outputs are.
      certificate: whether the head is locally affine in A, and what stops it; see `jaxcam.certify`.
      zero_second: the share of A's elements at which Y2 is zero. Alpha is zero there, too, or 0/0 taken as zero.
      negative_denominators: the share of A's elements at which alpha's denominator is negative. Alpha, which the paper
        means as a weight of an average, is negative there.
      alphas_outside: the share of the elements of A with Y1 > 0 at which alpha is outside [0, 1/2].
      bounded_change: the largest difference between the maps of Grad-CAM++ with alpha="bounded" and "defined", both
        divided by their maximum.
      zero_gradient: the share of A's elements at which Y1 is zero.
      halts: the primitives at which every derivative of the score ends, such as `stop_gradient`; empty if it does not.
      cut_off: for "grad_cam" and "grad_cam_pp", the share of the map's locations that are negative before the relu; 1
        for a map that is negative everywhere.
      zero_map: for both, whether the map is zero everywhere.
      not_finite: how many elements of A, Y1, Y2 and Y3 are NaN or infinite.
      outputs: what the outputs are: "logits", "sigmoid logits", "probabilities", "sigmoids" or "unknown".
    """

    layer: str | None
    target: Any
    predicted: int | None
    score: float
    probability: float | None
    certificate: Certificate
    zero_second: float
    negative_denominators: float
    alphas_outside: float
    bounded_change: float
    zero_gradient: float
    halts: tuple[str, ...]
    cut_off: dict[str, float]
    zero_map: dict[str, bool]
    not_finite: int
    outputs: str = "logits"

    def __str__(self) -> str:
        probability = "" if self.probability is None else f", probability {self.probability:.4f}"
        verdict = "exact" if self.certificate.affine else "an approximation"
        lines = [f"{self.layer or 'the cut'}, {describe_target(self.target)}: score {self.score:.4g}{probability}"]
        if self.probability is not None and self.predicted != self.target:
            lines.append(f"the model predicts class {self.predicted}: this is the map of another class")
        if self.predicted is not None:
            lines.append(OUTPUTS_TEXT[self.outputs])
        lines += [
            f"the head is {self.certificate}: the closed form is {verdict}",
            f"Y2 is zero at {self.zero_second:.1%} of A, alpha's denominator negative at "
            f"{self.negative_denominators:.1%}",
            f"alpha is outside [0, 1/2] at {self.alphas_outside:.1%} of A where Y1 > 0; alpha='bounded' moves the map "
            f"by up to {self.bounded_change:.1%} of its maximum",
            f"relu cuts off {self.cut_off['grad_cam']:.1%} of Grad-CAM's map and {self.cut_off['grad_cam_pp']:.1%} of "
            "Grad-CAM++'s",
        ]
        if self.halts:
            lines.append(
                f"every derivative of the score ends at {', '.join(self.halts)}: every map that is made of derivatives "
                "is zero, whatever the class; jaxcam.rules.through_stop_gradient looks through stop_gradient"
            )
        elif self.zero_gradient == 1:
            lines.append(
                "the gradient is zero at all of A: a relu behind the layer is off, a softmax is saturated, or the "
                "outputs do not read A, as behind the last attention of a transformer, which reads one token"
            )
        for name in METHODS:
            title = METHOD_TITLES[name]
            if self.cut_off[name] == 1:
                lines.append(f"{title}'s map is negative everywhere before the relu: nothing here speaks for the class")
            elif self.zero_map[name]:
                lines.append(f"{title}'s map is zero everywhere")
        if self.not_finite:
            lines.append(f"{self.not_finite} values of the activation and its derivatives are NaN or infinite")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON. A number that is not finite is None."""
        known = {"target": target_as_json(self.target), "certificate": self.certificate.as_dict()}
        fields = {**self._asdict(), **known}
        not_finite = [name for name, value in fields.items() if isinstance(value, float) and not math.isfinite(value)]
        return {**fields, **dict.fromkeys(not_finite)}


def diagnose(
    cut: Cut,
    image: Image,
    target: Target = None,
    *,
    score: Score = scores.logit,
    link: str = "exp",
    batch_size: int | None = None,
) -> Diagnosis:
    """What is known about a map before it is drawn: certificate, degenerate locations, signs, score and probability.

    It runs outside jit, because it looks at values, and takes as long as the exact Grad-CAM++.

    Args:
      cut: a `Cut`.
      image: one example, floats, without a batch axis.
      target: what the score takes; None for the class of the largest output of `[classes]`.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.
      link: of the derivatives of Grad-CAM++, "exp" or "identity". Grad-CAM is made of those of u.
      batch_size: the memory knob of `jaxcam.derivatives.exact`.

    Returns:
      A `Diagnosis`.

    Raises:
      TypeError, ValueError: as `jaxcam.grad_cam_pp`.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(1)
      >>> diagnosis = diagnose(jaxcam.cut(jaxcam.digits(), "block3_conv2"), image)
      >>> diagnosis.target, diagnosis.predicted, diagnosis.certificate.affine, diagnosis.not_finite
      (3, 3, True, 0)
    """
    check_cut(cut)
    image = checks.checked_image(image)
    checks.check_function("score", score)
    checks.check_name_of_choice("link", link)
    check_target(cut, image, target, score)
    if batch_size is not None:
        checks.check_count("batch_size", batch_size, at_least=1)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((cut, image, target))):
        raise TypeError("diagnose looks at values: call it outside jit, vmap and grad")
    kind, probabilities = output_kind(cut, image), _class_probabilities(cut, image)
    cut, score = for_score(cut, image, score)
    figures = _figures(cut, image, target, score=canonical_function(score), link=link, batch_size=batch_size)
    figures = jax.tree.map(np.asarray, figures)
    explained_class = None if figures["class"] is None else int(figures["class"])
    A = jax.eval_shape(lambda: activations(cut, image)[0])[cut.layer]

    def head(A):
        return cut.head(cut.params, A, image)

    scored_target = target if explained_class is None else explained_class
    of_score = certify(lambda A: score(head(A), scored_target), A)
    halts = tuple(dict.fromkeys(map(str, of_score.halts))) if of_score.locally_constant else ()
    return Diagnosis(
        layer=cut.layer,
        target=target if explained_class is None else explained_class,
        predicted=None if figures["predicted"] is None else int(figures["predicted"]),
        score=float(figures["u"]),
        probability=None if explained_class is None or probabilities is None else float(probabilities[explained_class]),
        certificate=certify(head, A),
        zero_second=float(figures["zero_second"]),
        negative_denominators=float(figures["negative_denominators"]),
        alphas_outside=float(figures["alphas_outside"]),
        bounded_change=float(figures["bounded_change"]),
        zero_gradient=float(figures["zero_gradient"]),
        halts=halts,
        cut_off={name: float(figures["cut_off"][name]) for name in METHODS},
        zero_map={name: bool(figures["zero_map"][name]) for name in METHODS},
        not_finite=int(figures["not_finite"]),
        outputs=kind,
    )


_class_probabilities = jax.jit(class_probabilities)


@functools.partial(jit_with_target, static_argnames=("score", "link", "batch_size"))
def _figures(
    cut: Cut, image: jax.Array, target: Any, *, score: Score, link: str, batch_size: int | None
) -> dict[str, Any]:
    """The numbers of a diagnosis."""
    A_by_layer, outputs = activations(cut, image)
    A = A_by_layer[cut.layer]
    check_spatial(cut.layer, A)
    explained_class = class_or_none(outputs, target)
    target, _ = resolve_target(outputs, target)

    def head(A_by_layer):
        return cut.head(cut.params, A_by_layer[cut.layer], image)

    _, Y = derivatives_at_layers(
        head, {cut.layer: A}, target, score=score, link=link, order=3, derivatives="exact", batch_size=batch_size
    )
    Y1, Y2, Y3 = Y[cut.layer]
    u, u1 = jax.value_and_grad(lambda A: score(head({cut.layer: A}), target))(A)
    Y_of_any_size, exponents = (Y1, Y2.array, Y3.array), (Y2.exponent, Y3.exponent)
    plus_plus = {
        alpha: weights.grad_cam_pp(A, *Y_of_any_size, alpha=alpha, exponents=exponents) for alpha in weights.ALPHAS
    }
    channel_weights = {"grad_cam": weights.grad_cam(u1), "grad_cam_pp": plus_plus["defined"]}
    before_relu = {
        name: (A.astype(w.dtype) * jnp.broadcast_to(w, A.shape)).sum(-1) for name, w in channel_weights.items()
    }
    of_alpha = (maps.weighted_sum(A, plus_plus[alpha]) for alpha in weights.ALPHAS)
    defined, bounded = (safe_divide(saliency, saliency.max()) for saliency in of_alpha)
    return {
        "u": u,
        "class": explained_class,
        "predicted": outputs.argmax() if getattr(outputs, "ndim", None) == 1 else None,
        "zero_gradient": (u1 == 0).mean(),
        "zero_second": (Y2.array == 0).mean(),
        "negative_denominators": (
            weights.denominator_grad_cam_pp(A, Y2.array, Y3.array, exponents=exponents) < 0
        ).mean(),
        "alphas_outside": weights.share_outside(A, *Y_of_any_size, exponents=exponents),
        "bounded_change": jnp.abs(defined - bounded).max(),
        "cut_off": {name: (saliency < 0).mean() for name, saliency in before_relu.items()},
        "zero_map": {name: (saliency <= 0).all() for name, saliency in before_relu.items()},
        "not_finite": jnp.stack([(~jnp.isfinite(array)).sum() for array in (A, *Y_of_any_size)]).sum(),
    }
