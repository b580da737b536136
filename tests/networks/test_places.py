"""U-Net, detector and C3D: their derivatives against nested jax.grad in float64, and what they refuse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam import derivatives, networks, scores
from jaxcam.networks.boxes import location_centers

MASK = np.zeros((8, 8), bool)
MASK[2:5, 3:] = True


def own_log_softmax(outputs, target):
    return outputs[target] - jax.nn.logsumexp(outputs)


def own_masked_log_prob(outputs, target):
    number, mask = target
    return ((outputs - jax.nn.logsumexp(outputs, -1, keepdims=True))[..., number] * mask).sum()


BUILDS = {
    "masks": (
        lambda: networks.UNet(widths=(2, 3), plain=1, classes=3, image_shape=(8, 8, 3), rngs=nnx.Rngs(0)),
        "block2",
    ),
    "boxes": (
        lambda: networks.Detector(widths=(2, 4), neck=8, plain=1, classes=2, image_shape=(4, 4, 3), rngs=nnx.Rngs(0)),
        "block2",
    ),
    "clips": (
        lambda: networks.C3D(
            widths=(2, 3), pools=((2, 2, 2),), classes=3, image_shape=(4, 16, 16, 3), rngs=nnx.Rngs(0)
        ),
        "conv1",
    ),
}
# network, score, target, and whether outputs and score leave second derivatives
CASES = {
    "a mask's class": ("masks", scores.masked_mean, (1, MASK), False),
    "a mask's log-probability": ("masks", own_masked_log_prob, (1, MASK), True),
    "a box's score": ("boxes", scores.box, (5, "score"), False),
    "a box's side": ("boxes", scores.box, (5, "column1"), True),
    "a motion's logit": ("clips", scores.logit, 2, False),
    "a motion's log-probability": ("clips", scores.log_softmax, 2, True),
}


@functools.cache
def tiny(name):
    """A cut, an image and the activation, in the precision of the first call: that of x64."""
    build, layer = BUILDS[name]
    model = build()
    cut = jaxcam.cut(model, layer)
    cut = jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, cut)
    image = jnp.asarray(np.random.default_rng(1).uniform(size=model.image_shape))
    return cut, image, cut.features(cut.params, image)


def nested_gradients(f, A):
    """u1, u2 and u3 along every direction by three nested jax.grad of t -> f(A + t e_n)."""

    def along(direction):
        u = lambda t: f(A + t * direction)
        return [derivative(0.0) for derivative in (jax.grad(u), jax.grad(jax.grad(u)), jax.grad(jax.grad(jax.grad(u))))]

    directions = jnp.eye(A.size).reshape(A.size, *A.shape)
    return [values.reshape(A.shape) for values in jax.jit(jax.vmap(along))(directions)]


def checked_against_nested_gradients(case):
    name, score, target, is_curved = CASES[case]
    cut, image, A = tiny(name)
    u = lambda A: score(cut.head(cut.params, A, image), target)
    expected = nested_gradients(u, A)
    assert bool(jnp.any(expected[0] != 0)) and bool(jnp.any(expected[1] != 0)) == is_curved
    for number, values in enumerate(expected, 1):
        np.testing.assert_allclose(derivatives.exact(u, A)[number], values, rtol=1e-9, atol=1e-9)
    certificate = jaxcam.certify(lambda A: cut.head(cut.params, A, image), A)
    if certificate.affine:
        closed = derivatives.closed_form(lambda A: cut.head(cut.params, A, image), A, score, target)
        for number, values in enumerate(expected, 1):
            np.testing.assert_allclose(closed[number], values, rtol=1e-9, atol=1e-9)
    return certificate


def test_derivatives_of_a_box_are_those_of_nested_gradients(x64):
    checked_against_nested_gradients("a box's side")


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_derivatives_of_all_scores_are_those_of_nested_gradients(x64, case):
    certificate = checked_against_nested_gradients(case)
    assert certificate.affine == (CASES[case][0] != "boxes")
    if not certificate.affine:  # softplus, which makes the sides positive
        assert "log" in str(certificate)


def test_the_scores_of_boxes_are_certified_where_the_boxes_are_not(x64):
    cut, image, A = tiny("boxes")
    outputs = lambda A: cut.head(cut.params, A, image)
    assert jaxcam.certify(lambda A: outputs(A)["scores"], A).affine
    certificate = jaxcam.certify(lambda A: outputs(A)["boxes"], A)
    assert not certificate.affine and certificate.stops


def test_maps_of_all_parts_of_a_box_compute_the_features_once(x64):
    cut, image, _ = tiny("boxes")
    of_part = lambda part: jaxcam.layer_cam(cut, image, (5, part), score=scores.box)
    maps = jax.jit(jax.vmap(of_part))(jnp.arange(5))
    for number in (0, 4):
        np.testing.assert_allclose(maps[number], of_part(jnp.array(number)), atol=1e-12)
    program = jax.make_jaxpr(jax.vmap(of_part))(jnp.arange(5))
    of_image = [shape for shape in input_shapes_of_convolutions(program.jaxpr) if shape[-1] == 3 and shape[1] == 4]
    assert of_image and all(shape[0] == 1 for shape in of_image)


def input_shapes_of_convolutions(jaxpr):
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "conv_general_dilated":
            yield eqn.invars[0].aval.shape
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                if hasattr(inner, "eqns") or hasattr(getattr(inner, "jaxpr", None), "eqns"):
                    yield from input_shapes_of_convolutions(getattr(inner, "jaxpr", inner))


def test_a_box_contains_the_center_of_its_location():
    model = BUILDS["boxes"][0]()
    outputs = model(jnp.ones([1, 4, 6, 3]))
    centers = location_centers((4, 6), 1)
    assert centers.tolist() == [[i + 0.5, j + 0.5] for i in range(4) for j in range(6)]
    boxes = outputs["boxes"][0]
    assert bool((boxes[:, :2] <= centers).all() & (centers <= boxes[:, 2:]).all())
    np.testing.assert_array_equal(outputs["scores"], outputs["classes"].max(-1))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: BUILDS["masks"][0]()(jnp.ones([1, 8, 9, 3])), r"sides are multiples of 2, got \(8, 9\)"),
        (lambda: BUILDS["boxes"][0]()(jnp.ones([1, 5, 4, 3])), r"sides are multiples of 2, got \(5, 4\)"),
        (lambda: BUILDS["clips"][0]()(jnp.ones([1, 1, 16, 16, 3])), r"at least 2 frames of 8 x 8 pixels, got shape"),
        (lambda: networks.UNet(widths=(2,), classes=2, rngs=nnx.Rngs(0)), "at least two widths"),
        (lambda: networks.C3D(widths=(2, 2, 2), classes=2, rngs=nnx.Rngs(0), pools=()), "expected 2 pools"),
        (lambda: networks.Detector(widths=(2,), classes=2, rngs=nnx.Rngs(0)), "at least two widths"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(call)
