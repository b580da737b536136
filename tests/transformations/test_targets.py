"""A target is the score's business: any pytree as a target gives what a score gives that closes over it."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(0, 1, (4, 3, 2)).astype(np.float32)
PARAMS = {"conv": RNG.normal(0, 1, (2, 3)).astype(np.float32), "dense": RNG.normal(0, 1, (3, 4)).astype(np.float32)}
NOISE = {"n_samples": 2, "key": KEY}
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
# By name in the root, and the options that a call needs.
METHODS = {
    "gradient_cam": {"weigh": jaxcam.weights.xgrad_cam, "order": 1},
    "grad_cam": {},
    "grad_cam_plus": {},
    "grad_cam_pp": {},
    "smooth_grad_cam_pp": NOISE,
    "counterfactual_grad_cam": {},
    "xgrad_cam": {},
    "hires_cam": {},
    "layer_cam": {},
    "score_cam": {},
    "occlusion": {"patch": 3, "stride": 3},
    "input_gradient": {},
    "saliency": {},
    "guided_backprop": {},
    "deconvnet": {},
    "smooth_grad": NOISE,
    "var_grad": NOISE,
    "square_grad": NOISE,
    "integrated_gradients": {"steps": 2},
    "guided_grad_cam": NOISE,
    "diagnose": {},
}
PEERS = ("pytorch-grad-cam", "tf-keras-vis", "xplique", "torch-cam", "original")


def features(params, x):
    return jax.nn.relu(x @ params["conv"])


def logits(params, A, x=None):
    return A.mean((0, 1)) @ params["dense"]


CUT = jaxcam.Cut(PARAMS, features, logits, "relu")
STRUCTURED = jaxcam.Cut(PARAMS, features, lambda p, A, x: {"logits": logits(p, A), "map": A.sum(-1)}, "relu")


def test_all_methods_with_a_score_are_here():
    with_score = {
        name
        for name, value in vars(jaxcam).items()
        if callable(value) and not isinstance(value, type)
        and list(inspect.signature(value).parameters)[:3] == ["cut", "image", "target"]
        and "score" in inspect.signature(value).parameters
    }  # fmt: skip
    assert with_score == set(METHODS)


# Random pytrees as targets, with random scores.


def random_leaf(rng):
    return [
        lambda: float(rng.normal()),
        lambda: int(rng.integers(9)),
        lambda: np.float32(rng.normal()),
        lambda: rng.normal(size=rng.integers(1, 4, rng.integers(1, 4))).astype(np.float32),
        lambda: jnp.asarray(rng.integers(0, 99, 5)),
        lambda: rng.uniform(size=(2, 2)) < 0.5,
        lambda: bool(rng.integers(2)),
        lambda: str(rng.choice(["left", "right"])),
        lambda: None,
    ][rng.integers(9)]()


def random_pytree(rng, depth=2):
    kind = rng.integers(4) if depth else 3
    count = rng.integers(1, 4)
    if kind == 0:
        return {f"key {i}": random_pytree(rng, depth - 1) for i in range(count)}
    if kind == 1:
        return tuple(random_pytree(rng, depth - 1) for _ in range(count))
    if kind == 2:
        return [random_pytree(rng, depth - 1) for _ in range(count)]
    return random_leaf(rng)


def number_of(leaf):
    """A number that tells the leaf from others, and its type from other types."""
    if isinstance(leaf, str | bool):
        return {"left": 0.3, "right": -0.4, True: 0.7, False: -0.2}[leaf]
    array = jnp.asarray(leaf)
    weights = jnp.cos(jnp.arange(array.size, dtype=jnp.float32)).reshape(array.shape)
    return (weights * array.astype(jnp.float32)).sum() / 10


def random_score(rng):
    """A smooth function of the logits whose direction and offset are the target's."""
    direction = rng.normal(size=(8, 4)).astype(np.float32)
    offset = float(rng.normal())

    def score(outputs, target):
        values = outputs["logits"] if isinstance(outputs, dict) else outputs
        u = jnp.tanh(values + offset).sum()
        for place, leaf in enumerate(jax.tree.leaves(target)):
            u = u + number_of(leaf) * jnp.sin(values @ direction[place % 8])
        return u

    return score


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"diagnose"}))
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 3))])
def test_random_targets_are_as_closed_over(name, seed):
    rng = np.random.default_rng([seed, *name.encode()])
    check(functools.partial(getattr(jaxcam, name), **METHODS[name]), rng, STRUCTURED)


