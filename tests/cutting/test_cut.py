"""Any model comes apart at any layer: the zoo, in eval mode, against the models themselves."""

import concurrent.futures
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxcam
from tests import zoo

# A few in every run; the others, which take minutes, with `-m zoo`.
FEW = {"nnx": ("jit", "two_inputs"), "linen": ("jit",)}
FLAX = [
    pytest.param(kind, name, marks=() if name in FEW[kind] else pytest.mark.zoo)
    for kind, specimens in (("nnx", zoo.NNX), ("linen", zoo.LINEN))
    for name in specimens
]


@functools.cache
def built(kind, name):
    specimen = {"nnx": zoo.NNX, "linen": zoo.LINEN}[kind][name]
    return specimen, specimen.build()


def by_itself(model, specimen):
    """The model in eval mode by its own framework's means: `(params, call)`, call on one example."""
    inputs = specimen.inputs
    args = () if isinstance(inputs, dict) else tuple(jnp.asarray(a)[None] for a in inputs)
    kwargs = {k: jnp.asarray(a)[None] for k, a in inputs.items()} if isinstance(inputs, dict) else {}
    if isinstance(model, nnx.Module):
        evaluated = nnx.clone(model)
        evaluated.eval()
        graphdef, params = nnx.split(evaluated)
        return params, lambda params, x: first(nnx.merge(graphdef, params, copy=True)(x[None], *args, **kwargs))
    module, variables = model
    names = inspect.signature(type(module).__call__).parameters
    flags = {k: v for k, v in {"train": False, "deterministic": True}.items() if k in names}
    return variables, lambda params, x: first(module.apply(params, x[None], *args, **kwargs, **flags))


def first(tree):
    return jax.tree.map(lambda out: out[0], tree)


def images(specimen, count=2):
    return jax.random.uniform(jax.random.key(3), (count, *specimen.image_shape))


def close(found, wanted, what):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(1, float(jnp.abs(b).max())), err_msg=what)


@pytest.mark.parametrize(("kind", "name"), FLAX)
def test_it_comes_apart_at_every_layer(kind, name):
    """Features, then head, is the model; so are its first and second derivative in the input, chained through A.

    And the gradient of the head in A is, along a direction, what forward mode says. All of it under jit and vmap.
    """
    specimen, model = built(kind, name)
    params, call = by_itself(model, specimen)
    names = jaxcam.layers(model, specimen.image_shape, inputs=specimen.inputs)
    assert len(names) >= 3
    cuts = {layer: jaxcam.cut(model, layer, inputs=specimen.inputs) for layer in names}

    def along_a_line(f, x):
        direction = jnp.ones_like(x)
        return jax.jvp(lambda x: jax.jvp(f, (x,), (direction,)), (x,), (direction,))

    def whole(cut, x):
        return along_a_line(lambda x: cut.head(cut.params, cut.features(cut.params, x), x), x)

    def slopes(cut, x):
        A = cut.features(cut.params, x)

        def u(A):
            return sum(jnp.sum(jnp.sin(out)) for out in jax.tree.leaves(cut.head(cut.params, A, x)))

        return A, jnp.vdot(jax.grad(u)(A), jnp.cos(A)), jax.jvp(u, (A,), (jnp.cos(A),))[1]

    @jax.jit
    def parts(cuts, xs):
        every = {}
        for layer, cut in cuts.items():
            every[layer] = [jax.vmap(functools.partial(part, cut))(xs) for part in (whole, slopes)]
        return every

    xs = images(specimen)
    wanted = jax.jit(jax.vmap(lambda params, x: along_a_line(lambda x: call(params, x), x), (None, 0)))(params, xs)
    for layer, (found, (A, reverse, forward)) in parts(cuts, xs).items():
        close(found, wanted, layer)
        assert A.shape == (2, *names[layer])
        np.testing.assert_allclose(reverse, forward, rtol=1e-3, atol=1e-4, err_msg=layer)


