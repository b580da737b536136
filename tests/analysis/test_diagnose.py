"""What is said about a map, against the same counted in NumPy."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from tests.formulas.test_formulas import toy
from tests.oracles import cams as oracle


def case(seed):
    params, x = oracle.network(np.random.default_rng(seed), (4, 3))
    params["V"][:12] = 0  # the first rows of A reach nothing
    return params, x


@pytest.mark.parametrize(("name", "score"), [("exp", jaxcam.scores.logit), ("softmax", jaxcam.scores.log_softmax)])
def test_shares_are_those_counted_by_hand(x64, name, score):
    params, x = case(3)
    A = oracle.activation(params, x)
    z, J = oracle.logits_and_jacobian(params, A)
    _, Y1, Y2, Y3 = oracle.derivatives(params, A, 1, name)
    found = jaxcam.diagnose(toy(params, "float64"), jnp.asarray(x), 1, score=score)
    denominator = 2 * Y2 + A.sum((0, 1)) * Y3
    assert found.zero_second == pytest.approx((Y2 == 0).mean()) and found.zero_second >= 0.25
    assert found.negative_denominators == pytest.approx((denominator < 0).mean()) and found.negative_denominators > 0
    p = np.exp(z) / np.exp(z).sum()
    np.testing.assert_allclose(found.probability, p[1], rtol=1e-12)
    np.testing.assert_allclose(found.score, z[1] if name == "exp" else np.log(p[1]), rtol=1e-12)
    gradient = J[1] if name == "exp" else Y1
    raw = {
        "grad_cam": (A * gradient.mean((0, 1))).sum(-1),
        "grad_cam_pp": (A * oracle.grad_cam_pp_weights(A, Y1, Y2, Y3)).sum(-1),
    }
    for method, each in raw.items():
        assert found.cut_off[method] == pytest.approx((each < 0).mean())
        assert found.zero_map[method] == (each <= 0).all()
    assert (found.predicted, found.target, found.not_finite) == (z.argmax(), 1, 0)


def negative():
    return jaxcam.Cut((), lambda p, x: jnp.abs(x) + 1, lambda p, A, x: jnp.stack([-A.sum(), A.sum()]), "all")


def test_a_map_that_is_negative_everywhere():
    found = jaxcam.diagnose(negative(), jnp.ones([3, 4, 2]), 0)
    assert found.cut_off["grad_cam"] == 1 and found.zero_map == {"grad_cam": True, "grad_cam_pp": True}
    report = str(found)
    assert "Grad-CAM's map is negative everywhere before the relu: nothing here speaks for the class" in report
    assert "the model predicts class 1: this is the map of another class" in report
    assert "Grad-CAM++'s map is zero everywhere" in report


@pytest.mark.long
def test_a_class_token_alone_is_read():
    """The head reads what is outside of A: no relu is off, and no softmax is saturated."""
    cut = jaxcam.Cut((), lambda p, x: jnp.abs(x) + 1, lambda p, A, x: x.mean((0, 1)) + (0 * A).sum(), "tokens")
    report = str(jaxcam.diagnose(cut, jnp.ones([3, 4, 2]), 0))
    assert "the gradient is zero at all of A: a relu" in report
    assert "the outputs do not read A, as behind the last attention of a transformer" in report


def test_what_is_not_finite_is_counted():
    cut = jaxcam.Cut((), lambda p, x: 1 / x, lambda p, A, x: A.sum((0, 1)))
    found = jaxcam.diagnose(cut, jnp.ones([2, 2, 3]).at[0, 0, 0].set(0), 1)
    assert found.not_finite == 1 and "1 values of the activation" in str(found)


def test_a_smooth_head_and_json():
    model = jaxcam.pretrained.digits(activation=jax.nn.gelu)
    image, _ = jaxcam.pretrained.digits_canvas(0)
    found = jaxcam.diagnose(jaxcam.cut(model, "block3_pool"), image, 1)
    assert not found.certificate.affine and "the closed form is an approximation" in str(found)
    assert json.loads(json.dumps(found.as_dict()))["certificate"]["locally_affine"] is False


def test_outputs_that_are_no_classes():
    cut = jaxcam.Cut((), lambda p, x: x, lambda p, A, x: (A.mean((0, 1)), A))
    found = jaxcam.diagnose(cut, jnp.ones([3, 4, 2]), 1, score=lambda outputs, target: outputs[0][target])
    assert found.probability is None and found.predicted is None and "probability" not in str(found)


def test_it_is_for_values(cut, image):
    with pytest.raises(TypeError, match="diagnose looks at values: call it outside jit"):
        jax.jit(lambda image: jaxcam.diagnose(cut, image, 3).score)(image)
    with pytest.raises(TypeError, match="VGG is not a Cut"):
        jaxcam.diagnose(jaxcam.digits(), image)