@pytest.mark.parametrize("peer", PEERS)
def test_compat_as_closed_over(peer):
    check(functools.partial(jaxcam.grad_cam_pp, compat=peer), np.random.default_rng(5), CUT, box={"at": np.ones(4)})


@pytest.mark.parametrize("statistic", ["mean", "variance", "square"])
def test_averages_as_closed_over(statistic):
    def average(cut, image, target=None, *, score):
        method = functools.partial(jaxcam.layer_cam, score=score)
        return jaxcam.average_maps(method, statistic=statistic)(cut, image, target, KEY, n_samples=2)

    check(average, np.random.default_rng(6), STRUCTURED)


def check(method, rng, cut, **known):
    """A random target through the method, against the same score closed over the target."""
    target, score = (random_pytree(rng), known), random_score(rng)
    for sign in (1, -1):  # a map that is zero for one is not for the other
        signed = lambda outputs, target, sign=sign: sign * score(outputs, target)
        explained = method(cut, IMAGE, target, score=signed)
        if np.abs(explained).max() > 0:
            break
    expected = method(cut, IMAGE, None, score=lambda outputs, _: signed(outputs, target))
    np.testing.assert_allclose(explained, expected, **CLOSE)
    assert np.abs(expected).max() > 0


# Targets as people have them, against plain jax.grad.


def near(outputs, value):
    return -((outputs[0] - value) ** 2)


def weighted(outputs, weights):
    return outputs @ weights


def contrast(outputs, pair):
    first, second = pair
    return outputs[first] - outputs[second]


def similarity(outputs, embedding):
    return outputs @ embedding / jnp.linalg.norm(outputs)


def of_tokens(outputs, tokens):
    return jax.nn.log_softmax(outputs)[tokens].sum()


def grad_cam_by_hand(score, target, image=IMAGE, params=PARAMS):
    A = features(params, jnp.asarray(image))
    gradient = jax.grad(lambda A: score(logits(params, A), target))(A)
    return jax.nn.relu((A * gradient.mean((0, 1), keepdims=True)).sum(-1))


CASES = {
    "a float": (near, 0.7),
    "a NumPy float": (near, np.float32(-1.3)),
    "weights": (weighted, np.array([-0.5, 1, -2, -0.1], np.float32)),
    "a pair of classes": (contrast, (3, 1)),
    "an embedding": (similarity, jnp.array([1.0, -2.0, 0.5, 0.0])),
    "tokens": (of_tokens, np.array([2, 0, 2])),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("transformation", ["eager", "jit", "vmap"])
def test_grad_cam_of_any_target(case, transformation):
    score, target = CASES[case]
    explain = lambda target: jaxcam.grad_cam(CUT, IMAGE, target, score=score)
    expected = grad_cam_by_hand(score, target)
    if transformation == "vmap":
        twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), target)
        np.testing.assert_allclose(jax.vmap(explain)(twice)[1], expected, **CLOSE)
        return
    explain = jax.jit(explain) if transformation == "jit" else explain
    np.testing.assert_allclose(explain(target), expected, **CLOSE)


@pytest.mark.parametrize("case", ["a float", "weights", "an embedding"])
def test_derivatives_with_respect_to_the_target(case):
    score, target = CASES[case]
    sensitivity = jax.grad(lambda target: (jaxcam.grad_cam(CUT, IMAGE, target, score=score) ** 2).sum())(target)
    expected = jax.grad(lambda target: (grad_cam_by_hand(score, target) ** 2).sum())(target)
    np.testing.assert_allclose(sensitivity, expected, **CLOSE)
    assert np.abs(expected).max() > 0


def test_a_mask_over_outputs_in_space():
    mask = np.zeros((4, 3), np.float32)
    mask[1:3, 1] = 1
    score = lambda outputs, mask: (outputs["map"] ** 2 * mask).sum()
    A = features(PARAMS, jnp.asarray(IMAGE))
    gradient = jax.grad(lambda A: (A.sum(-1) ** 2 * mask).sum())(A)
    expected = np.maximum((np.asarray(A) * np.asarray(gradient)).sum(-1), 0)
    np.testing.assert_allclose(jaxcam.hires_cam(STRUCTURED, IMAGE, mask, score=score), expected, **CLOSE)


def test_a_key_and_a_bool_are_what_the_score_takes():
    projected = lambda outputs, key: outputs @ jax.random.normal(key, outputs.shape)
    np.testing.assert_allclose(
        jaxcam.grad_cam(CUT, IMAGE, KEY, score=projected), grad_cam_by_hand(projected, KEY), **CLOSE
    )
    signed = lambda outputs, is_minus: -outputs[0] if is_minus else outputs[0]
    for target in (True, False):
        np.testing.assert_allclose(
            jaxcam.grad_cam(CUT, IMAGE, target, score=signed), grad_cam_by_hand(signed, target), **CLOSE
        )


