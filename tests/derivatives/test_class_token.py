"""Heads that read the class token of their last attention alone: one direction a channel, equal to brute force."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxcam.derivatives import _program, _push_rows, brute_force, exact, exact_cost
from jaxcam.derivatives._choose import choose_plan
from tests.derivatives.heads import assert_close, layer_norm, normal, softmax

TOKENS, WIDTH, HEADS = 9, 6, 2
COMPILED_QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
SHAPE = (TOKENS, WIDTH)


def fused_qkv(x):
    """As timm and jaxcam's ViT have it: one dense layer, an axis of three in front of the heads."""
    qkv = x @ normal(20, WIDTH, 3 * WIDTH) + normal(21, 1, 3 * WIDTH)
    return jnp.moveaxis(qkv.reshape(len(x), 3, HEADS, -1), 1, 0)


def three_dense(x):
    return [
        (x @ normal(seed, WIDTH, WIDTH) + normal(seed + 5, 1, WIDTH)).reshape(len(x), HEADS, -1)
        for seed in (20, 21, 22)
    ]


def split_qkv(x):
    return [part.reshape(len(x), HEADS, -1) for part in jnp.split(x @ normal(20, WIDTH, 3 * WIDTH), 3, axis=-1)]


def attention(x, qkv=fused_qkv, softmax=jax.nn.softmax):
    q, k, v = qkv(x)
    weights = softmax(jnp.einsum("qhc,khc->hqk", q / 3**0.5, k), -1)
    return jnp.einsum("hqk,khc->qhc", weights, v).reshape(len(x), WIDTH) @ normal(23, WIDTH, WIDTH) + normal(
        24, 1, WIDTH
    )


def softmax_by_hand(scores, axis):
    exponentials = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis, keepdims=True)))
    return exponentials / exponentials.sum(axis, keepdims=True)


def dot_product_attention(x):
    q, k, v = three_dense(x)
    with jax.numpy_dtype_promotion("standard"):
        return jax.nn.dot_product_attention(q[None], k[None], v[None])[0].reshape(len(x), WIDTH)


def nnx_attention(x):
    layer = nnx.MultiHeadAttention(HEADS, WIDTH, rngs=nnx.Rngs(0), decode=False, param_dtype=x.dtype)
    with jax.numpy_dtype_promotion("standard"):  # in JAX's own function, for float64
        return layer(x[None], deterministic=True)[0]


def linen_attention(x):
    layer = linen.MultiHeadDotProductAttention(HEADS, param_dtype=x.dtype)
    with jax.ensure_compile_time_eval():
        variables = layer.init(jax.random.key(0), jnp.zeros((1, *x.shape), x.dtype))
    return layer.apply(variables, x[None])[0]


def mlp(x, activation):
    return activation(x @ normal(25, WIDTH, 8) + normal(26, *(1,) * (x.ndim - 1), 8)) @ normal(27, 8, WIDTH)


def block(x, attend=attention, activation=jnp.tanh):
    x = x + attend(layer_norm(x))
    return x + mlp(x, activation)


def classify(token):
    return softmax(token @ normal(28, WIDTH, 4))


def first(A, **options):
    """The class token in front of the patches, at the input of the block."""
    return classify(block(jnp.concatenate([normal(29, 1, WIDTH), A]), **options)[0])


def last(A):
    return classify(block(jnp.concatenate([A, normal(29, 1, WIDTH)]))[-1])


def with_registers(A):
    return classify(block(jnp.concatenate([normal(29, 3, WIDTH), A, normal(30, 1, WIDTH)]))[0])


def behind_the_norm(A):
    """At the output of norm1: the patches move keys and values alone, and the skip connection passes them by."""
    x = attention(jnp.concatenate([normal(29, 1, WIDTH), A])) + normal(31, TOKENS + 1, WIDTH)
    return classify((x + mlp(x, jnp.tanh))[0])


def with_a_batch_axis(A):
    """As jaxcam cuts its networks: the grid of patches, a batch axis, all norms, the last one of all tokens."""
    tokens = jnp.concatenate([normal(29, 1, WIDTH), A.reshape(-1, WIDTH)])[None]

    def whole_block(x):
        x = x + attention(layer_norm(x))
        return x + mlp(layer_norm(x), jax.nn.gelu)

    return classify(layer_norm(jax.vmap(whole_block)(tokens))[:, 0][0])


def pooled_by_attention(A):
    """A query that is a parameter, as in attention pooling."""
    scores = jnp.einsum("hc,khc->hk", normal(29, HEADS, 3), A.reshape(-1, HEADS, 3))
    return classify(jnp.einsum("hk,khc->hc", jax.nn.softmax(scores), jnp.tanh(A).reshape(-1, HEADS, 3)).ravel())


def queried_by_the_mean(A):
    """CLIP's attention pooling: the mean of all tokens is a token in front of them, and the query."""
    x = jnp.concatenate([A.mean(0, keepdims=True), A]) + normal(29, TOKENS + 1, WIDTH)
    return classify(attention(x)[0])


def one_query(A):
    """Nothing but the attention."""
    return jnp.tanh(attention(jnp.concatenate([normal(29, 1, WIDTH), A]))[0]).sum()


