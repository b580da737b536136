"""Eight devices give what one gives: by the noise's samples, and inside a shard_map of the user's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

import jaxcam
from jaxcam.perturbations import noise

KEY = jax.random.key(5)


def mesh(shape, names, types=None):
    devices = np.array(jax.devices()[: np.prod(shape)]).reshape(shape)
    return Mesh(devices, names, axis_types=types and (types,) * len(names))


def derivatives_over_noise(cut, image, target, *, mesh=None, n_samples=5, batch_size=1):
    """What Smooth Grad-CAM++ averages."""

    def Y(x, A):
        head = lambda A: cut.head(cut.params, A, x)
        return jaxcam.derivatives.through_link(jaxcam.derivatives.closed_form(head, A, target=target), link="exp")

    return noise.mean_over_noise(
        lambda x: cut.features(cut.params, x),
        Y, image, KEY, n_samples=n_samples, std=0.3, batch_size=batch_size, mesh=mesh,
    )  # fmt: skip


def test_samples_divided_over_devices(cut, image):
    """Five samples: three of the eight devices have none of their own.

    One at a time on both sides: dense layers sum in another order for another batch, which moves e^u by |u| eps.
    """
    over = functools.partial(jax.jit(derivatives_over_noise, static_argnames="mesh"), cut, jnp.asarray(image), 3)
    (scale, one), (their_scale, many) = over(), over(mesh=mesh((8,), ("data",)))
    assert scale == their_scale
    for a, b in zip(one, many, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-6 * np.abs(a).max())


@pytest.mark.parametrize("n_samples", [1, pytest.param(21, marks=pytest.mark.long)])
def test_a_sample_too_many_counts_for_nothing(x64, n_samples):
    """Against a loop, with weights as far apart as e^600, and the gradient through image and closure with it."""
    image = jnp.linspace(0.0, 1.0, 6)

    def mean(image, width, mesh):
        return noise.mean_over_noise(
            lambda x: width * x**2, lambda x, A: (300 * x.sum(), {"A": A}), image, KEY,
            n_samples=n_samples, std=0.3, batch_size=2, mesh=mesh,
        )  # fmt: skip

    eight = mesh((8,), ("data",))
    scale, values = mean(image, 2.0, eight)
    copies = np.array([noise.noisy(image, KEY, m, std=0.3) for m in range(n_samples)])
    scales = 300 * copies.sum(-1)
    wanted = (np.exp(scales - scales.max())[:, None] * 2 * copies**2).sum(0) / n_samples
    np.testing.assert_allclose(scale, scales.max(), rtol=1e-12)
    np.testing.assert_allclose(values["A"], wanted, rtol=1e-11)
    gradient = jax.grad(lambda image, width, mesh: mean(image, width, mesh)[1]["A"].sum(), argnums=(0, 1))
    for a, b in zip(gradient(image, 2.0, None), gradient(image, 2.0, eight), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-8, atol=1e-8 * np.abs(a).max())


@pytest.mark.parametrize(
    "devices",
    [lambda: mesh((3,), ("x",)), lambda: mesh((4, 2), ("rows", "columns"), AxisType.Explicit)],
    ids=["three", "four by two, Explicit"],
)
def test_any_mesh(devices):
    image = jnp.linspace(0.0, 1.0, 6)
    one, many = (
        noise.mean_over_noise(jnp.sin, lambda x, A: (x.sum(), A), image, KEY, n_samples=7, std=0.3, mesh=each)
        for each in (None, devices())
    )
    np.testing.assert_allclose(many[1], one[1], rtol=2e-6)


def dense(activation):
    """A cut whose head pools, flattens and is smooth: all that exact derivatives go through."""
    rng = np.random.default_rng(1)
    shapes = {"kernel": (3, 4), "hidden": (16, 6), "classes": (6, 5)}
    params = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}

    def head(params, A, x):
        pooled = A.reshape(2, 2, 2, 2, 4).max((1, 3))
        return activation(pooled.ravel() @ params["hidden"]) @ params["classes"]

    return jaxcam.Cut(params, lambda params, x: jnp.maximum(x @ params["kernel"], 0), head)


def flax_model():
    from flax import nnx

    rngs = nnx.Rngs(0)
    layers = [nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.BatchNorm(4, rngs=rngs), nnx.gelu, lambda x: x.mean((1, 2))]
    return jaxcam.cut(nnx.Sequential(*layers, nnx.Linear(4, 5, rngs=rngs)), "layers/0")


ANY = lambda outputs, target: jnp.tanh(outputs[target])
IN_A_SHARD_MAP = {
    "Grad-CAM of a Flax model": (flax_model, jaxcam.grad_cam),
    "softmax moments": (
        lambda: dense(jax.nn.relu),
        functools.partial(jaxcam.grad_cam_pp, score=jaxcam.scores.log_softmax),
    ),
    "columns": (lambda: dense(jax.nn.relu), functools.partial(jaxcam.grad_cam_pp, score=ANY)),
    "Taylor coefficients": (lambda: dense(jax.nn.gelu), jaxcam.grad_cam_pp),
    "noise": (lambda: dense(jax.nn.relu), lambda *some: jaxcam.smooth_grad_cam_pp(*some, KEY, batch_size=2)),
    "brute force": (
        lambda: dense(jax.nn.gelu),
        lambda cut, image, target: jaxcam.derivatives.brute_force(
            lambda A: cut.head(cut.params, A, image)[1], cut.features(cut.params, image)
        ).u2,
    ),
}  # fmt: skip


LONG = ("noise", "Taylor coefficients")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name in LONG)) for name in IN_A_SHARD_MAP]
)
def test_inside_a_shard_map_of_the_users(name):
    """With default options, and with types that say what differs from device to device.

    The values are compared in float64. In float32 the rounding of a map is eps times a factor that grows without bound
    where alpha = Y2 / (2 Y2 + S Y3) is near a pole, and two programs that sum in different orders differ by that much.
    Held against float64, the 16 maps of the "softmax moments" are off by up to 240 eps of their maximum (one of them
    moves by 2200 eps if each parameter and each pixel moves by one eps), and those of the "Taylor coefficients" by up
    to 2.4e5 eps: one map has a maximum of 110, others of 0.4. Brute force is as far off. Rounding is proportional to
    eps, so in float64 the largest factor is 2.4e5 * 2.2e-16 = 5e-11 of a map's maximum. The bound is 20 times that.
    """
    make, method = IN_A_SHARD_MAP[name]
    images = np.random.default_rng(0).uniform(0, 1, (16, 4, 4, 3))
    P = jax.sharding.PartitionSpec

    def explain(cut, images):
        return jax.vmap(lambda image: method(cut, image, None))(images)

    divided = jax.shard_map(explain, mesh=mesh((8,), ("data",)), in_specs=(P(), P("data")), out_specs=P("data"))
    assert jax.eval_shape(divided, make(), images.astype(np.float32)).dtype == jnp.float32
    with jax.enable_x64(True):
        cut = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), make())
        of_eight, of_one = (np.asarray(jax.jit(maps)(cut, images)) for maps in (divided, explain))
    assert of_one.dtype == np.float64
    maximum = np.abs(of_one).max(tuple(range(1, of_one.ndim)), keepdims=True)
    scale = np.where(maximum > 0, maximum, 1)
    np.testing.assert_allclose(of_eight / scale, of_one / scale, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", [jaxcam.grad_cam, jaxcam.grad_cam_pp])
def test_weights_on_explicit_axes(method):
    """The classifier's hidden layer divided over two devices, in its type."""
    from flax import nnx

    rngs = nnx.Rngs(0)
    layers = [nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.relu, lambda x: x.mean((1, 2)), nnx.Linear(4, 6, rngs=rngs)]
    cut = jaxcam.cut(nnx.Sequential(*layers, nnx.gelu, nnx.Linear(6, 5, rngs=rngs)), "layers/0")
    image = np.random.default_rng(0).uniform(0, 1, (6, 6, 3)).astype(np.float32)
    wanted = method(cut, image, 2)
    two = mesh((2,), ("model",), AxisType.Explicit)

    def placed(leaf):
        spec = ("model",) if leaf.shape == (6,) else (None, "model") if leaf.shape == (4, 6) else ()
        return jax.device_put(leaf, jax.sharding.NamedSharding(two, jax.sharding.PartitionSpec(*spec)))

    divided = jax.tree.map(placed, cut)
    with jax.set_mesh(two):
        np.testing.assert_allclose(method(divided, image, 2), wanted, rtol=0, atol=1e-6 * wanted.max())


@pytest.mark.long
def test_maps_of_eight_devices_are_those_of_one(cut, image):
    """Divided by the batch, and by the noise's samples."""
    method = functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=3, batch_size=1)
    images = np.stack([image * share for share in np.linspace(0.5, 1, 10)]).astype(np.float32)
    eight = mesh((8,), ("data",))
    one, many = (jaxcam.explain_batch(method, cut, images, 3, KEY, mesh=each).maps for each in (None, eight))
    assert len(many) == 10
    for name in one:
        np.testing.assert_allclose(many[name], one[name], rtol=0, atol=1e-6 * one[name].max())
    one, many = (method(cut, image, 3, KEY, n_samples=10, mesh=each) for each in (None, eight))
    np.testing.assert_allclose(many, one, rtol=0, atol=1e-6 * float(one.max()))