@pytest.mark.parametrize(("kind", "name"), FLAX)
def test_the_model_is_left_as_it_was(kind, name):
    specimen = {"nnx": zoo.NNX, "linen": zoo.LINEN}[kind][name]
    model = specimen.build()
    state = nnx.split(model) if kind == "nnx" else (None, model[1])
    before = [np.array(jax.random.key_data(a) if key(a) else a) for a in jax.tree.leaves(state[1])]
    classes = [type(node) for _, node in nnx.iter_graph(model)] if kind == "nnx" else []
    layer = next(iter(jaxcam.layers(model, specimen.image_shape, inputs=specimen.inputs)))
    cut = jaxcam.cut(model, layer, inputs=specimen.inputs, image_shape=specimen.image_shape)
    cut.head(cut.params, cut.features(cut.params, images(specimen)[0]), images(specimen)[0])
    after = nnx.split(model) if kind == "nnx" else (None, model[1])
    assert after[0] == state[0]
    assert [type(node) for _, node in nnx.iter_graph(model)] == classes if kind == "nnx" else True
    for old, new in zip(before, jax.tree.leaves(after[1]), strict=True):
        np.testing.assert_array_equal(old, np.array(jax.random.key_data(new) if key(new) else new))


def key(array):
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)


def test_the_head_says_whether_it_reads_the_input():
    specimen, model = built("nnx", "resnet")
    for layer, reads in (("conv", False), ("stages/0/0", False), ("stages/1/0/conv1", True), ("stages/0/1/bn2", True)):
        cut = jaxcam.cut(model, layer, image_shape=specimen.image_shape)
        assert cut.reads_input is reads, layer
        x, other = images(specimen)
        A = cut.features(cut.params, x)
        gap = jnp.abs(cut.head(cut.params, A, x) - cut.head(cut.params, A, other)).max()
        assert (gap > 1e-3) == reads, layer
    assert jaxcam.cut(model, "conv").reads_input is None


def test_the_generic_cut_and_the_vgg_that_comes_apart_by_construction(image):
    """Two ways to the same halves: `after` makes the module's output the value after the relu."""

    class Wrapped(nnx.Module):
        def __init__(self):
            self.vgg = jaxcam.digits()

        def __call__(self, x):
            return self.vgg(x)

    wrapped = Wrapped()
    for layer in ("block1_conv1", "block3_conv2", "fc1"):
        own = jaxcam.cut(wrapped.vgg, layer)
        generic = jaxcam.cut(wrapped, f"vgg/{layer}", after=jax.nn.relu, image_shape=image.shape)
        assert generic.reads_input is False
        A = own.features(own.params, image)
        np.testing.assert_allclose(generic.features(generic.params, image), A, rtol=1e-5, atol=1e-5)
        outputs = own.head(own.params, 2 * A, image)  # an A of which no relu has to be taken again
        np.testing.assert_allclose(generic.head(generic.params, 2 * A, image), outputs, rtol=1e-5, atol=1e-5)
    maps = [
        jaxcam.grad_cam_pp(cut, image, 3)
        for cut in (jaxcam.cut(wrapped.vgg, "block3_conv2"), jaxcam.cut(wrapped, "vgg/block3_conv2", after=nnx.relu))
    ]
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-4, atol=1e-6)


class Net(nnx.Module):
    """A convolution, an activation that is a parameter, and a pooled head."""

    def __init__(self, activation):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(3, 6, (3, 3), rngs=rngs)
        self.act = activation
        self.fc = nnx.Linear(6, 4, rngs=rngs)

    def __call__(self, x):
        return self.fc(self.act(self.conv(x)).mean((1, 2)))


def swish_by_hand(x):
    return x * jax.nn.sigmoid(x)


