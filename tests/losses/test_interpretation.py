"""The distance of two maps against float64 autodiff written out, and what has no gradient."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import losses
from tests.losses import toys

CLOSED_FORM = functools.partial(jaxcam.grad_cam_pp, derivatives="closed_form")


def in_parameters(student, *arguments, **options):
    """The loss as a function of the student's parameters."""
    return lambda params: losses.interpretation(dataclasses.replace(student, params=params), *arguments, **options)


@pytest.mark.parametrize(
    ("head", "method", "name", "normalize"),
    [
        pytest.param(toys.relu_head, jaxcam.grad_cam_pp, "grad_cam_pp", None, marks=pytest.mark.long),
        (toys.relu_head, CLOSED_FORM, "grad_cam_pp", "max"),
        pytest.param(toys.gelu_head, jaxcam.grad_cam_pp, "grad_cam_pp", None, marks=pytest.mark.long),
        pytest.param(toys.relu_head, jaxcam.grad_cam, "grad_cam", None, marks=pytest.mark.long),
    ],
    ids=["exact", "closed form, max", "exact, gelu", "Grad-CAM"],
)
def test_the_loss_and_its_gradient_are_those_of_plain_autodiff(x64, head, method, name, normalize):
    params, teacher, x = toys.parameters(2), toys.parameters(3), toys.image(0)

    def plain(params):
        pair = [toys.plain_maps(p, x, 2, head)[name] for p in (params, teacher)]
        if normalize == "max":
            pair = [saliency / saliency.max() for saliency in pair]
        return ((pair[0] - pair[1]) ** 2).sum()

    loss = in_parameters(
        toys.cut_of(params, head), toys.cut_of(teacher, head), x, 2, method=method, normalize=normalize
    )
    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    expected, expected_gradient = jax.jit(jax.value_and_grad(plain))(params)
    # With relu the map depends on b by its sign alone.
    assert expected > 1e-3 and all(jnp.abs(expected_gradient[leaf]).max() > 1e-4 for leaf in "WVZ")
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), gradient, expected_gradient)


def test_a_coarse_map_is_resized_to_the_teachers():
    params, x = toys.parameters(3, dtype="float32"), toys.image(1, side=6, dtype="float32")
    student = toys.cut_of(params, features=toys.coarse_features)
    teacher = toys.cut_of(toys.parameters(2, side=6, dtype="float32"))
    maps = [jaxcam.grad_cam(cut, x, 3) for cut in (student, teacher)]
    assert [saliency.shape for saliency in maps] == [(3, 3), (6, 6)]
    bilinear = np.asarray(jax.image.resize(maps[0], (6, 6), "linear"))
    for normalize, scale in ((None, lambda m: m), ("max", lambda m: m / m.max())):
        expected = ((scale(bilinear) - scale(np.asarray(maps[1]))) ** 2).sum()
        loss = losses.interpretation(student, teacher, x, 3, method=jaxcam.grad_cam, normalize=normalize)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        assert expected > 0


@pytest.fixture(scope="module")
def pair():
    """A student, its teacher, five images and their classes, in float32."""
    student, teacher = (toys.cut_of(toys.parameters(seed, dtype="float32")) for seed in (2, 3))
    return student, teacher, jnp.stack([toys.image(i, dtype="float32") for i in range(5)]), jnp.array([0, 1, 2, 3, 2])


def test_no_gradient_reaches_the_teacher(pair):
    student, teacher, images, targets = pair
    kept = jaxcam.grad_cam_pp(teacher, images[0], 0)
    of_both = jax.jit(jax.grad(losses.interpretation, argnums=(0, 1)))
    for given in (teacher, kept):
        of_student, of_teacher = of_both(student, given, images[0], 0)
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(of_teacher))
        assert any(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(of_student))
    given, computed = (jax.jit(losses.interpretation)(student, each, images[0], 0) for each in (kept, teacher))
    np.testing.assert_allclose(given, computed, rtol=1e-6)


@pytest.mark.long
def test_examples_of_a_batch_do_not_meet(pair):
    student, teacher, images, targets = pair

    @jax.jit
    def batch_gradients(student, images, targets):
        loss = functools.partial(losses.interpretation, student, teacher)
        per_example = jax.vmap(jax.value_and_grad(losses.interpretation), in_axes=(None, None, 0, 0))
        return per_example(student, teacher, images, targets), jax.vmap(loss)(images, targets).mean()

    (values, gradients), mean = batch_gradients(student, images, targets)
    order = jnp.array([3, 0, 4, 2, 1])
    (shuffled, shuffled_gradients), shuffled_mean = batch_gradients(student, images[order], targets[order])
    np.testing.assert_allclose(shuffled, values[order], rtol=1e-6)
    np.testing.assert_allclose(mean, shuffled_mean, rtol=1e-6)
    for leaf, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(shuffled_gradients), strict=True):
        np.testing.assert_allclose(other, leaf[order], rtol=1e-5, atol=1e-6)
    alone = losses.interpretation(student, teacher, images[2], 2)
    np.testing.assert_allclose(values[2], alone, rtol=1e-5)