def test_a_change_of_values_compiles_nothing_and_a_change_of_text_does():
    traces = []

    def score(outputs, target):
        traces.append(target["word"])
        return target["scale"] * outputs[len(target["word"])]

    explain = functools.partial(jaxcam.grad_cam, CUT, IMAGE, score=score)
    first = explain({"word": "a", "scale": 1.0})
    count = len(traces)
    np.testing.assert_allclose(explain({"word": "a", "scale": 2.0}), 2 * first, **CLOSE)
    assert len(traces) == count
    np.testing.assert_allclose(
        explain({"word": "abc", "scale": 1.0}), grad_cam_by_hand(lambda o, _: o[3], None), **CLOSE
    )


@pytest.mark.parametrize(
    ("target", "kind"), [({"words": np.array(["a", "b"])}, "an array of <U1"), ((slice, {1}), "a set without a hash")]
)
def test_a_leaf_that_programs_cannot_be_told_apart_by(target, kind):
    with pytest.raises(TypeError, match=f"expected leaves of target that are .* got {kind}: .* close over it"):
        jaxcam.grad_cam(STRUCTURED, IMAGE, target, score=lambda outputs, target: outputs["logits"][0])


# Classes.


def total(outputs, target):
    return outputs[target] - outputs.sum()


@pytest.mark.parametrize("score", [total, jaxcam.scores.of_classes(total)])
def test_a_class_is_checked_whatever_the_score(score):
    explain = functools.partial(jaxcam.grad_cam, CUT, IMAGE, score=score)
    predicted = int(logits(PARAMS, features(PARAMS, IMAGE)).argmax())
    np.testing.assert_array_equal(explain(None), explain(predicted))
    for target in (4, -1, np.int64(4), jnp.array(4)):
        with pytest.raises(ValueError, match="is out of range: the model has 4 classes, from 0"):
            explain(target)
    for target in (4, -1, np.uint8(200)):
        assert jnp.isnan(jax.jit(explain)(target)).all()
    np.testing.assert_allclose(jax.jit(explain)(np.uint8(2)), grad_cam_by_hand(total, 2), **CLOSE)


def test_a_wide_integer_does_not_wrap_into_the_range(x64):
    assert jnp.isnan(jax.jit(lambda target: jaxcam.grad_cam(CUT, IMAGE, target))(np.int64(2**32 + 1))).all()


@pytest.mark.parametrize(
    "score",
    [
        jaxcam.scores.logit,
        functools.partial(functools.partial(jaxcam.scores.log_softmax)),
        jaxcam.scores.of_classes(total),
        jaxcam.scores.of_classes(functools.partial(total)),
        functools.partial(jaxcam.scores.of_classes(total)),
    ],
)
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (0.7, "expected one class, an integer, for target, got 0.7"),
        (np.ones(4, np.float32), "expected one class, an integer"),
        (True, "expected one class, an integer, for target, got True"),
        ((1,), "expected one class, an integer"),
        ("cat", "got 'cat': jaxcam.pretrained.find_class knows names"),
        (KEY, "target is a key: the order is"),
    ],
)
def test_a_score_of_classes_takes_nothing_else(score, target, message):
    with pytest.raises(TypeError, match=message):
        jaxcam.grad_cam(CUT, IMAGE, target, score=score)
    if not isinstance(target, str):
        with pytest.raises(TypeError, match="expected one class, an integer|target is a key"):
            jax.jit(lambda target: jaxcam.grad_cam(CUT, IMAGE, target, score=score))(target)


def test_marks():
    marked = jaxcam.scores.of_classes(total)
    assert marked == jaxcam.scores.of_classes(total) and hash(marked) == hash(jaxcam.scores.of_classes(total))
    assert jaxcam.scores.of_classes(marked) is marked and marked.__name__ == "total"
    assert not jaxcam.scores.takes_class(total) and not jaxcam.scores.takes_class(None)
    with pytest.raises(
        ValueError, match=r"expected outputs \[classes\] .* got \['logits'\]: \[4\], \['map'\]: \[4, 3\]"
    ):
        jaxcam.grad_cam(STRUCTURED, IMAGE, 1, score=marked)


# Outputs that are no classes, and their messages.


