"""ViT-B/16 as published, in NNX: what the benchmarks run on. By its arguments also a small one."""

import jax
import jax.numpy as jnp
from flax import nnx


class Block(nnx.Module):
    """Attention and two dense layers, each behind a layer norm and added to the tokens."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs)
        self.expand = nnx.Linear(width, 4 * width, rngs=rngs)
        self.contract = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Tokens [b n width] to tokens."""
        x = x + self.attention(self.norm1(x))
        return x + self.contract(nnx.gelu(self.expand(self.norm2(x)), approximate=False))


class ViT(nnx.Module):
    """Images [b side side 3] to logits [b classes], from a class token behind the last block."""

    def __init__(
        self,
        *,
        side: int = 224,
        patch: int = 16,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        classes: int = 1000,
        rngs: nnx.Rngs,
    ):
        self.embed = nnx.Conv(3, width, (patch, patch), strides=patch, padding="VALID", rngs=rngs)
        tokens = (side // patch) ** 2 + 1
        self.class_token = nnx.Param(jnp.zeros([1, 1, width]))
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), [1, tokens, width]))
        self.blocks = nnx.List([Block(width, heads, rngs=rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs)
        self.classify = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits."""
        patches = self.embed(x)
        patches = patches.reshape(len(x), -1, patches.shape[-1])
        first = jnp.broadcast_to(self.class_token[...], (len(x), 1, patches.shape[-1]))
        tokens = jnp.concatenate([first, patches], axis=1) + self.positions[...]
        for block in self.blocks:
            tokens = block(tokens)
        return self.classify(self.norm(tokens)[:, 0])
