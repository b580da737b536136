"""The vision transformer says the grid of its tokens, and takes images of its own size alone."""

import jax
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam.networks import ViT


def image(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


def activation(cut):
    return jax.eval_shape(cut.features, cut.params, image(32, 48, 3)).shape


def test_cuts_have_the_grid_of_the_network():
    model = nnx.eval_shape(lambda: ViT(width=6, depth=2, heads=3, classes=5, image_shape=(32, 48, 3), rngs=nnx.Rngs(0)))
    cut = jaxcam.cut(model)
    assert (cut.layer, activation(cut)) == ("blocks/0", (2, 3, 6))
    assert jaxcam.describe_layers(model).recommended.note == "tokens: the network says grid=(2, 3) and prefix=1"
    assert jaxcam.layers(model)["blocks/0"] == (7, 6)
    assert activation(jaxcam.cut(model, "patch_embed/proj")) == (2, 3, 6)
    assert activation(jaxcam.cut(model, "blocks/0", grid=(7,))) == (7, 6)  # what is given comes first
    with pytest.raises(ValueError, match=r"expected images \[b 32 48 3\], got shape \(1, 32, 32, 3\)"):
        jax.eval_shape(cut.features, cut.params, image(32, 32, 3))


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"image_shape": (100, 96, 3)},
            r"expected sides that are multiples of 16, the patch, got image_shape \(100, 96",
        ),
        ({"heads": 5}, "expected a width that is a multiple of 5, the heads, got 384"),
        ({"class_names": ("a",)}, "expected 1000 class_names, one for each class, got 1"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        ViT(rngs=nnx.Rngs(0), **options)