@pytest.mark.parametrize("name", METHODS)
def test_no_target_for_a_score_that_ignores_it(name):
    method = functools.partial(getattr(jaxcam, name), **{"score": lambda outputs, _: outputs["logits"][2] ** 3})
    structured = method(STRUCTURED, IMAGE, **METHODS[name])
    alone = getattr(jaxcam, name)(CUT, IMAGE, **METHODS[name], score=lambda outputs, _: outputs[2] ** 3)
    if name == "diagnose":
        assert structured.target is None and structured.probability is None and structured.predicted is None
        assert structured.score == pytest.approx(alone.score) and structured.zero_second == alone.zero_second
        assert "relu, no target: score" in str(structured) and structured.as_dict()["target"] is None
    else:
        np.testing.assert_allclose(structured, alone, **CLOSE)


class Outputs:
    """Outputs as Hugging Face's Flax models return them: frozen, with a dict's face, and picky about their leaves."""

    def __init__(self, logits, hidden=None):
        if isinstance(logits, list | tuple):
            raise TypeError("cannot assign to field 'logits'")
        vars(self).update(logits=logits, hidden=hidden)

    def __setattr__(self, name, value):
        raise TypeError(f"cannot assign to field {name!r}")

    def __getitem__(self, name):
        return vars(self)[name]


jax.tree_util.register_pytree_with_keys(
    Outputs,
    lambda o: (((jax.tree_util.GetAttrKey("logits"), o.logits), (jax.tree_util.GetAttrKey("hidden"), o.hidden)), None),
    lambda _, leaves: Outputs(*leaves),
)


def test_an_output_class_that_checks_its_leaves():
    cut = jaxcam.Cut(PARAMS, features, lambda p, A, x: Outputs(logits(p, A), (A, A.sum(-1))), "relu")
    with pytest.raises(
        ValueError, match=r"got .logits: \[4\], .hidden\[0\]: \[4, 3, 3\], .hidden\[1\]: \[4, 3\] for an"
    ):
        jaxcam.grad_cam(cut, IMAGE)
    score = lambda outputs, target: outputs["logits"][target]
    for method in (jaxcam.grad_cam, jaxcam.input_gradient, jaxcam.score_cam):
        np.testing.assert_allclose(method(cut, IMAGE, 2, score=score), method(CUT, IMAGE, 2), **CLOSE)


# What is computed of a target beside the maps.


def test_analysis_of_a_target():
    target = {"value": np.float32(0.7), "sign": "minus"}
    score = lambda outputs, t: near(outputs, t["value"]) if t["sign"] == "minus" else outputs[0]
    closed_over = lambda outputs, _: near(outputs, 0.7)
    report, expected = (
        jaxcam.diagnose(CUT, IMAGE, given, score=function) for given, function in ((target, score), ({}, closed_over))
    )
    assert report.target is target and report.probability is None
    assert report._replace(target=None, certificate=None) == expected._replace(target=None, certificate=None)
    assert "relu, target ['sign']: 'minus', ['value']: " in str(report)
    given, over = (
        jaxcam.validate(CUT, IMAGE, t, scores=[function], locations=2)
        for t, function in ((target, score), ({}, closed_over))
    )
    assert given.target is target and "target ['sign']: 'minus'" in str(given)
    assert isinstance(given.as_dict()["target"], str)
    for row, other in zip(given.comparisons, over.comparisons, strict=True):
        for quantity, array in row.exact.items():
            np.testing.assert_allclose(array, other.exact[quantity], **CLOSE)
    assert given.differences[0].kept and max(given.differences[0].errors.values()) < 1e-4


@pytest.mark.parametrize("name", ["masked_score", "deletion", "insertion", "confidence_curve", "road"])
def test_metrics_of_a_target(name):
    saliency = np.arange(12, dtype=np.float32).reshape(4, 3)
    metric = functools.partial(getattr(jaxcam.metrics, name), image=IMAGE, saliency=saliency)
    metric = functools.partial(metric, **({"key": KEY} if name == "road" else {}))
    target = ("minus", 0.7, np.array([1.0, 2.0], np.float32))
    score = lambda outputs, t: near(outputs, t[1]) * t[2].sum() if t[0] == "minus" else outputs[0]
    expected = metric(CUT, target=(), score=lambda outputs, _: 3 * near(outputs, 0.7))
    np.testing.assert_allclose(metric(CUT, target=target, score=score), expected, **CLOSE)
    picked = metric(STRUCTURED, target=None, score=lambda outputs, _: 3 * near(outputs["logits"], 0.7))
    np.testing.assert_allclose(picked, expected, **CLOSE)
    assert np.isnan(jax.jit(lambda target: metric(CUT, target=target))(4)).any()
    with pytest.raises(TypeError, match="expected a target, got None"):
        metric(CUT, target=None, score=near)
