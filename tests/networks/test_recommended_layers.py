"""Small networks of each architecture: Grad-CAM at the recommended layer is the one that jax.grad alone gives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam.networks import ConvNeXt, EfficientNet, MobileNetV2, ResNet, ViT
from jaxcam.networks.efficientnet import Stage
from jaxcam.pretrained._arrays import parameters_by_name

STAGES = (Stage(1, 3, 1, 8, 1), Stage(6, 5, 2, 8, 2), Stage(6, 3, 2, 12, 1))
SHAPE = (40, 56, 3)
# How each is built, its recommended layer and the module there, and the shape of its map.
NETWORKS = {
    "basic": (functools.partial(ResNet, block="basic", depths=(1, 2), width=8), "layer2", lambda m: m.layer2, (5, 7)),
    "bottleneck": (
        functools.partial(ResNet, block="bottleneck", depths=(1, 2), width=8), "layer2", lambda m: m.layer2, (5, 7)
    ),
    "MobileNetV2": (
        functools.partial(MobileNetV2, stages=STAGES, stem=8, head=24), "bn2", lambda m: m.bn2, (5, 7)
    ),
    "EfficientNet": (
        functools.partial(EfficientNet, stages=STAGES, stem=8, head=24), "bn2", lambda m: m.bn2, (5, 7)
    ),
    "ConvNeXt": (
        functools.partial(ConvNeXt, depths=(1, 1), widths=(8, 16)), "stages/1", lambda m: m.stages[1], (5, 7)
    ),
    "ViT": (functools.partial(ViT, patch=8, width=12, depth=2, heads=3), "blocks/0", lambda m: m.blocks[0], (5, 7)),
}  # fmt: skip


def built(name):
    """A network with random parameters and statistics, none of them zero or one."""
    build = functools.partial(NETWORKS[name][0], classes=5, image_shape=SHAPE)
    shapes = nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(1)
    arrays = {}
    for path, leaf in parameters_by_name(shapes).items():
        noise = rng.normal(size=leaf.shape)
        about_one = path.endswith(("scale", "var", "gamma"))
        spread = (2 / np.prod(leaf.shape[:-1])) ** 0.5 if path.endswith("kernel") else 0.2
        arrays[path] = 1 + 0.2 * np.clip(noise, -2, 2) if about_one else spread * noise
    return jaxcam.pretrained.from_arrays(lambda: build(rngs=nnx.Rngs(0)), arrays)


def plain_grad_cams(model, module, image, spatial, monkeypatch):
    """Grad-CAM of every class, by the gradient in what is added to the module's value; of tokens, the last h * w."""
    call = type(module).__call__

    def logits(delta):
        activations = []

        def added(self, x, *args):
            value = call(self, x, *args)
            if self is not module:
                return value
            activations.append(value)
            return value + delta

        with monkeypatch.context() as patched:
            patched.setattr(type(module), "__call__", added)
            outputs = model(image[None])[0]
        (activation,) = activations
        return outputs, activation

    shape = jax.eval_shape(logits, 0.0)[1].shape
    gradients, A = jax.jit(jax.jacrev(logits, has_aux=True))(jnp.zeros(shape))
    patches, channels = slice(-spatial[0] * spatial[1], None), shape[-1]
    A = np.asarray(A, np.float64).reshape(-1, channels)[patches]
    gradients = np.asarray(gradients, np.float64).reshape(len(gradients), -1, channels)[:, patches]
    maps = np.einsum("ck,nk->cn", gradients.mean(1), A)
    return np.maximum(maps, 0).reshape(-1, *spatial)


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_grad_cam_at_the_recommended_layer(name, monkeypatch):
    _, layer, module, spatial = NETWORKS[name]
    model = built(name)
    image = jnp.asarray(np.random.default_rng(0).random(SHAPE, np.float32))
    cut = jaxcam.cut(model)
    assert cut.layer == layer
    expected = plain_grad_cams(model, module(model), image, spatial, monkeypatch)
    target = int(expected.max((1, 2)).argmax())
    saliency = jaxcam.grad_cam(cut, image, target)
    assert expected[target].max() > 0 and saliency.shape == spatial
    np.testing.assert_allclose(saliency, expected[target], rtol=0, atol=1e-5 * expected[target].max())
    exact = name in ("basic", "bottleneck", "MobileNetV2")  # elsewhere it takes long to compile
    saliency = jaxcam.grad_cam_pp(cut, image, target, derivatives="exact" if exact else "closed_form")
    assert np.isfinite(saliency).all() and saliency.max() > 0