@pytest.mark.parametrize("normalize", [pytest.param(None, marks=pytest.mark.long), "max"])
def test_half_precision_stays_finite(pair, normalize):
    """Also where the logits are so large that e^u overflows, and so small that squares of gradients underflow."""
    _, teacher, images, _ = pair
    kept = jaxcam.grad_cam_pp(teacher, images[0], 0)

    @jax.jit
    def of_student(params):
        student = toys.cut_of(params)
        return jax.value_and_grad(losses.interpretation)(
            student, kept, images[0].astype(jnp.bfloat16), 0, normalize=normalize
        )

    for scale in (1.0, 1e3, 1e-12):
        params = toys.parameters(2, dtype="bfloat16")
        params["Z"] = (params["Z"].astype(jnp.float32) * scale).astype(jnp.bfloat16)
        value, gradient = of_student(params)
        assert value.dtype == jnp.float32 and jnp.isfinite(value)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        assert gradient.params["Z"].dtype == jnp.bfloat16 and any(
            (leaf != 0).any() for leaf in jax.tree.leaves(gradient)
        )


def test_maps_of_zeros_have_no_gradient():
    value, gradient = jax.value_and_grad(losses.map_distance)(jnp.zeros([2, 2]), jnp.eye(2), normalize="max")
    assert value == 2 and (gradient == 0).all()
    assert losses.map_distance(jnp.eye(2), jnp.zeros([2, 2]), normalize="max") == 2


@pytest.mark.long
def test_noise_is_the_same_for_both(pair):
    student, _, images, _ = pair
    smooth = functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=2)
    assert losses.interpretation(student, student, images[0], 1, jax.random.key(0), method=smooth) == 0
    with pytest.raises(ValueError, match="n_samples=2 needs a key"):
        losses.interpretation(student, student, images[0], 1, method=smooth)


def test_refusals(pair):
    student, teacher, images, _ = pair
    call = functools.partial(losses.interpretation, image=images[0], target=1)
    several = jaxcam.Cuts((), lambda params, deltas, x: ({}, x), ("a", "b"))
    for wrong in (several, "teacher", object()):
        with pytest.raises(
            TypeError, match=r"expected a cut at one layer, .* for teacher, or its map \[\*spatial\], got"
        ):
            call(student, wrong)
    with pytest.raises(TypeError, match=r"expected a cut at one layer, .* for student, got Cuts"):
        call(several, teacher)
    with pytest.raises(TypeError, match="expected a target, such as the example's class, got None"):
        losses.interpretation(student, teacher, images[0], None)
    with pytest.raises(ValueError, match="expected None or 'max' for normalize, got 'mean'"):
        call(student, teacher, normalize="mean")
    with pytest.raises(ValueError, match=r"the same number of axes, got shapes \(3, 3\) and \(5, 3, 3\): use jax.vmap"):
        call(student, jnp.ones([5, 3, 3]))
    grown = lambda cut, image, target, key: jaxcam.Smoothed(jnp.ones([3, 3]), jnp.zeros([3, 3]), 16)
    with pytest.raises(TypeError, match="got a Smoothed: leave standard_error= out"):
        call(student, teacher, key=jax.random.key(0), method=grown)
    with pytest.raises(TypeError, match="expected a function for method, such as jaxcam.grad_cam, got 'grad_cam'"):
        call(student, teacher, method="grad_cam")


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-6, 1.0, 1e20])
def test_a_map_of_any_scale_has_its_gradient(scale):
    """Of maps over their maxima: the gradient is that of the map times 1 over its scale."""
    saliency, other = jnp.array([[0.5, 1.0], [0.25, 0.0]]), jnp.array([[1.0, 0.5], [0.0, 0.25]])
    loss = functools.partial(losses.map_distance, normalize="max")
    expected = jax.grad(loss)(saliency, other)
    value, gradient = jax.value_and_grad(loss)(scale * saliency, other)
    np.testing.assert_allclose(value, loss(saliency, other), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(gradient, np.float64) * scale, expected, rtol=1e-5)
