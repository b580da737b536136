"""Scores of captions, questions, masks, boxes, embeddings and numbers, beside their formulas in NumPy."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import scores

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(4, 6))
SPATIAL = RNG.normal(size=(3, 5, 2))
MASK = RNG.uniform(size=(3, 5)) > 0.5
EMBEDDING, REFERENCE = RNG.normal(size=(2, 7))
BOXES = RNG.uniform(1, 9, size=(3, 4))
SURE = RNG.uniform(size=3)


def log_softmax(z):
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def sequence(tokens, weights):
    return sum(
        w * log_softmax(LOGITS)[t, token]
        for t, (token, w) in enumerate(zip(tokens, weights, strict=True))
        if token >= 0
    )


WEIGHTS = (0.5, 2.0, 0.0, 1.0)
CASES: dict[str, tuple[Any, Any, Any, float]] = {
    "caption": (scores.sequence_log_prob, LOGITS, np.array([3, 0, 5, 2]), sequence([3, 0, 5, 2], np.ones(4))),
    "padding": (scores.sequence_log_prob, LOGITS, np.array([3, 0, -1, -1]), sequence([3, 0, -1, -1], np.ones(4))),
    "word": (scores.sequence_log_prob, LOGITS, np.array([-1, 0, -1, -1]), log_softmax(LOGITS)[1, 0]),
    "weights": (
        functools.partial(scores.sequence_log_prob, weights=WEIGHTS), LOGITS, np.array([3, 0, 5, -1]),
        sequence([3, 0, 5, -1], WEIGHTS),
    ),
    "answer": (scores.answer, LOGITS[0], 2, LOGITS[0, 2]),
    "answer's log-probability": (
        functools.partial(scores.answer, log_prob=True), LOGITS[0], 2, log_softmax(LOGITS[0])[2],
    ),
    "mask": (scores.masked_mean, SPATIAL, (1, MASK), SPATIAL[MASK][:, 1].mean()),
    "box's score": (scores.box, (SURE, BOXES), (2, "score"), SURE[2]),
    "box's side": (scores.box, {"scores": SURE, "boxes": BOXES}, (1, "column1"), BOXES[1, 3]),
    "box's side by number": (scores.box, (SURE, BOXES), (0, 1), BOXES[0, 0]),
    "similarity": (
        scores.similarity, EMBEDDING, REFERENCE,
        (EMBEDDING @ REFERENCE) / np.sqrt((EMBEDDING**2).sum() * (REFERENCE**2).sum()),
    ),
    "contrast": (
        functools.partial(scores.contrast, gamma=0.25), LOGITS[0], (1, np.array([0, 4])),
        LOGITS[0, 1] - 0.25 * (LOGITS[0, 0] + LOGITS[0, 4]) / 2,
    ),
    "value": (scores.regression, EMBEDDING, 3, EMBEDDING[3]),
    "close to a value": (functools.partial(scores.regression, near=0.7), EMBEDDING, 3, -((EMBEDDING[3] - 0.7) ** 2)),
}  # fmt: skip


def as_arrays(tree):
    return jax.tree.map(lambda leaf: leaf if isinstance(leaf, str | int) else jnp.asarray(leaf), tree)


@pytest.mark.parametrize("name", CASES)
def test_the_formula(name, x64):
    score, outputs, target, expected = CASES[name]
    outputs, target = as_arrays((outputs, target))
    np.testing.assert_allclose(score(outputs, target), expected, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(lambda outputs: score(outputs, target))(outputs), expected, rtol=1e-12)


def small_network(name):
    """A cut whose outputs have the form of a case's, its activation, and the score as a function of the activation."""
    score, outputs, target, _ = CASES[name]
    outputs, target = as_arrays((outputs, target))
    leaves, structure = jax.tree.flatten(outputs)
    sizes = [leaf.size for leaf in leaves]
    rng = np.random.default_rng(1)
    A = jnp.asarray(rng.uniform(0.1, 1, size=(2, 3, 4)))
    mixing = jnp.asarray(rng.normal(size=(4, sum(sizes))) / 3)

    def head(params, A, x):
        parts = jnp.split(jnp.tanh(A.mean((0, 1)) @ params), np.cumsum(sizes)[:-1])
        shaped = [leaf + part.reshape(leaf.shape) for leaf, part in zip(leaves, parts, strict=True)]
        return jax.tree.unflatten(structure, shaped)

    return jaxcam.Cut(mixing, lambda params, x: x, head), A, lambda A: score(head(mixing, A, A), target)


