"""The certificate: right on what networks are made of, and never given to a smooth function."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam import certify
from jaxcam.derivatives._program import Level

A = jax.random.normal(jax.random.key(0), (4, 4, 8))
W = jax.random.normal(jax.random.key(1), (8, 8))
# softmax-like ones are over the channels, as they are used.
PIECEWISE = {"relu", "relu6", "leaky_relu", "hard_tanh", "hard_sigmoid", "sparse_sigmoid", "identity"}
SMOOTH = set(
    "sigmoid softplus sparse_plus log_sigmoid silu swish mish soft_sign elu celu selu gelu squareplus glu softmax "
    "log_softmax logsumexp standardize hard_swish hard_silu tanh".split()
)


def activations(module):
    """Every function of a module that takes one array and no other argument to an array."""
    functions = {}
    for name in sorted(set(dir(module))):
        f = getattr(module, name)
        if name.startswith(("_", "get_")) or not callable(f) or inspect.isclass(f):
            continue
        try:
            required = [p for p in inspect.signature(f).parameters.values() if p.default is p.empty]
        except ValueError:
            continue
        if len(required) == 1 and name in PIECEWISE | SMOOTH or (module is jax.nn and len(required) == 1):
            functions[name] = f
    return functions


def largest_second_derivative(f, x):
    """Along random directions, in float64: zero for piecewise affine functions."""
    with jax.enable_x64(True):
        x = jnp.asarray(np.asarray(x), jnp.float64)
        directions = jax.random.normal(jax.random.key(9), (4, *x.shape), jnp.float64)

        def second(v):
            g = lambda t: jnp.asarray(f(x + t * v), jnp.float64)
            d = lambda g: lambda t: jax.jvp(g, (t,), (1.0,))[1]
            return jnp.abs(d(d(g))(0.0)).max()

        return float(max(second(v) for v in directions))


@pytest.mark.parametrize("name", sorted(activations(jax.nn)))
def test_every_activation_of_jax_nn(name):
    f = activations(jax.nn)[name]
    assert certify(f, A).affine == (largest_second_derivative(f, 3 * A) == 0)
    if name in PIECEWISE | SMOOTH:
        assert certify(f, A).affine == (name in PIECEWISE)


@pytest.mark.parametrize("name", sorted(activations(nnx)))
def test_every_activation_of_nnx(name):
    assert certify(activations(nnx)[name], A).affine == (name in PIECEWISE)


def average_pool(A):
    with jax.numpy_dtype_promotion("standard"):  # flax divides by an integer
        return nnx.avg_pool(A[None], (3, 3), (2, 2))


def nnx_layers():
    keys = nnx.Rngs(0)
    return {
        "Linear": (nnx.Linear(8, 3, rngs=keys), Level.AFFINE),
        "Conv": (nnx.Conv(8, 3, (3, 3), rngs=keys), Level.AFFINE),
        "ConvTranspose": (nnx.ConvTranspose(8, 3, (3, 3), rngs=keys), Level.AFFINE),
        "LinearGeneral": (nnx.LinearGeneral(8, (2, 3), rngs=keys), Level.AFFINE),
        "Einsum": (nnx.Einsum("hwk,kc->hwc", (8, 3), rngs=keys), Level.AFFINE),
        "PReLU": (nnx.PReLU(), Level.PIECEWISE),
        "Dropout": (nnx.Dropout(0.5, deterministic=True), Level.AFFINE),
        "BatchNorm": (nnx.BatchNorm(8, use_running_average=True, rngs=keys), Level.AFFINE),
        "LayerNorm": (nnx.LayerNorm(8, rngs=keys), Level.SMOOTH),
        "RMSNorm": (nnx.RMSNorm(8, rngs=keys), Level.SMOOTH),
        "GroupNorm": (nnx.GroupNorm(8, num_groups=2, rngs=keys), Level.SMOOTH),
        "InstanceNorm": (nnx.InstanceNorm(8, rngs=keys), Level.SMOOTH),
        "attention": (nnx.MultiHeadAttention(2, 8, decode=False, rngs=keys), Level.SMOOTH),
        "max_pool": (lambda A: nnx.max_pool(A[None], (3, 3), (2, 2)), Level.PIECEWISE),
        "min_pool": (lambda A: nnx.min_pool(A[None], (2, 2), (2, 2)), Level.PIECEWISE),
        "avg_pool": (average_pool, Level.AFFINE),
    }


@pytest.mark.parametrize("name", nnx_layers())
def test_every_pooling_and_norm(name):
    f, level = nnx_layers()[name]
    assert certify(f, A).level == level


@jax.custom_jvp
def straight_through(x):
    return jnp.round(x)


straight_through.defjvp(lambda primals, tangents: (straight_through(*primals), tangents[0]))


@jax.custom_jvp
def surrogate(x):
    return (x > 0).astype(x.dtype)


surrogate.defjvp(lambda primals, tangents: (surrogate(*primals), tangents[0] / (1 + primals[0] ** 2)))


@jax.custom_vjp
def guided(x):
    return jax.nn.relu(x)


guided.defvjp(lambda x: (guided(x), x > 0), lambda alive, g: (jnp.where(alive, jax.nn.relu(g), 0),))


@jax.custom_vjp
def surrogate_vjp(x):
    return (x > 0).astype(x.dtype)


surrogate_vjp.defvjp(lambda x: (surrogate_vjp(x), x), lambda x, g: (g * jax.nn.sigmoid(x),))


@jax.custom_vjp
def straight_through_vjp(x):
    return jnp.round(x)


straight_through_vjp.defvjp(lambda x: (straight_through_vjp(x), None), lambda _, g: (g,))


@jax.custom_vjp
def regularised(x):
    """The identity, with a pull towards zero in the gradient alone."""
    return x


regularised.defvjp(lambda x: (x, x), lambda x, g: (g + 0.1 * x,))


@jax.custom_jvp
def read_by_its_rule(x, y):
    """x, with a tangent in y as well."""
    return x


read_by_its_rule.defjvp(lambda primals, tangents: (primals[0], tangents[0] + tangents[1]))


@jax.custom_vjp
def read_by_its_rule_vjp(x, y):
    return x


read_by_its_rule_vjp.defvjp(lambda x, y: (x, None), lambda _, g: (g, g))


@jax.custom_vjp
def zero_with_a_slope(x):
    return jnp.zeros_like(x)


zero_with_a_slope.defvjp(lambda x: (jnp.zeros_like(x), None), lambda _, g: (g,))


def read_by_a_rule_in_a_scan(A):
    return jax.lax.scan(lambda c, x: (read_by_its_rule_vjp(c, jnp.exp(x)), None), A[0], A)[0]


def squares_under_scan(A):
    return jax.lax.scan(lambda c, x: (c * x, None), A[0, 0], A.reshape(16, 8))[0]


def through_its_bits(A):
    return jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(A, jnp.int32) // 2, jnp.float32)


def written_to_a_ref(A):
    ref = jax.new_ref(jnp.zeros_like(A))
    ref[...] = A**2
    return ref[...]


COMPOSITES = {
    "relu net": (lambda A: jax.nn.relu(A @ W) @ W, True),
    "residual": (lambda A: jax.nn.relu(A + jax.nn.relu(A @ W)), True),
    "maxout": (lambda A: jnp.maximum(A @ W, A), True),
    "top k": (lambda A: jax.lax.top_k(A, 3)[0], True),
    "median": (lambda A: jnp.median(A, axis=-1), True),
    "absolute": (lambda A: jnp.abs(A).mean(), True),
    "gated by a mask": (lambda A: A * (A > 0.1).astype(A.dtype), True),
    "at the argmax": (lambda A: A.ravel()[A.argmax()], True),
    "clipped": (lambda A: jnp.clip(A, -1, 1), True),
    "rounded": (lambda A: jnp.round(A), True),
    "detached": (lambda A: A * jax.lax.stop_gradient(A), True),
    "jit": (jax.jit(lambda A: jax.nn.relu(A)), True),
    "remat": (jax.checkpoint(lambda A: jax.nn.relu(A) @ W), True),
    "vmap": (jax.vmap(lambda a: jax.nn.relu(a) @ W), True),
    "cumulative": (lambda A: jnp.cumsum(A, 0) + jax.lax.cummax(A), True),
    "fft": (lambda A: jnp.fft.irfft(2 * jnp.fft.rfft(A)), True),
    "resize": (lambda A: jax.image.resize(A, (8, 8, 8), "bilinear"), True),
    "scan": (lambda A: jax.lax.scan(lambda c, x: (jax.nn.relu(c + x), None), A[0, 0], A.reshape(16, 8))[0], True),
    "cond": (lambda A: jax.lax.cond(A.sum() > 0, lambda A: 2 * A, lambda A: -A, A), True),
    "while": (lambda A: jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, 2 * c[1]), (0, A))[1], True),
    "fori": (lambda A: jax.lax.fori_loop(0, 3, lambda i, A: A @ W, A), True),
    "straight-through": (straight_through, True),
    "guided": (guided, True),
    "straight-through by vjp": (straight_through_vjp, True),
    "a branch on a smooth predicate": (
        lambda A: jax.lax.cond(jnp.tanh(A).sum() > 0, lambda A: A, lambda A: -A, A),
        True,
    ),
    "a mask of a smooth value": (lambda A: A * (jnp.tanh(A) > 0.1).astype(A.dtype), True),
    "an empty smooth part": (lambda A: A.sum() + jnp.sin(A[:0]).sum(), True),
    "a dead smooth branch": (lambda A: (jnp.exp(A), A)[1], True),
    "product": (lambda A: A * A, False),
    "gram": (lambda A: A.reshape(16, 8) @ A.reshape(16, 8).T, False),
    "quotient": (lambda A: A / (1 + jnp.abs(A)), False),
    "gated": (lambda A: A * jax.nn.relu(A @ W), False),
    "norm": (lambda A: jnp.linalg.norm(A), False),
    "magnitude": (lambda A: jnp.abs(jnp.fft.rfft(A)), False),
    "scan of products": (squares_under_scan, False),
    "fori of squares": (lambda A: jax.lax.fori_loop(0, 3, lambda i, A: A * A, A), False),
    "cond of squares": (lambda A: jax.lax.cond(A.sum() > 0, lambda A: A * A, lambda A: A, A), False),
    "while of sines": (
        lambda A: jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, A))[1],
        False,
    ),
    "remat of exp": (jax.checkpoint(jnp.exp), False),
    "surrogate gradient": (surrogate, False),
    "surrogate gradient by vjp": (surrogate_vjp, False),
    "straight-through of a smooth value": (lambda A: straight_through(jnp.exp(A)), False),
    "straight-through of a smooth value by vjp": (lambda A: straight_through_vjp(jnp.exp(A)), False),
    "a square of a straight-through by vjp": (lambda A: straight_through_vjp(A) ** 2, False),
    "a gradient with a term of its own": (regularised, False),
    "a smooth value that only a rule reads": (lambda A: read_by_its_rule(A, jnp.exp(A)), False),
    "a smooth value that only a rule reads, under jit": (jax.jit(lambda A: read_by_its_rule(A, jnp.exp(A))), False),
    "a smooth value that only a rule by vjp reads": (lambda A: read_by_its_rule_vjp(A, jnp.exp(A)), False),
    "a smooth value that only a rule by vjp reads, under jit": (
        jax.jit(lambda A: read_by_its_rule_vjp(A, jnp.exp(A))),
        False,
    ),
    "a smooth value that only a rule reads, in a scan": (read_by_a_rule_in_a_scan, False),
    "a smooth value that a constant has a slope in": (lambda A: zero_with_a_slope(jnp.exp(A)), False),
    "a piecewise affine value that only a rule reads": (lambda A: read_by_its_rule_vjp(A, jax.nn.relu(A)), True),
    "applied at an index": (lambda A: A.at[0].apply(jnp.sin), False),
    "a ref": (written_to_a_ref, False),
    "bits": (through_its_bits, True),
    "callback": (lambda A: jax.pure_callback(lambda x: x, A, A), False),
}


@pytest.mark.parametrize("name", COMPOSITES)
def test_composites(name):
    if name == "a ref" and not hasattr(jax, "new_ref"):
        pytest.skip("this jax has no refs")
    f, affine = COMPOSITES[name]
    certificate = certify(f, A)
    assert certificate.affine == affine == (not certificate.stops) == (not certificate.frontier)


UNARY = {
    "relu": jax.nn.relu,
    "abs": jnp.abs,
    "leaky": jax.nn.leaky_relu,
    "clip": lambda x: jnp.clip(x, -1, 1),
    "neg": lambda x: -x,
    "max pool": lambda x: jnp.maximum(x, jnp.roll(x, 1)),
    "sort": lambda x: jnp.sort(x),
    "mask": lambda x: x * (x > 0.3).astype(x.dtype),
    "floor": lambda x: x + jnp.floor(x),
    "dense": lambda x: x @ W.astype(x.dtype),
    "cumsum": jnp.cumsum,
    "exp": lambda x: jnp.exp(-jnp.abs(x)),
    "tanh": jnp.tanh,
    "silu": jax.nn.silu,
    "square": lambda x: x * x,
    "norm": lambda x: x / (1 + x @ x),
    "softplus": jax.nn.softplus,
    "straight": straight_through,
    "detach": lambda x: x * jax.lax.stop_gradient(x),
}
BINARY = {
    "add": jnp.add,
    "max": jnp.maximum,
    "where": lambda x, y: jnp.where(x > y, x, 2 * y),
    "mul": jnp.multiply,
    "concat": lambda x, y: jnp.concatenate([x[:4], y[4:]]),
    "dot": lambda x, y: x + (x @ y),
    "gate": lambda x, y: x * (y > 0).astype(x.dtype),
}


def random_head(rng):
    """A random program of a few unary and binary steps over a growing list of values."""
    choices = [
        (rng.choice([*UNARY, *BINARY]), int(rng.integers(100)), int(rng.integers(100)))
        for _ in range(rng.integers(2, 7))
    ]

    def head(x):
        values = [x]
        for name, i, j in choices:
            x, y = values[i % len(values)], values[-1 - j % len(values)]
            values.append(UNARY[name](x) if name in UNARY else BINARY[name](x, y))
        return values[-1].sum()

    return head, choices


def test_no_random_head_with_a_second_derivative_is_certified():
    rng = np.random.default_rng(0)
    certified = 0
    for _ in range(150):
        head, choices = random_head(rng)
        x = rng.normal(size=8)
        affine = certify(head, jnp.asarray(x, jnp.float32)).affine
        certified += affine
        if affine:
            assert largest_second_derivative(head, x) == 0, choices
    assert 20 < certified < 130  # neither side of the property is empty


def test_the_certificate_names_what_stops_it():
    model = jaxcam.vgg_digits(rngs=nnx.Rngs(0), activation=lambda x: jax.nn.gelu(x, approximate=False))
    cut = jaxcam.cut(model, "block3_conv2")
    image = jnp.zeros((64, 64, 3))
    A = jax.eval_shape(lambda x: cut.features(cut.params, x), image)
    certificate = certify(lambda A: cut.head(cut.params, A, image), A)
    assert {stop.primitive for stop in certificate.stops} <= {"erf", "erfc"} and len(certificate.stops) == 1
    assert certificate.frontier == certificate.stops[0].shapes
    softmax = certify(lambda x: jax.nn.log_softmax(x @ W)[2], jnp.ones(8))
    assert [stop.primitive for stop in softmax.stops] == ["exp"] and softmax.frontier == ((8,),)
    report = str(certify(lambda A: jax.nn.silu(A) + jax.nn.silu(A @ W), jnp.ones((2, 8))))
    assert report.splitlines() == [
        "not locally affine in A [2 8]: 2 primitives stop it",
        "  logistic of [2 8], in silu (2 times)",
        "frontier, the affine values that these read: [2 8], [2 8]",
    ]


def test_the_four_verdicts_of_an_affine_function():
    for f, text in (
        (lambda A: jnp.ones(3), "constant in A [4 4 8]"),
        (lambda A: A > 0, "locally constant in A [4 4 8]: every derivative is zero behind a comparison"),
        (lambda A: A @ W, "affine in A [4 4 8], everywhere"),
        (lambda A: jax.nn.relu(A), "locally affine in A [4 4 8]"),
    ):
        assert str(certify(f, A)) == text
    assert certify(lambda A: A @ W, A).affine_everywhere and not certify(jax.nn.relu, A).affine_everywhere


def test_it_computes_nothing():
    huge = jax.ShapeDtypeStruct((10**5, 10**5), jnp.float32)
    assert certify(lambda A: jax.nn.relu(A).sum(), huge).affine
