"""Integrated gradients: the mean gradient between a baseline and the image."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base.checks import broadcast_baseline
from jaxcam._base.numerics import at_least_float32, batch_size_or_default, even_chunks
from jaxcam._base.types import Baseline, Image, Score, Target
from jaxcam.cutting import Cut, image_axis, resolve_target
from jaxcam.formulas import scores
from jaxcam.methods._call import explanation_method
from jaxcam.methods._gradients import model_of
from jaxcam.tracing import for_loops

LINKS = {"identity": lambda u: u, "exp": jnp.exp}


@explanation_method(traced=("baseline",))
def integrated_gradients(
    cut: Cut,
    image: Image,
    target: Target = None,
    *,
    baseline: Baseline | None = None,
    steps: int = 50,
    score: Score = scores.logit,
    link: str = "identity",
    batch_size: int | None = None,
) -> jax.Array:
    """Integrated gradients: (x - b) times the mean of dY/dx on the straight line from the baseline b to x.

    They sum to Y(x) - Y(b), up to the error of the integral, which is computed by Gauss-Legendre quadrature.

    Args:
      cut: a `Cut`, at any layer.
      image: one example, floats, without a batch axis.
      target: the class; None for the one with the largest output.
      baseline: an image, a value for each channel, or one number; defaults to 0. It may be traced.
      steps: number of nodes.
      score: `(outputs, target) -> u`; see `jaxcam.scores`.
      link: Y = u for "identity", e^u for "exp", which with `scores.log_softmax` is the probability. e^u of a large
        logit overflows.
      batch_size: nodes at a time, which limits memory; defaults to 16, and to 1 on a CPU.

    Returns:
      `[*spatial c]`, signed.

    Raises:
      TypeError, ValueError: as `input_gradient`; also a ValueError if the baseline has another shape, or the link is
        not known.

    Sundararajan et al., "Axiomatic attribution for deep networks", ICML 2017, equation 1.

    Example:
      >>> import jaxcam
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> jaxcam.integrated_gradients(cut, image, baseline=0.5, steps=20).shape
      (64, 64, 3)
    """
    if link not in LINKS:
        raise ValueError(f"link is {link!r}: choose one of {', '.join(LINKS)}")
    model, x = model_of(cut), jnp.asarray(image)
    baseline = jnp.asarray(0 if baseline is None else baseline)  # a list too
    channels = image_axis(cut, x) if jnp.ndim(baseline) == 1 else cut.image_channel_axis
    start = broadcast_baseline(baseline, x, channels)
    outputs = model(x)
    target, in_range = resolve_target(outputs, target)

    def gradient_at(node):
        on_the_line = start + node.astype(x.dtype) * (x - start)
        gradient = jax.grad(lambda x: LINKS[link](score(model(x), target)))(on_the_line)
        return at_least_float32(gradient)

    mean = _weighted_sum_over_nodes(gradient_at, x, steps, batch_size)
    attribution = (at_least_float32(x - start) * mean).astype(x.dtype)
    return jnp.where(in_range & ~jnp.isnan(score(outputs, target)), attribution, jnp.nan)


def _weighted_sum_over_nodes(gradient_at, x, steps, batch_size):
    """The integral over 0..1 of `gradient_at(node)`, an array of x's shape."""
    nodes_at_a_time = even_chunks(steps, batch_size_or_default(batch_size, cpu=1, accelerator=16))
    dtype = at_least_float32(x).dtype
    nodes, weights = _nodes_and_weights(steps, padding=-steps % nodes_at_a_time)
    chunks = tuple(jnp.asarray(array, dtype).reshape(-1, nodes_at_a_time) for array in (nodes, weights))

    def add_chunk(total, chunk):
        nodes, weights = chunk
        if nodes_at_a_time == 1:
            return total + weights[0] * gradient_at(nodes[0]), None
        return total + jnp.tensordot(weights, jax.vmap(gradient_at)(nodes), 1, precision="highest"), None

    total, _ = jax.lax.scan(for_loops(add_chunk), jnp.zeros(x.shape, dtype), chunks)
    return total


def _nodes_and_weights(steps, *, padding):
    """The nodes and weights of Gauss-Legendre quadrature on 0..1, and padding with weight zero."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return np.pad((nodes + 1) / 2, (0, padding)), np.pad(weights / 2, (0, padding))