@pytest.mark.parametrize("name", CASES)
def test_methods_take_it(name, x64):
    """Grad-CAM with the score is that of its gradient."""
    score, _, target, _ = CASES[name]
    cut, A, u = small_network(name)
    target = as_arrays(target)
    gradient = np.asarray(jax.grad(u)(A))
    expected = np.maximum((np.asarray(A) * gradient.mean((0, 1))).sum(-1), 0)
    np.testing.assert_allclose(jaxcam.grad_cam(cut, A, target, score=score), expected, atol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_its_exact_derivatives(name, x64):
    _, A, u = small_network(name)
    exact, brute = jaxcam.derivatives.exact(u, A), jaxcam.derivatives.brute_force(u, A)
    for ours, theirs in zip(exact, brute, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9 * max(1, np.abs(theirs).max()))


class Detections(NamedTuple):
    scores: Any
    boxes: Any


def test_objects_with_scores_and_boxes_and_a_map_of_each_part():
    detections = Detections(jnp.asarray(SURE), jnp.asarray(BOXES))
    parts = jax.vmap(lambda part: scores.box(detections, (2, part)))(jnp.arange(5))
    np.testing.assert_allclose(parts, [SURE[2], *BOXES[2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("score", "outputs", "target", "message"),
    [
        (scores.sequence_log_prob, LOGITS, np.array([3, 0, 6, 2]), "expected tokens below 6.*got 6"),
        (scores.sequence_log_prob, LOGITS, np.array([3, 0, -2, 2]), "expected tokens below 6.*got -2"),
        (scores.sequence_log_prob, LOGITS, np.array([-1, -1, -1, -1]), "expected at least one token"),
        (scores.sequence_log_prob, LOGITS, np.array([3, 0]), r"expected tokens of shape \(4,\), got \(2,\)"),
        (scores.sequence_log_prob, LOGITS, np.ones(4), "expected tokens that are integers, got float"),
        (scores.sequence_log_prob, LOGITS[0], np.array([3]), r"expected logits \[t vocab\], got shape \(6,\)"),
        (scores.masked_mean, SPATIAL, (2, MASK), "no class 2: there are 2, from 0"),
        (scores.masked_mean, SPATIAL, (1, MASK[:2]), r"mask of the outputs' size \(3, 5\), got \(2, 5\)"),
        (scores.masked_mean, SPATIAL, (1, MASK & False), "mask of at least one location, got an empty one"),
        (scores.masked_mean, SPATIAL, 1, r"expected a pair \(class, mask\) for target, got 1"),
        (scores.box, (SURE, BOXES), (3, "score"), "no box 3: there are 3, from 0"),
        (scores.box, (SURE, BOXES), (0, "left"), "part is 'left': choose one of score, row0, column0, row1, column1"),
        (scores.box, (SURE, BOXES[:, :3]), (0, "score"), r"expected scores \[n\] and boxes \[n 4\], got"),
        (scores.box, LOGITS, (0, "score"), "of a detector, got"),
        (scores.similarity, EMBEDDING, REFERENCE[:3], r"expected a reference of shape \(7,\), got \(3,\)"),
        (scores.similarity, EMBEDDING, 0 * REFERENCE, "a reference that is not zero"),
        (scores.contrast, LOGITS[0], (0, np.array([6])), "no class 6: there are 6, from 0"),
        (scores.contrast, LOGITS[0], (0, np.array([], int)), "at least one"),
        (scores.regression, EMBEDDING, 7, "no output 7: there are 7, from 0"),
        (scores.masked_mean, SPATIAL, ("3", MASK), "expected one integer for the class, got '3'"),
    ],
)
def test_a_wrong_target_gets_one_line(score, outputs, target, message):
    outputs, target = as_arrays((outputs, target))
    for call in (lambda: score(outputs, target), lambda: jaxcam.grad_cam(of_outputs(outputs), X, target, score=score)):
        with pytest.raises(ValueError, match=message) as refused:
            call()
        assert "\n" not in str(refused.value)


X = jnp.ones((2, 2, 3))


def of_outputs(outputs):
    """A cut whose outputs have the shapes of some outputs."""
    return jaxcam.Cut((), lambda params, x: x, lambda params, A, x: jax.tree.map(lambda leaf: leaf + A.sum(), outputs))


@pytest.mark.parametrize(
    ("score", "outputs", "target"),
    [
        (scores.sequence_log_prob, LOGITS, np.array([3, 0, 6, 2])),
        (scores.sequence_log_prob, LOGITS, np.array([3, 0, -2, 2])),
        (scores.sequence_log_prob, LOGITS, np.array([-1, -1, -1, -1])),
        (scores.masked_mean, SPATIAL, (np.array(-1), MASK)),
        (scores.masked_mean, SPATIAL, (np.array(0), MASK & False)),
        (scores.box, (SURE, BOXES), (np.array(0), np.array(5))),
        (scores.contrast, LOGITS[0], (np.array(0), np.array([-1]))),
        (scores.regression, EMBEDDING, np.array(7)),
    ],
)
def test_a_traced_target_out_of_range_is_nan(score, outputs, target):
    assert jnp.isnan(jax.jit(score)(*as_arrays((outputs, target))))


@pytest.mark.parametrize("weights", [np.ones([4, 1]), (1.0,), np.ones(2)])
def test_weights_are_one_for_each_token(weights):
    with pytest.raises(ValueError, match=r"expected weights of shape \(4,\), one for each token, got"):
        scores.sequence_log_prob(jnp.asarray(LOGITS), jnp.array([3, 0, 1, 2]), weights=weights)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.uint32])
def test_integers_of_any_type_are_targets(dtype):
    """-1 is no value of an unsigned type, and 300 words are more than 8 bits hold."""
    many = jnp.asarray(np.random.default_rng(0).normal(size=(3, 300)))
    tokens, expected = jnp.array([2, 0, 100]), jnp.array([[2, -1, -1], [-1, 0, -1], [-1, -1, 100]])
    for function in (scores.sequence_log_prob, jax.jit(scores.sequence_log_prob)):
        np.testing.assert_array_equal(function(many, tokens.astype(dtype)), function(many, tokens))
    np.testing.assert_array_equal(scores.one_token_each(tokens.astype(dtype)), expected)
    sure, boxes = jnp.arange(256.0), jnp.zeros([256, 4])
    assert float(scores.box((sure, boxes), (dtype(75), dtype(0)))) == 75


def test_one_token_each_takes_one_sentence():
    for tokens in (jnp.array([[1, 2]]), jnp.array([1.0]), [1, 2]):
        with pytest.raises(ValueError, match=r"expected tokens (of shape \(\d,\)|that are integers), got"):
            scores.one_token_each(tokens)


def test_sums_are_not_half_precision():
    outputs = jnp.full([256, 256, 3], 0.5, jnp.float16)
    for mask in (jnp.ones([256, 256], bool), jnp.full([256, 256], 255, jnp.uint8)):
        assert float(scores.masked_mean(outputs, (1, mask))) == 0.5
    long = jnp.full(512, 100, jnp.float16)
    assert float(scores.similarity(long, long)) == pytest.approx(1)
    assert float(scores.regression(jnp.array([1.0], jnp.float16), 0, near=1001.0)) == -1e6
