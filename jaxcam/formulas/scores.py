"""Scores: functions `(outputs, target) -> u`, the scalar that a map explains.

Any function of that form is a score. The outputs may be any pytree that the head returns: a score can be a sum of
logits over a mask for segmentation, or the confidence of one box for detection.

    >>> import jax.numpy as jnp
    >>> outputs = jnp.array([1.0, 2.0, 3.0])
    >>> float(logit(outputs, 2))
    3.0
    >>> round(float(log_softmax(outputs, 2)), 4)
    -0.4076

A method's option `link` turns the score into Y, the quantity that the papers differentiate: Y = u for "identity",
Y = e^u for "exp". The papers' Y = exp(logit) is `logit` with "exp"; the softmax probability is `log_softmax` with
"exp".

What a score takes are the model's outputs, with one exception. `probability` and `log_softmax` ask for the model's
probability, so for a model that ends in a softmax or a sigmoid, which its program shows, methods and metrics give them
what the last activation is applied to; the probability of independent sigmoids, and of a single output, is the logistic
function of the logit. `logit` is the output itself: `jaxcam.cut(..., strip_activation=True)` makes it the logit.

The target is the score's business: a method gives it to the score as it was given. Only scores of classes ask for an
integer in range: the three of this module with `answer`, and those that `of_classes` marks.

Networks of other kinds have scores here as well: `sequence_log_prob` for captions, `answer` for questions,
`masked_mean` for segmentation, `box` for detection, `similarity` for embeddings, `regression` for numbers, and
`contrast` for a class among similar ones. All but `answer` check their targets; a traced one out of range gives NaN.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import at_least_float32
from jaxcam.formulas import _score_checks as checks
from jaxcam.formulas._score_checks import BOX_PARTS, checked, scores_and_boxes


def logit(outputs: jax.Array, target: jax.Array | int) -> jax.Array:
    """The target's element of the outputs `[classes]`, before softmax."""
    return outputs[target]


def log_softmax(outputs: jax.Array, target: jax.Array | int) -> jax.Array:
    """The logarithm of the target class's softmax probability, from logits `[classes]`; at most 0.

    It is computed as -softplus(logsumexp(other logits - the target's logit)). This form and its derivatives are
    accurate where the softmax is saturated, because 1 - p is never computed from a p that was rounded to 1.
    """
    margins = outputs - outputs[target][None]
    return -jax.nn.softplus(jax.nn.logsumexp(margins.at[target].set(jnp.finfo(outputs.dtype).min)))


def probability(outputs: jax.Array, target: jax.Array | int) -> jax.Array:
    """The target class's softmax probability, from logits `[classes]`; in 0..1. Metrics compare it.

    Its derivatives are p times those of log_softmax. They keep their digits where p is rounded to 1: those of
    `jax.nn.softmax` are zero there.
    """
    return _softmax_at(outputs, target)


@jax.custom_jvp
def _softmax_at(outputs, target):
    return jax.nn.softmax(outputs)[target]


@_softmax_at.defjvp
def _jvp_of_softmax_at(primals, tangents):
    (outputs, target), (tangent, _) = primals, tangents
    masked = outputs[target] == -jnp.inf  # a class that the model masks has probability 0, whatever the others are
    finite = jnp.where(masked, 0, outputs)
    _, slope = jax.jvp(lambda outputs: log_softmax(outputs, target), (finite,), (tangent,))
    p = _softmax_at(outputs, target)
    return p, p * jnp.where(masked, 0, slope)


class _ScoreOfClasses:
    """A user's score with the mark of `of_classes`; equal to every other mark of the same score, as jit compares it."""

    def __init__(self, score: Callable[[Any, Any], jax.Array]):
        functools.update_wrapper(self, score)
        self._score = score

    def __call__(self, *arguments: Any, **options: Any) -> jax.Array:
        return self._score(*arguments, **options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ScoreOfClasses) and self._score == other._score

    def __hash__(self) -> int:
        return hash((_ScoreOfClasses, self._score))