HEADS_OF_ONE_TOKEN = {
    "one query": (SHAPE, one_query),
    "class token first": (SHAPE, first),
    "class token last": (SHAPE, last),
    "registers": (SHAPE, with_registers),
    "behind norm1": (SHAPE, behind_the_norm),
    "a batch axis": ((3, 3, WIDTH), with_a_batch_axis),
    "three dense layers, softmax by hand": (
        SHAPE, functools.partial(first, attend=functools.partial(attention, qkv=three_dense, softmax=softmax_by_hand)),
    ),
    "split": (SHAPE, functools.partial(first, attend=functools.partial(attention, qkv=split_qkv))),
    "relu, which has a rule of its own": (SHAPE, functools.partial(first, activation=jax.nn.relu)),
    "softplus": (SHAPE, functools.partial(first, activation=jax.nn.softplus)),
    "jax.nn.dot_product_attention": (SHAPE, functools.partial(first, attend=dot_product_attention)),
    "nnx.MultiHeadAttention": (SHAPE, functools.partial(first, attend=nnx_attention)),
    "linen.MultiHeadDotProductAttention": (SHAPE, functools.partial(first, attend=linen_attention)),
    "attention pooling": (SHAPE, pooled_by_attention),
    "queried by the mean": (SHAPE, queried_by_the_mean),
}  # fmt: skip
# The class token is a part of A: it is pushed by itself.
WITH_THE_CLASS_TOKEN = {
    "class token first": lambda A: classify(block(A)[0]),
    "class token last": lambda A: classify(block(A)[-1]),
    "class token between": lambda A: classify(block(A)[4]),
}
OTHERS = {
    "mean of the tokens": lambda A: classify(block(A).mean(0)),
    "two blocks": lambda A: classify(block(block(jnp.concatenate([normal(29, 1, WIDTH), A])))[0]),
    "a softmax with another rule": lambda A: first(A, attend=functools.partial(attention, softmax=ruled_softmax)),
}


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def ruled_softmax(x, axis):
    exponentials = jnp.exp(x - jnp.max(x, axis, initial=-jnp.inf, keepdims=True))
    return exponentials / jnp.sum(exponentials, axis, keepdims=True)


@ruled_softmax.defjvp
def _(axis, primals, tangents):
    (x,), (direction,) = primals, tangents
    y = ruled_softmax(x, axis)
    return y, 2 * y * (direction - (y * direction).sum(axis, keepdims=True))


def plan_of(f, shape):
    return choose_plan(_program.trace(f, normal(0, *shape)))


@pytest.mark.parametrize("name", HEADS_OF_ONE_TOKEN)
def test_the_tokens_of_a_channel_share_a_direction(name):
    shape, f = HEADS_OF_ONE_TOKEN[name]
    plan = plan_of(f, shape)
    assert plan.shared_local is not None and plan.directions == WIDTH and plan.rest is None


@pytest.mark.parametrize("name", WITH_THE_CLASS_TOKEN)
def test_the_directions_of_the_class_token_are_pushed_by_themselves(name):
    f = WITH_THE_CLASS_TOKEN[name]
    plan = plan_of(f, SHAPE)
    assert plan.shared_local is not None and plan.shared_local.excluded.sum() == 1
    assert plan.all_directions == exact_cost(f, normal(0, *SHAPE)).directions == 2 * WIDTH


@pytest.mark.parametrize("name", OTHERS)
def test_other_heads_are_pushed_by_themselves(name):
    assert plan_of(OTHERS[name], SHAPE).shared_local is None


def assert_brute_force(f, A, **options):
    both = jax.jit(lambda A: (exact(f, A, **options), brute_force(f, A)), compiler_options=COMPILED_QUICKLY)
    result, expected = both(A)
    assert jnp.abs(expected.u2).max() > 1e-6 and jnp.abs(expected.u3).max() > 1e-6
    assert_close(result, expected)


QUICK = ("one query",)
LONG = ("a batch axis", "registers", "relu, which has a rule of its own", "queried by the mean")


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.long) for name in LONG)])
def test_the_derivatives_are_brute_force(name, x64):
    shape, f = HEADS_OF_ONE_TOKEN[name]
    assert_brute_force(f, normal(0, *shape), batch_size=4)


@pytest.mark.long
def test_the_derivatives_of_a_class_token_in_A_are_brute_force(x64):
    assert_brute_force(WITH_THE_CLASS_TOKEN["class token between"], normal(0, *SHAPE))


@pytest.mark.long
@pytest.mark.parametrize("rows", ["drawn", "one block of rows", "none"])
def test_rows_that_the_mask_leaves_out_are_skipped(rows, x64, monkeypatch):
    """Behind the sums the rows are pushed in blocks, and blocks without an element of the mask are not."""
    monkeypatch.setattr(_push_rows, "ROWS_AT_A_TIME", 4)
    A = normal(0, *SHAPE)
    masks = {
        "drawn": normal(1, *SHAPE) > 0.4,
        "one block of rows": jnp.zeros(SHAPE, bool).at[4].set(True),
        "none": jnp.zeros(SHAPE, bool),
    }
    both = jax.jit(
        lambda A: (exact(first, A, where=masks[rows]), brute_force(first, A)), compiler_options=COMPILED_QUICKLY
    )
    result, expected = both(A)
    kept = [jnp.where(masks[rows], u, 0) for u in expected[2:]]
    assert_close(result, expected._replace(u2=kept[0], u3=kept[1]))


@pytest.mark.long
def test_many_activations_and_a_mask_of_the_gradient(x64):
    """Under vmap, with the mask that Grad-CAM++ takes."""
    A = jnp.stack([normal(0, *SHAPE), normal(3, *SHAPE)])

    def weighted(A, derivatives):
        _, u1, u2, u3 = derivatives(A)
        return (jnp.where(u1 > 0, u2 + 2 * u3, 0)).sum()

    ways = [lambda A: exact(first, A, where=lambda u1: u1 > 0), lambda A: brute_force(first, A)]
    ours, expected = (
        jax.jit(jax.vmap(lambda A, way=way: weighted(A, way)), compiler_options=COMPILED_QUICKLY)(A) for way in ways
    )
    np.testing.assert_allclose(ours, expected, rtol=1e-9)
