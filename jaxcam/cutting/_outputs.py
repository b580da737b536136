"""What the outputs of a model mean: logits, or probabilities. Built-in scores take them accordingly.

The model's traced program shows whether the outputs come from a softmax or from the logistic function.

    >>> import jax.numpy as jnp
    >>> from jaxcam.formulas import scores
    >>> params = {"classifier": jnp.eye(3, 2)}
    >>> head = lambda params, A, x: jax.nn.softmax(A.mean((0, 1)) @ params["classifier"])
    >>> cut, image = Cut(params, lambda params, x: x, head), jnp.ones([4, 4, 3]).at[..., 0].set(3.0)
    >>> output_kind(cut, image)
    'probabilities'
    >>> of_logits, score = for_score(cut, image, scores.probability)
    >>> A, outputs = activations(of_logits, image)
    >>> outputs.tolist(), bool(jnp.allclose(score(outputs, 0), activations(cut, image)[1][0]))
    ([3.0, 1.0], True)
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._base.types import Image, Score
from jaxcam.cutting._cut import OUTPUTS, Cut, Cuts, activations
from jaxcam.cutting._image_layout import warn_once
from jaxcam.cutting._last_activation import WithoutLastActivation, without_last_activation
from jaxcam.cutting._output_kind import ACTIVATIONS, kind_of_outputs
from jaxcam.cutting._targets import _outputs
from jaxcam.formulas import scores

# From a kind to that of the outputs without their last activation.
WITHOUT_ACTIVATION = {"probabilities": "logits", "sigmoids": "sigmoid logits"}
TITLES = {"probabilities": "a softmax", "sigmoids": "a sigmoid"}


def output_kind(cut: Cut | Cuts, image: Image | jax.ShapeDtypeStruct) -> str:
    """What the outputs of a model are: `cut.outputs`, or, if that is None, what the traced program shows.

    Args:
      cut: a `Cut` or `Cuts`.
      image: one example, or its shape and type. Nothing is computed.

    Returns:
      One of

      - "probabilities": the outputs are a softmax over their last axis.
      - "sigmoids": each output is a logistic function.
      - "unknown": the outputs are bound to lie in 0..1 for another reason, such as a clip, or are not one array.
      - "sigmoid logits": what the logistic functions of "sigmoids" are applied to. A program does not show it; the cut
        says so where the activation was taken off.
      - "logits": anything else.
    """
    if cut.outputs is not None:
        return cut.outputs
    with_activation = _with_last_activation(cut)
    if with_activation is not None:
        _outputs.eval_shape(cut, image)  # raises a ValueError if there is no activation
        kind = output_kind(with_activation, image)
        return WITHOUT_ACTIVATION.get(kind, kind)
    return OUTPUTS[_kind_as_size.eval_shape(cut, image).shape[0]]


def _with_last_activation(cut):
    """The cut that a cut without its last activation was made of; None for others."""
    if isinstance(cut, Cuts):
        whole = cut.tapped
        return dataclasses.replace(cut, tapped=whole.function) if isinstance(whole, WithoutLastActivation) else None
    return dataclasses.replace(cut, head=cut.head.function) if isinstance(cut.head, WithoutLastActivation) else None


# Jitted for its cache alone: the kind of the outputs is the length of an array that is never made.
@jax.jit
def _kind_as_size(cut: Cut | Cuts, image: Any) -> jax.Array:
    traced = _outputs.trace(cut, image)
    return jnp.zeros(OUTPUTS.index(kind_of_outputs(traced.jaxpr, jax.tree.structure(traced.out_info))))


def with_known_outputs(cut: Any, image: jax.ShapeDtypeStruct) -> Any:
    """The cut with `outputs` filled in."""
    return cut if cut.outputs is not None else dataclasses.replace(cut, outputs=output_kind(cut, image))


def for_score(cut: Any, image: Any, score: Score) -> tuple[Any, Score]:
    """The cut and the score that compute a score of the model's probabilities, whatever the outputs are.

    Only `scores.probability` and `scores.log_softmax`, also inside a `functools.partial`, are changed:

    - For probabilities and sigmoids the cut loses its last activation, so that nothing is rounded.
    - For sigmoids, and for a single logit, the probability is the logistic function of the target's logit.

    Every other score takes the outputs as they are. `scores.logit` of probabilities is announced once by a log line.

    Args:
      cut: a `Cut` or `Cuts`.
      image: one example, or its shape and type.
      score: `(outputs, target) -> scalar`.

    Raises:
      ValueError: the score is one of the two, and it is not known what the outputs are.
    """
    function = score
    while isinstance(function, functools.partial):
        function = function.func
    if function is scores.logit:
        _announce(cut, output_kind(cut, image))
    of_sigmoids = next((of_sigmoids for known, of_sigmoids in OF_SIGMOIDS.items() if known is function), None)
    if of_sigmoids is None:
        return cut, score
    outputs = _outputs.eval_shape(cut, image)
    if getattr(outputs, "ndim", None) != 1:
        return cut, score
    kind = output_kind(cut, image)
    if kind == "unknown":
        raise ValueError(
            f"the outputs{_at_layer(cut)} lie in 0..1 but do not come from one softmax or sigmoid, so their "
            "probabilities are not known: give score=, such as lambda outputs, target: outputs[target], or "
            'dataclasses.replace(cut, outputs="probabilities")'
        )
    if kind in WITHOUT_ACTIVATION:
        cut = without_last_activation(cut, inverse_of=ACTIVATIONS[kind], outputs=WITHOUT_ACTIVATION[kind])
    if kind in ("sigmoids", "sigmoid logits") or (kind == "logits" and outputs.shape == (1,)):
        score = _with_function(score, of_sigmoids)
    return cut, score


def class_probabilities(cut: Cut, image: Image) -> jax.Array | None:
    """The probabilities of all classes, `[classes]`; None if the outputs are not `[classes]`, or not known to be any.

    They are the softmax of logits, the logistic function of a single logit, and probabilities and sigmoids as they are.
    """
    kind = output_kind(cut, image)
    outputs = activations(cut, image)[1]
    if getattr(outputs, "ndim", None) != 1 or kind == "unknown":
        return None
    if kind in WITHOUT_ACTIVATION:
        return outputs
    is_logistic = kind == "sigmoid logits" or outputs.shape == (1,)
    return jax.nn.sigmoid(outputs) if is_logistic else jax.nn.softmax(outputs)


@scores.of_classes
def sigmoid_probability(outputs: jax.Array, target: jax.Array | int) -> jax.Array:
    """The logistic function of the target's logit."""
    return _logistic(outputs[target])