def of_classes(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The score, marked as one whose target is a class of outputs `[classes]`; also a decorator.

    Methods check the target of such a score: it has to be one integer in range, or None for the largest output. The
    mark stays when options are bound by `functools.partial`.

    Args:
      function: a score, `(outputs, target, *, options) -> scalar`.

    Example:
      >>> @of_classes
      ... def margin(outputs, target):
      ...     return 2 * outputs[target] - outputs.sum()
      >>> float(margin(jnp.array([1.0, 2.0]), 1)), takes_class(margin), takes_class(lambda outputs, target: outputs[0])
      (1.0, True, False)
    """
    if isinstance(function, functools.partial):
        return functools.partial(of_classes(function.func), *function.args, **function.keywords)
    return function if takes_class(function) else _ScoreOfClasses(function)


def takes_class(function: Any) -> bool:
    """Whether a score's target is a class: a score of this module or one that `of_classes` marks, also in a partial.

    Example:
      >>> takes_class(functools.partial(functools.partial(log_softmax)))
      True
    """
    while isinstance(function, functools.partial):
        function = function.func
    return isinstance(function, _ScoreOfClasses) or function in (logit, log_softmax, probability, answer)


def check_of(function: Any) -> Callable[[Any, Any], None] | None:
    """What checks the outputs, or their shapes, and the target of a score of this module; None if nothing does.

    Example:
      >>> check_of(functools.partial(sequence_log_prob, weights=None))(jnp.ones([2, 5]), jnp.array([4, 5]))
      Traceback (most recent call last):
        ...
      ValueError: expected tokens below 5, the size of the vocabulary, and -1 for padding, got 5
    """
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "check", None)


@checked(checks.check_tokens)
def sequence_log_prob(
    outputs: jax.Array, target: jax.Array, *, weights: jax.Array | tuple[float, ...] | None = None
) -> jax.Array:
    """The log-probability of a sequence, u = sum over t of w_t log softmax(outputs_t)[target_t]: that of a caption.

    Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization", IJCV 2019,
    section 8.1. For the map of one word all other tokens are -1, or have the weight 0.

    Args:
      outputs: the logits of the next token at each step, `[t vocab]`, of a decoder that reads these same tokens.
      target: the tokens `[t]`; -1 is padding and does not count. An end token counts if it is among them.
      weights: of the tokens, `[t]`; defaults to ones.

    Raises:
      ValueError: tokens out of range, or nothing but padding, or another number of tokens or of weights than steps.

    Example:
      >>> logits = jnp.log(jnp.array([[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]))
      >>> round(float(sequence_log_prob(logits, jnp.array([0, 1, -1]))), 4)  # log(0.5) + log(0.75)
      -0.9808
    """
    tokens = jnp.asarray(target).astype(jnp.int32)  # -1 is none of the values of unsigned integers
    weights = jnp.ones(tokens.shape) if weights is None else checks.checked_weights(weights, tokens.shape)
    counts, in_range = tokens >= 0, (tokens >= -1) & (tokens < outputs.shape[1])
    log_probs = jax.vmap(log_softmax)(jnp.where(counts[:, None], outputs, 0), jnp.where(counts & in_range, tokens, 0))
    u = (jnp.where(counts, log_probs, 0) * weights.astype(log_probs.dtype)).sum()
    return jnp.where(in_range.all() & counts.any(), u, jnp.nan)


def one_token_each(tokens: jax.Array) -> jax.Array:
    """The targets of `sequence_log_prob` that keep one token each, `[t t]`: `jax.vmap` over them maps every word.

    The network goes on reading all tokens, which are its input. The target of padding is nothing but padding, and its
    score NaN: take the rows of the words.

    Args:
      tokens: integers `[t]`, -1 for padding.

    Raises:
      ValueError: not integers, or of another shape.

    Example:
      >>> one_token_each(jnp.array([3, 0, -1])).tolist()
      [[3, -1, -1], [-1, 0, -1], [-1, -1, -1]]
    """
    checks.check_integers("tokens", tokens, (len(tokens),))
    return jnp.where(jnp.eye(len(tokens), dtype=bool), jnp.asarray(tokens).astype(jnp.int32)[None], -1)


def answer(outputs: jax.Array, target: jax.Array | int, *, log_prob: bool = False) -> jax.Array:
    """The logit of an answer to a question, from logits `[answers]`; with `log_prob` its log-probability.

    Selvaraju et al., IJCV 2019, section 8.2, which takes the logit. As for `logit` it is the method that checks the
    target.

    Example:
      >>> float(answer(jnp.array([0.0, 2.0]), 1)), round(float(answer(jnp.zeros(4), 1, log_prob=True)), 4)
      (2.0, -1.3863)
    """
    return log_softmax(outputs, target) if log_prob else logit(outputs, target)


@checked(checks.check_class_and_mask)
def masked_mean(outputs: jax.Array, target: tuple[Any, jax.Array]) -> jax.Array:
    """The mean of a class's logits over a mask, for segmentation: u = sum_p m_p outputs_p[c] / sum_p m_p.

    Vinogradova, Dibrov and Myers, "Towards interpretable semantic segmentation via gradient-weighted class activation
    mapping", AAAI 2020, has the sum, whose map is the same up to its scale.

    Args:
      outputs: `[*spatial classes]`.
      target: the class, and the mask `[*spatial]`, of bools or weights.

    Raises:
      ValueError: a class out of range, or a mask of another size or without a location.

    Example:
      >>> outputs = jnp.arange(8.0).reshape(2, 2, 2)
      >>> float(masked_mean(outputs, (1, jnp.array([[True, False], [False, True]]))))  # of 1 and 7
      4.0
    """
    number, mask = target
    of_class, in_range = _element(jnp.moveaxis(outputs, -1, 0), number)
    of_class = at_least_float32(of_class)  # the sum over an image is beyond half precision
    mask = jnp.asarray(mask).astype(of_class.dtype)
    return jnp.where(in_range, (mask * of_class).sum() / mask.sum(), jnp.nan)


@checked(checks.check_box)
def box(outputs: Any, target: tuple[Any, Any]) -> jax.Array:
    """The score of one predicted box, or one of its coordinates.

    Zhao and Chan, "ODAM: gradient-based instance-specific visual explanations for object detection", ICLR 2023, which
    explains each of them by a map of its own; `jax.vmap` over the numbers of the parts gives all of them.

    Args:
      outputs: of the detector, the scores `[n]` and the boxes `[n 4]` as (row0, column0, row1, column1): a pair, a dict
        with "scores" and "boxes", or an object with these attributes.
      target: the number of the box, and the part: "score", "row0", "column0", "row1" or "column1", or 0 to 4.

    Raises:
      ValueError: outputs of another form, a box out of range, or an unknown part.

    Example:
      >>> outputs = jnp.array([0.9, 0.2]), jnp.array([[1.0, 2.0, 5.0, 6.0], [0.0, 0.0, 4.0, 4.0]])
      >>> float(box(outputs, (0, "row1"))), round(float(box(outputs, (1, "score"))), 4)
      (5.0, 0.2)
    """
    number, part = target
    box_scores, boxes = scores_and_boxes(outputs)
    part = BOX_PARTS.index(part) if isinstance(part, str) else part
    values, in_range = _element(jnp.concatenate([box_scores[:, None], boxes], 1), number)
    value, has_part = _element(values, part)
    return jnp.where(in_range & has_part, value, jnp.nan)


@checked(checks.check_reference)
def similarity(outputs: jax.Array, target: jax.Array) -> jax.Array:
    """The cosine of an embedding `[d]` and a reference `[d]`, in -1..1: what makes two images alike.

    Example:
      >>> round(float(similarity(jnp.array([3.0, 4.0]), jnp.array([1.0, 0.0]))), 4)
      0.6
    """
    outputs = at_least_float32(outputs)  # squares are beyond half precision
    target = jnp.asarray(target).astype(outputs.dtype)
    return jnp.vdot(outputs, target) / (jnp.linalg.norm(outputs) * jnp.linalg.norm(target))


@checked(checks.check_contrast)
def contrast(outputs: jax.Array, target: tuple[Any, jax.Array], *, gamma: float = 0.6) -> jax.Array:
    """A class beside similar ones: u = z_c - gamma * mean over the others d of z_d, from logits `[classes]`.

    Zhang et al., "Finer-CAM: spotting the difference reveals finer details for visual explanation", CVPR 2025.

    Args:
      outputs: logits `[classes]`.
      target: the class, and the others `[m]`.
      gamma: the weight of the others.

    Raises:
      ValueError: a class out of range, or no others.

    Example:
      >>> float(contrast(jnp.array([3.0, 2.0, 0.0]), (0, jnp.array([1, 2])), gamma=0.5))
      2.5
    """
    number, others = target
    own, in_range = _element(outputs, number)
    others = jnp.asarray(others)
    theirs, known = jax.vmap(_element, (None, 0))(outputs, others)
    return jnp.where(in_range & known.all(), own - gamma * theirs.mean(), jnp.nan)


@checked(checks.check_regression)
def regression(outputs: jax.Array, target: jax.Array | int, *, near: float | None = None) -> jax.Array:
    """One output `[n]` of a regression; with `near`, how close it is to a value: -(output - near)^2.

    Example:
      >>> float(regression(jnp.array([1.0, 4.0]), 1)), float(regression(jnp.array([1.0, 4.0]), 1, near=6.0))
      (4.0, -4.0)
    """
    value, in_range = _element(at_least_float32(outputs), target)
    return jnp.where(in_range, value if near is None else -((value - near) ** 2), jnp.nan)


def _element(values: jax.Array, index: Any) -> tuple[jax.Array, jax.Array]:
    """The element at an index of the first axis, and whether there is one; JAX clamps an index out of range."""
    index = jnp.asarray(index).astype(jnp.int32)  # small types do not hold the number of elements
    in_range = (index >= 0) & (index < values.shape[0])
    return values[jnp.where(in_range, index, 0)], in_range