@pytest.mark.parametrize(
    "activation", [jax.nn.relu, nnx.gelu, jax.nn.silu, jax.nn.leaky_relu, lambda x: jnp.maximum(x, 0), swish_by_hand]
)
def test_after_takes_any_activation(activation):
    """Even one that is not idempotent: the head does not apply it again."""
    model = Net(activation)
    x = jax.random.normal(jax.random.key(0), (8, 8, 3))
    cut = jaxcam.cut(model, "conv", after=activation, image_shape=x.shape)
    A = cut.features(cut.params, x)
    np.testing.assert_allclose(A, activation(model.conv(x[None]))[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(cut.head(cut.params, A, x), model(x[None])[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        cut.head(cut.params, 3 * A, x), model.fc(3 * A.mean((0, 1))[None])[0], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("after", [lambda h: (nnx.relu(h), h), lambda h: 0.0, lambda h: jnp.zeros((1, 8, 8, 6))])
def test_after_that_is_no_activation(after):
    with pytest.raises(ValueError, match="after") as refused:
        jaxcam.cut(Net(nnx.relu), "conv", after=after, image_shape=(8, 8, 3))
    assert "\n" not in str(refused.value)


def test_after_that_is_not_there():
    with pytest.raises(ValueError, match="after=relu is not what the model applies to the output of 'conv'.* silu"):
        jaxcam.cut(Net(jax.nn.silu), "conv", after=jax.nn.relu, image_shape=(8, 8, 3))


@pytest.mark.parametrize(
    ("kind", "name", "layer", "message"),
    [
        ("nnx", "called_twice", "refine", "layer 'refine' is called 2 times: a cut needs one call"),
        ("linen", "called_twice", "refine", "layer 'refine' is called 2 times: a cut needs one call"),
        (
            "nnx",
            "scan",
            "blocks/conv",
            "layer 'blocks/conv' is called 3 times: .* Choose blocks/conv:0, blocks/conv:1, ",
        ),
        ("linen", "scan", "blocks/Conv_0", "layer 'blocks/Conv_0' is called 3 times: a cut needs one call"),
        ("nnx", "ensemble", "members/conv", "called under vmap: it is many layers in one"),
        ("nnx", "resnet", "stages/0/7", "no layer 'stages/0/7': choose one of "),
        (
            "linen",
            "resnet",
            "stage9",
            "'stage9' is not called in eval mode, or not for the outputs: choose one of ",
        ),
    ],
)
def test_what_cannot_be_cut_says_why(kind, name, layer, message):
    specimen, model = built(kind, name)
    with pytest.raises(ValueError, match=message) as refused:
        jaxcam.cut(model, layer, image_shape=specimen.image_shape)
    assert "\n" not in str(refused.value)
    assert layer not in jaxcam.layers(model, specimen.image_shape)


def test_an_image_with_a_batch_axis_is_refused_where_the_shape_is_known():
    cut = jaxcam.cut(Net(nnx.relu), "conv", image_shape=(8, 8, 3))
    assert jaxcam.grad_cam(cut, jnp.ones((10, 6, 3))).shape == (10, 6), "other sizes are the model's own affair"
    for shape in ((1, 8, 8, 3), (8, 8), (8, 8, 4)):
        with pytest.raises(ValueError, match=r"\[8 8 3\] without a batch axis, got .*: use jax.vmap for many"):
            jaxcam.grad_cam(cut, jnp.ones(shape))


class Drawing(nnx.Module):
    def __init__(self):
        self.conv = nnx.Conv(3, 4, (1, 1), rngs=nnx.Rngs(0))
        self.rngs = nnx.Rngs(1)

    def __call__(self, x):
        return (self.conv(x) + self.rngs.normal((4,)).reshape(1, 1, 1, 4)).mean((1, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jaxcam.cut(object(), "conv"), TypeError, "object is no model that jaxcam can cut: give a flax.nnx"),
        (lambda: jaxcam.cut(nn.Dense(3), "conv"), TypeError, r"a Linen module comes with its variables: give \(Dense"),
        (lambda: jaxcam.layers(Net(nnx.relu)), ValueError, r"image_shape is needed: layers\(model, \(h, w, channels\)"),
        (
            lambda: jaxcam.layers(Net(nnx.relu), jnp.ones((2, 2, 3))),
            TypeError,
            r"expected integers \(h, w, channels\) for image_shape, got \(ArrayImpl, ArrayImpl\)",
        ),
        (
            lambda: jaxcam.cut(Net(nnx.relu), "conv", inputs=jnp.ones(3)),
            TypeError,
            r"expected a tuple \(array,\) or a dict of arguments for inputs, got ArrayImpl",
        ),
        (
            lambda: jaxcam.cut(jaxcam.digits(), "fc1", grid=(2, 2)),
            TypeError,
            "a VGG takes no grid: it cuts itself at its layers, a jaxcam.VGG after their activation",
        ),
        (lambda: jaxcam.cut(Net(nnx.relu), "conv", prefix=1), ValueError, r"prefix=1 goes with grid=\(h, w\)"),
        (
            lambda: jaxcam.cut(Net(nnx.relu), "conv", grid=(2, 2), image_shape=(8, 8, 3)),
            ValueError,
            r"expected \(4, k\) of layer 'conv' for grid=\(2, 2\) with prefix=0, got \(8, 8, 6\)",
        ),
        (
            lambda: jaxcam.cut(Drawing(), "conv", image_shape=(8, 8, 3)),
            ValueError,
            "the model draws random numbers in eval mode",
        ),
    ],
)
def test_bad_calls_get_one_line(call, error, message):
    with pytest.raises(error, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)


def test_an_error_of_the_model_says_what_it_was_called_with():
    specimen, model = built("nnx", "two_inputs")
    with pytest.raises(TypeError, match="dot_general") as refused:
        jaxcam.layers(model, specimen.image_shape, inputs=(jnp.ones((3,)),))
    note = "jaxcam called the model with [1, 32, 32, 3], [1, 3]; what it takes besides the image goes into inputs="
    assert note in refused.value.__notes__


def test_shared_modules_are_found_under_each_name():
    specimen, model = built("nnx", "two_names")
    x = images(specimen)[0]
    first, second = (jaxcam.cut(model, name) for name in ("body/conv", "body_conv"))
    np.testing.assert_array_equal(first.features(first.params, x), second.features(second.params, x))


def test_the_outputs_may_be_a_dict():
    specimen, model = built("nnx", "dict_outputs")
    layer = next(name for name, shape in jaxcam.layers(model, specimen.image_shape).items() if len(shape) == 3)
    cut = jaxcam.cut(model, layer)
    x = images(specimen)[0]
    assert set(cut.head(cut.params, cut.features(cut.params, x), x)) == {"logits", "aux"}
    saliency = jaxcam.grad_cam(cut, x, 2, score=lambda outputs, target: outputs["logits"][target])
    assert saliency.ndim == 2 and saliency.max() > 0


@pytest.mark.parametrize(("kind", "where"), [("nnx", 0), ("linen", "question")])
def test_further_inputs_are_part_of_the_cut(kind, where):
    """So another question is another cut of the same functions, and many questions are a vmap."""
    specimen, model = built(kind, "two_inputs")
    layer = next(
        name
        for name, shape in jaxcam.layers(model, specimen.image_shape, inputs=specimen.inputs).items()
        if len(shape) == 3
    )
    x = images(specimen)[0]
    questions = jax.random.normal(jax.random.key(1), (3, *np.shape(specimen.inputs[where])))

    def explain(question):
        inputs = (question,) if kind == "nnx" else {where: question}
        return jaxcam.grad_cam(jaxcam.cut(model, layer, inputs=inputs), x, 1)

    many = jax.vmap(explain)(questions)
    assert jnp.abs(many[0] - many[1]).max() > 1e-6
    for one, question in zip(many, questions, strict=True):
        np.testing.assert_allclose(one, explain(question), rtol=1e-4, atol=1e-6)
    functions = [jaxcam.cut(model, layer, inputs=specimen.inputs).head for _ in range(2)]
    assert functions[0] is functions[1]


def test_tokens_become_maps():
    """The class token stays in the head as the input makes it; the grid is what the patches are, row by row."""
    specimen, model = built("nnx", "vit")
    shapes = jaxcam.layers(model, specimen.image_shape)
    layer, (tokens, k) = next((name, shape) for name, shape in shapes.items() if len(shape) == 2)
    side = int((tokens - 1) ** 0.5)
    assert side**2 == tokens - 1
    plain = jaxcam.cut(model, layer)
    cut = jaxcam.cut(model, layer, grid=(side, side), prefix=1, image_shape=specimen.image_shape)
    x = images(specimen)[0]
    A, wanted = cut.features(cut.params, x), plain.features(plain.params, x)
    assert A.shape == (side, side, k)
    np.testing.assert_array_equal(A[1, 2], wanted[1 + side + 2])
    changed = wanted.at[1:].multiply(2)
    np.testing.assert_allclose(
        cut.head(cut.params, 2 * A, x), plain.head(plain.params, changed, x), rtol=1e-5, atol=1e-5
    )
    assert cut.reads_input
    assert jaxcam.grad_cam(cut, x).shape == (side, side)
    assert jaxcam.grad_cam(plain, x).shape == (tokens,)
    with pytest.raises(ValueError, match=rf"for grid=\({side}, {side}\) with prefix=0, got \({tokens}, {k}\)"):
        jaxcam.cut(model, layer, grid=(side, side), image_shape=specimen.image_shape)


@pytest.mark.long
def test_several_threads_cut_one_model():
    specimen, model = built("nnx", "resnet")
    names = list(jaxcam.layers(model, specimen.image_shape))
    x = images(specimen)[0]
    params, call = by_itself(model, specimen)
    wanted = call(params, x)

    def outputs(layer):
        cut = jaxcam.cut(model, layer)
        return cut.head(cut.params, cut.features(cut.params, x), x)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for found in pool.map(outputs, names[:8] * 2):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_blocks_that_are_jitted_are_told_apart_after_the_model_has_run():
    """A jitted block keeps the trace of its first call: neither it nor that of its like may stand in for ours."""
    for kind in ("nnx", "linen"):
        specimen, model = built(kind, "jit")
        x = images(specimen)[0]
        params, call = by_itself(model, specimen)
        before = call(params, x)
        names = jaxcam.layers(model, specimen.image_shape)
        one, two = [name for name in names if name.startswith("block") and "/" not in name]
        cuts = [jaxcam.cut(model, name) for name in (one, two)]
        first, second = (cut.features(cut.params, x) for cut in cuts)
        assert jnp.abs(first - second).max() > 1e-3
        assert jnp.abs(cuts[0].head(cuts[0].params, second, x) - before).max() > 1e-4
        np.testing.assert_allclose(cuts[1].head(cuts[1].params, second, x), before, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(call(params, x), before)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("nnx", "vgg"),
        pytest.param("nnx", "resnet", marks=pytest.mark.long),
        pytest.param("linen", "densenet", marks=pytest.mark.long),
        pytest.param("linen", "vit", marks=pytest.mark.long),
    ],
)
def test_dead_code_goes(kind, name):
    """The operations of the two halves, compiled apart, are those of the model; the head's alone are fewer."""
    specimen, model = built(kind, name)
    params, call = by_itself(model, specimen)
    x = images(specimen)[0]
    whole = flops(call, params, x)
    shapes = jaxcam.layers(model, specimen.image_shape)
    names = [layer for layer in shapes if not jaxcam.cut(model, layer, image_shape=x.shape).reads_input]
    for layer in (names[0], names[len(names) // 2], names[-1]):
        cut = jaxcam.cut(model, layer)
        features = flops(cut.features, cut.params, x)
        head = flops(cut.head, cut.params, jnp.zeros(shapes[layer]), x)
        assert features + head <= 1.02 * whole + 1000, layer
        assert features > 0


def flops(function, *arguments):
    """As XLA counts them in the compiled program."""
    return jax.jit(function).lower(*arguments).compile().cost_analysis().get("flops", 0)