@jax.custom_jvp
def _logistic(z):
    return jax.nn.sigmoid(z)


@_logistic.defjvp
def _jvp_of_logistic(primals, tangents):
    (z,), (tangent,) = primals, tangents
    return _logistic(z), _logistic(z) * _logistic(-z) * tangent  # 1 - s as s(-z), which keeps its digits


@scores.of_classes
def log_sigmoid(outputs: jax.Array, target: jax.Array | int) -> jax.Array:
    """The logarithm of the logistic function of the target's logit."""
    return jax.nn.log_sigmoid(outputs[target])


OF_SIGMOIDS: dict[Any, Score] = {scores.probability: sigmoid_probability, scores.log_softmax: log_sigmoid}


def _with_function(score, function):
    """The partial with another function innermost."""
    if not isinstance(score, functools.partial):
        return function
    return functools.partial(_with_function(score.func, function), *score.args, **score.keywords)


def _at_layer(cut) -> str:
    layers = cut.layers if isinstance(cut, Cuts) else (cut.layer,)
    return f" of the cut at {', '.join(map(repr, layers))}" if any(layers) else ""


def _announce(cut, kind: str) -> None:
    if kind in TITLES:
        warn_once(
            f"the outputs{_at_layer(cut)} end in {TITLES[kind]}, and the score is the target's value behind it: "
            "jaxcam.cut(..., strip_activation=True) explains the logit, as the papers do"
        )
