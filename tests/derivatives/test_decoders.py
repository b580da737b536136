"""Derivatives of what recurrent and attending decoders say, beside three nested `jax.grad` along every direction."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam
from jaxcam import derivatives, scores

SPATIAL, CHANNELS, WIDTH, VOCABULARY = (2, 3), 2, 3, 4
TOKENS = np.array([2, 0, 3])


def weights(*names_and_shapes):
    rng = np.random.default_rng(7)
    return {name: jnp.asarray(rng.normal(size=shape)) for name, *shape in names_and_shapes}


def lstm(A):
    w = weights(("image", 12, 3), ("word", 5, 3), ("x", 3, 12), ("h", 3, 12), ("out", 3, 4))
    h = c = jnp.zeros(WIDTH)
    logits = []
    for x in (A.reshape(-1) @ w["image"], *w["word"][jnp.array([4, *TOKENS[:-1]])]):
        enter, forget, leave, value = jnp.split(x @ w["x"] + h @ w["h"], 4)
        c = jax.nn.sigmoid(forget) * c + jax.nn.sigmoid(enter) * jnp.tanh(value)
        h = jax.nn.sigmoid(leave) * jnp.tanh(c)
        logits.append(h @ w["out"])
    return jnp.stack(logits[1:])


def gru(A):
    w = weights(("image", 12, 3), ("word", 5, 3), ("x", 3, 9), ("h", 3, 6), ("n", 3, 3), ("out", 3, 4))

    def step(h, x):
        reset, update, value = jnp.split(x @ w["x"], 3)
        from_reset, from_update = jnp.split(h @ w["h"], 2)
        reset, update = jax.nn.sigmoid(reset + from_reset), jax.nn.sigmoid(update + from_update)
        h = (1 - update) * jnp.tanh(value + reset * (h @ w["n"])) + update * h
        return h, h @ w["out"]

    inputs = w["word"][jnp.array([4, *TOKENS[:-1]])]
    return jax.lax.scan(step, jnp.tanh(A.reshape(-1) @ w["image"]), inputs)[1]


def attention(A):
    w = weights(("q", 3, 2), ("word", 5, 3), ("v", 2, 3), ("out", 6, 4))
    places = A.reshape(-1, CHANNELS)
    words = w["word"][jnp.array([4, *TOKENS[:-1]])]
    seen = jax.nn.softmax(words @ w["q"] @ places.T) @ (places @ w["v"])
    return jnp.tanh(jnp.concatenate([words, seen], -1)) @ w["out"]


@pytest.mark.parametrize("decoder", [lstm, gru, attention], ids=lambda decoder: decoder.__name__)
def test_the_derivatives_of_a_caption_are_those_of_nested_gradients(x64, decoder):
    A = jnp.asarray(np.random.default_rng(3).normal(size=(*SPATIAL, CHANNELS)))

    def u(A):
        return scores.sequence_log_prob(decoder(A), TOKENS)

    def along(direction):
        line = [lambda t: u(A + t * direction.reshape(A.shape))]
        for _ in range(3):
            line.append(jax.grad(line[-1]))
        return [derivative(0.0) for derivative in line]

    expected = jax.jit(jax.vmap(along))(jnp.eye(A.size))
    got = jax.jit(functools.partial(derivatives.exact, u))(A)
    for order in range(1, 4):
        np.testing.assert_allclose(np.ravel(got[order]), expected[order], rtol=1e-9, atol=1e-11)


# The first smooth primitives behind the image, which each decoder reads through an affine input.
STOPS = {
    lstm: [*[("logistic", (WIDTH,))] * 3, ("tanh", (WIDTH,))],  # three gates and the value
    gru: [("tanh", (WIDTH,))],  # of the image
    attention: [("exp", (3, 6))],  # of the softmax, of three words over six places
}


@pytest.mark.parametrize("decoder", STOPS, ids=lambda decoder: decoder.__name__)
def test_the_certificate_says_what_bends_a_caption(decoder):
    certificate = jaxcam.certify(decoder, jnp.ones([*SPATIAL, CHANNELS]))
    assert not certificate.affine
    assert sorted((stop.primitive, *stop.shapes) for stop in certificate.stops) == STOPS[decoder]


def test_a_decoder_without_gates_is_certified():
    assert jaxcam.certify(lambda A: A.reshape(-1) @ jnp.ones([12, 5]), jnp.ones([*SPATIAL, CHANNELS])).affine
