"""Distillation and the student's sum against NumPy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import losses
from tests.losses import toys


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def test_it_is_hintons_cross_entropy_less_the_entropy_of_the_targets():
    rng = np.random.default_rng(0)
    for temperature in (1.0, 4.0, 20.0):
        student, teacher = rng.normal(size=(2, 7)) * 3
        p, q = softmax(teacher / temperature), softmax(student / temperature)
        expected = temperature**2 * (-(p * np.log(q)).sum() + (p * np.log(p)).sum())
        value = losses.distillation(jnp.float32(student), jnp.float32(teacher), temperature=temperature)
        np.testing.assert_allclose(value, expected, rtol=1e-3)
        # Hinton's equation 2, times T^2.
        gradient = jax.grad(losses.distillation)(jnp.float32(student), jnp.float32(teacher), temperature=temperature)
        np.testing.assert_allclose(gradient, temperature * (q - p), atol=1e-5)


def test_no_gradient_reaches_the_teachers_logits():
    gradient = jax.grad(losses.distillation, argnums=1)(jnp.arange(7.0), jnp.ones(7))
    assert (gradient == 0).all()


def test_half_precision_and_large_logits_stay_finite():
    of_student = jax.jit(jax.value_and_grad(losses.distillation))
    for size in (3e38, 1e4, 1e-30):
        student, teacher = np.array([[1.0, -1.0, 0.5], [-1.0, 1.0, 0.0]]) * size / 100
        value, gradient = of_student(jnp.bfloat16(student), jnp.bfloat16(teacher))
        assert jnp.isfinite(value) and jnp.isfinite(gradient).all() and value.dtype == jnp.float32


@pytest.fixture(scope="module")
def pair():
    student, teacher = (toys.cut_of(toys.parameters(seed, dtype="float32")) for seed in (2, 3))
    return student, teacher, toys.image(0, dtype="float32")


def test_the_sum_has_the_papers_terms_and_weights(pair):
    student, teacher, x = pair
    logits, teacher_logits = (
        np.asarray(cut.head(cut.params, cut.features(cut.params, x), x), np.float64) for cut in (student, teacher)
    )
    cross_entropy = -np.log(softmax(logits)[2])
    distance = ((jaxcam.grad_cam_pp(student, x, 2) - jaxcam.grad_cam_pp(teacher, x, 2)) ** 2).sum()
    p, q = softmax(teacher_logits / 4), softmax(logits / 4)
    distilled = 16 * (p * np.log(p / q)).sum()
    rows = [
        ({}, cross_entropy + 0.01 * distance + distilled),
        ({"distillation_weight": 0}, cross_entropy + 0.01 * distance),
        ({"interpretation_weight": 0.0, "distillation_weight": 0.5}, cross_entropy + 0.5 * distilled),
        ({"interpretation_weight": 0, "distillation_weight": 0}, cross_entropy),
    ]
    assert distance > 0.1 and distilled > 0.01
    kept = losses.teacher_targets(teacher, x, 2)
    for options, expected in rows:
        for given in (teacher, kept):
            np.testing.assert_allclose(losses.student_loss(student, given, x, 2, **options), expected, rtol=1e-4)


def test_no_gradient_reaches_the_teacher(pair):
    student, teacher, x = pair
    of_student, of_teacher = jax.jit(jax.grad(losses.student_loss, argnums=(0, 1)))(student, teacher, x, 2)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(of_teacher))
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(of_student))


def test_a_run_in_bfloat16_stays_finite_and_learns():
    """Forty steps on four images, parameters, images and teacher in bfloat16."""
    student, teacher = (toys.cut_of(toys.parameters(seed, dtype="bfloat16")) for seed in (2, 3))
    images = jnp.stack([toys.image(i, dtype="bfloat16") for i in range(4)])
    taught = jax.vmap(functools.partial(losses.teacher_targets, teacher))(images, jnp.arange(4))

    @jax.jit
    def step(params):
        def loss(params):
            own = dataclasses.replace(student, params=params)
            return jax.vmap(functools.partial(losses.student_loss, own))(taught, images, jnp.arange(4)).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda p, g: p - jnp.bfloat16(0.05) * g, params, gradient), value

    params, values = student.params, []
    for _ in range(40):
        params, value = step(params)
        values.append(float(value))
    assert np.isfinite(values).all() and values[-1] < 0.7 * values[0]
    assert all(leaf.dtype == jnp.bfloat16 and jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.long
def test_a_network_that_ends_in_a_softmax_has_the_same_loss(pair):
    student, teacher, x = pair
    ending = [
        dataclasses.replace(cut, head=lambda p, A, x: jax.nn.softmax(toys.relu_head(p, A, x)))
        for cut in (student, teacher)
    ]
    method = functools.partial(jaxcam.grad_cam, score=jaxcam.scores.log_softmax)
    expected = losses.student_loss(student, teacher, x, 2, method=method)
    np.testing.assert_allclose(losses.student_loss(*ending, x, 2, method=method), expected, rtol=1e-5)


def test_refusals(pair):
    student, teacher, x = pair
    sigmoids = dataclasses.replace(student, head=lambda p, A, x: jax.nn.sigmoid(toys.relu_head(p, A, x)))
    with pytest.raises(
        ValueError, match="expected a student whose outputs are logits or a softmax of them, got sigmoids"
    ):
        losses.student_loss(sigmoids, teacher, x, 2)
    with pytest.raises(
        ValueError, match="expected a teacher whose outputs are logits or a softmax of them, got sigmoids"
    ):
        losses.student_loss(student, sigmoids, x, 2, method=jaxcam.grad_cam)
    for wrong in (None, 2.0, jnp.array([1, 2])):
        with pytest.raises(TypeError, match="expected the example's class, an integer, for target"):
            losses.student_loss(student, teacher, x, wrong)
    with pytest.raises(TypeError, match="for teacher, or jaxcam.losses.TeacherTargets, got ndarray"):
        losses.student_loss(student, np.ones([3, 3]), x, 2)
    with pytest.raises(ValueError, match=r"expected logits \[classes\] .*, got shapes \(4,\) and \(3,\)"):
        losses.distillation(jnp.ones(4), jnp.ones(3))
    with pytest.raises(ValueError, match="expected a temperature above 0, got 0"):
        losses.distillation(jnp.ones(3), jnp.ones(3), temperature=0)
    out_of_range = jax.jit(lambda target: losses.student_loss(student, teacher, x, target, interpretation_weight=0))
    assert jnp.isnan(out_of_range(4)) and jnp.isfinite(out_of_range(3))


def test_a_class_that_the_teacher_excludes_has_no_term():
    student, teacher = jnp.array([0.3, -1.0, 2.0]), jnp.array([1.0, -jnp.inf, 0.5])
    p = softmax(np.array([1.0, 0.5]) / 4)
    log_q = np.log(softmax(np.asarray(student, np.float64) / 4))[[0, 2]]
    value, gradient = jax.value_and_grad(losses.distillation)(student, teacher)
    np.testing.assert_allclose(value, 16 * (p * (np.log(p) - log_q)).sum(), rtol=1e-5)
    assert np.isfinite(gradient).all()
    for temperature in ("a", None, np.ones(3), -1):
        with pytest.raises(ValueError, match="expected a temperature above 0, got"):
            losses.distillation(student, student, temperature=temperature)
