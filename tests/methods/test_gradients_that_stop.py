"""Scores whose gradient is zero by construction: refused with the reason, and looked through where that is possible."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam

IMAGE = jax.random.normal(jax.random.key(0), (6, 5, 3))
W = jax.random.normal(jax.random.key(1), (3, 4))
V = jax.random.normal(jax.random.key(2), (4, 5))


def cut_with(stop):
    """A cut whose head applies `stop` to the activation."""
    return jaxcam.Cut((), lambda p, x: jax.nn.relu(x @ W), lambda p, A, x: stop(A).mean((0, 1)) @ V, "relu")


STOPS = {
    "stop_gradient": jax.lax.stop_gradient,
    "round": jnp.round,
    "floor": jnp.floor,
    "gt": lambda A: (A > 0.1).astype(A.dtype),
    "argmax": lambda A: jax.nn.one_hot(A.argmax(-1), 4),
    "scan": lambda A: jax.lax.scan(lambda c, a: (c, jax.lax.stop_gradient(a)), 0.0, A)[1],
}
METHODS = [jaxcam.grad_cam, jaxcam.grad_cam_pp, jaxcam.layer_cam, jaxcam.saliency, jaxcam.cam]


@pytest.mark.parametrize("name", STOPS)
def test_every_stop_is_refused_and_named(name):
    named = "a comparison" if name == "gt" else rf"{name}.* of \["
    for method in METHODS:
        with pytest.raises(ValueError, match=rf"locally constant in .*stops at .*{named}"):
            method(cut_with(STOPS[name]), IMAGE, 1)


def test_a_score_that_stops_is_refused():
    cut = cut_with(lambda A: A)
    with pytest.raises(ValueError, match="stops at round of .*choose a score that can be differentiated"):
        jax.jit(lambda x: jaxcam.grad_cam(cut, x, 1, score=lambda o, t: jnp.round(o[t])))(IMAGE)
    with pytest.raises(ValueError, match="the score does not depend on the activation at 'relu'"):
        jaxcam.grad_cam(cut, IMAGE, 1, score=lambda o, t: jnp.float32(3))
    with pytest.raises(ValueError, match="locally constant"):
        jaxcam.grad_cam_pp(cut_with(jnp.round), IMAGE, 1, compat="torch-cam")


@pytest.mark.parametrize(
    "partly",
    [
        lambda A: A + jax.lax.stop_gradient(jnp.round(A) - A),  # a straight-through estimator
        lambda A: A - jax.lax.stop_gradient(A.max()),
        lambda A: jnp.where(A > 0.1, A, 0),
        lambda A: jax.nn.softmax(A),
    ],
)
def test_a_path_that_does_not_stop_is_enough(partly):
    cut = cut_with(partly)
    A = cut.features((), IMAGE)
    gradient = jax.grad(lambda A: cut.head((), A, IMAGE)[1])(A)
    expected = np.maximum((np.asarray(gradient).mean((0, 1)) * np.asarray(A)).sum(-1), 0)
    np.testing.assert_allclose(jaxcam.grad_cam(cut, IMAGE, 1), expected, rtol=0, atol=1e-5)


class Frozen(nnx.Module):
    """A head on a frozen backbone."""

    def __init__(self, stop, *, rngs):
        self.stop = stop
        self.backbone, self.branch = (nnx.Conv(3, 4, (3, 3), rngs=rngs) for _ in range(2))
        self.head = nnx.Linear(4, 5, rngs=rngs)

    def __call__(self, x):
        hidden = nnx.relu(self.backbone(x))
        return self.head((self.stop(hidden) + self.branch(x)).mean((1, 2)))


def scanned_stop(A):
    return jax.lax.scan(lambda c, a: (c, jax.jit(jax.lax.stop_gradient)(a)), 0.0, A)[1]


@pytest.mark.parametrize("stop", [jax.lax.stop_gradient, scanned_stop, jax.checkpoint(jax.lax.stop_gradient)])
def test_a_cut_looks_through_stop_gradient(stop):
    frozen, free = (Frozen(f, rngs=nnx.Rngs(3)) for f in (stop, lambda A: A))
    shape = IMAGE.shape
    with pytest.raises(ValueError, match="through_stop_gradient=True"):
        jaxcam.grad_cam(jaxcam.cut(frozen, "backbone", image_shape=shape), IMAGE, 1)
    through = jaxcam.cut(frozen, "backbone", image_shape=shape, through_stop_gradient=True)
    expected = jaxcam.cut(free, "backbone", image_shape=shape)
    for method in (jaxcam.grad_cam, jaxcam.grad_cam_pp, jaxcam.saliency):
        np.testing.assert_allclose(method(through, IMAGE, 1), method(expected, IMAGE, 1), rtol=0, atol=1e-6)
    several = jaxcam.cut(frozen, ["backbone", "branch"], image_shape=shape, through_stop_gradient=True)
    np.testing.assert_allclose(
        jaxcam.grad_cam(several, IMAGE, 1)["backbone"], jaxcam.grad_cam(expected, IMAGE, 1), rtol=0, atol=1e-6
    )
    again = jaxcam.cut(frozen, "backbone", image_shape=shape, through_stop_gradient=True)
    assert again.head is through.head  # nothing is compiled again


def test_one_of_several_layers_that_stops_is_named():
    frozen = Frozen(jax.lax.stop_gradient, rngs=nnx.Rngs(3))
    cuts = jaxcam.cut(frozen, ["branch", "backbone"], image_shape=IMAGE.shape)
    with pytest.raises(ValueError, match="the activation at 'backbone': every path stops at stop_gradient of"):
        jaxcam.layer_cam(cuts, IMAGE, 1)


def test_a_network_that_cuts_itself_takes_no_such_option():
    with pytest.raises(TypeError, match="takes no through_stop_gradient"):
        jaxcam.cut(jaxcam.digits(), "block3_conv2", through_stop_gradient=True)


def test_diagnose_says_why():
    stopped = jaxcam.diagnose(cut_with(jax.lax.stop_gradient), IMAGE, 1)
    assert stopped.halts == ("stop_gradient of [6 5 4]",) and stopped.zero_gradient == 1
    assert "every derivative of the score ends at stop_gradient of [6 5 4]" in str(stopped)
    assert "speaks for the class" not in str(stopped)
    dead = jaxcam.diagnose(cut_with(lambda A: jax.nn.relu(-A - 1)), IMAGE, 1)
    assert dead.halts == () and "the gradient is zero at all of A" in str(dead)
