"""The vision transformer in Flax NNX, with timm's names.

    >>> import jax, jaxcam
    >>> model = nnx.eval_shape(lambda: ViT(depth=2, classes=10, image_shape=(64, 48, 3), rngs=nnx.Rngs(0)))
    >>> shapes = jaxcam.layers(model)
    >>> shapes["patch_embed"], shapes["blocks/1"], shapes["head"]
    ((12, 384), (13, 384), (10,))

Tokens are `[1 + patches, width]`: the class token, and the patches row by row. A cut leaves the class token out and has
the patches in their grid. Behind the last attention the class token alone counts, and the map is zero. So the last
useful block is the one before the last:

    >>> cut = jaxcam.cut(model, "blocks/0")
    >>> jax.eval_shape(cut.features, cut.params, jax.numpy.ones(model.image_shape)).shape
    (4, 3, 384)

Images are floats in 0..1, RGB, `[b h w 3]`.

Dosovitskiy et al., "An image is worth 16x16 words: transformers for image recognition at scale", ICLR 2021, Table 1;
ViT-S is Touvron et al., "Training data-efficient image transformers & distillation through attention", ICML 2021.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxcam.cutting import ImageNetwork
from jaxcam.networks._parts import Activation, Mlp, checked_class_names, conv, layer_norm


def minus_one_to_one(image: jax.Array) -> jax.Array:
    """RGB in 0..1 to -1..1: what the published weights expect."""
    return 2 * image - 1


class PatchEmbed(nnx.Module):
    """A linear projection of each patch, `[b h w 3] -> [b patches width]`."""

    def __init__(self, patch: int, width: int, **init: Any):
        self.proj = conv(3, width, patch, stride=patch, padding=0, bias=True, **init)

    def __call__(self, image: jax.Array) -> jax.Array:
        """The tokens, row by row."""
        x = self.proj(image)
        return x.reshape(x.shape[0], -1, x.shape[-1])


class Attention(nnx.Module):
    """Self-attention: softmax(Q K' / sqrt(width / heads)) V for each head, and a linear layer."""

    def __init__(self, width: int, heads: int, **init: Any):
        self.qkv = nnx.Linear(width, 3 * width, **init)
        self.proj = nnx.Linear(width, width, **init)
        self.heads = heads

    def __call__(self, x: jax.Array) -> jax.Array:
        """The next tokens, `[b tokens width]`."""
        batch, tokens, width = x.shape
        size = width // self.heads
        q, k, v = jnp.moveaxis(self.qkv(x).reshape(batch, tokens, 3, self.heads, size), 2, 0)
        attention = jax.nn.softmax(jnp.einsum("bqhc,bkhc->bhqk", q, k) / size**0.5, axis=-1)
        return self.proj(jnp.einsum("bhqk,bkhc->bqhc", attention, v).reshape(batch, tokens, width))


class Block(nnx.Module):
    """x + attention(norm1(x)), and then x + MLP(norm2(x))."""

    def __init__(self, width: int, heads: int, **init: Any):
        self.norm1 = layer_norm(width, **init)
        self.attn = Attention(width, heads, **init)
        self.norm2 = layer_norm(width, **init)
        self.mlp = Mlp(width, 4 * width, **init)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The next tokens, `[b tokens width]`."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nnx.Module, ImageNetwork):
    """A vision transformer with a class token and learned position embeddings.

    Args:
      patch: the side of a patch in pixels.
      width: the channels of a token; ViT-S's by default.
      depth: the number of blocks.
      heads: the attention heads of a block.
      classes: the number of outputs, which are logits.
      image_shape: `(h, w, 3)` of one image. The network takes this size alone, as its position embeddings say.
      preprocess: applied to the image first, `[b h w 3] -> [b h w 3]`; None for nothing.
      class_names: one for each output, in the order of the classes; None if they are not known.
      kernel_init: draws the kernels; normal with a standard deviation of 0.02, truncated, by default.
      rngs: where the initial parameters come from.

    Attributes:
      grid: the rows and columns of patches.
      prefix: the number of tokens in front of them, which is 1.

    Raises:
      ValueError: a side of the image is not a multiple of `patch`; `width` is not a multiple of `heads`; `class_names`
        that are not one for each class.
    """

    def __init__(
        self,
        *,
        patch: int = 16,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        classes: int = 1000,
        image_shape: tuple[int, int, int] = (224, 224, 3),
        preprocess: Activation | None = minus_one_to_one,
        class_names: Sequence[str] | None = None,
        kernel_init: nnx.Initializer = nnx.initializers.truncated_normal(0.02),  # noqa: B008
        rngs: nnx.Rngs,
    ):
        height, width_in_pixels, _ = image_shape
        if height % patch or width_in_pixels % patch:
            raise ValueError(f"expected sides that are multiples of {patch}, the patch, got image_shape {image_shape}")
        if width % heads:
            raise ValueError(f"expected a width that is a multiple of {heads}, the heads, got {width}")
        self.image_shape = tuple(image_shape)
        self.grid, self.prefix = (height // patch, width_in_pixels // patch), 1
        self.preprocess = preprocess
        self.class_names = checked_class_names(class_names, classes)
        init: dict[str, Any] = {"kernel_init": kernel_init, "rngs": rngs}
        self.patch_embed = PatchEmbed(patch, width, **init)
        tokens = self.prefix + self.grid[0] * self.grid[1]
        self.cls_token = nnx.Param(kernel_init(rngs.params(), (1, 1, width), jnp.float32))
        self.pos_embed = nnx.Param(kernel_init(rngs.params(), (1, tokens, width), jnp.float32))
        self.blocks = nnx.List([Block(width, heads, **init) for _ in range(depth)])
        self.norm = layer_norm(width, **init)
        self.head = nnx.Linear(width, classes, **init)

    def __call__(self, image: jax.Array) -> jax.Array:
        """Logits `[b classes]` of the images `[b h w 3]`, floats in 0..1.

        Raises:
          ValueError: images of another size than the position embeddings are for.
        """
        if image.shape[1:] != self.image_shape:
            raise ValueError(f"expected images [b {' '.join(map(str, self.image_shape))}], got shape {image.shape}")
        x = self.patch_embed(image if self.preprocess is None else self.preprocess(image))
        token = jnp.broadcast_to(self.cls_token[...], (len(x), *self.cls_token.shape[1:]))
        x = jnp.concatenate([token, x], axis=1) + self.pos_embed[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])
