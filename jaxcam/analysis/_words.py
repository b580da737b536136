"""An explanation in words: names of the neurons for a class and against it, and a check that they matter."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam._base import checks
from jaxcam._base.numerics import as_floats
from jaxcam._base.targets import describe_target, jit_with_target
from jaxcam._base.types import Image, Score, Target
from jaxcam.analysis._dissect import Dissection
from jaxcam.cutting import Cut, activations, check_cut, check_target, class_or_none, for_score, resolve_target
from jaxcam.formulas import scores, weights


class Neuron(NamedTuple):
    """A channel with its name.

    Attributes:
      channel: its number in the layer.
      name: the concept that it detects.
      weight: alpha_k, the mean over space of the derivative of the score.
      iou: its overlap with the concept's masks.
    """

    channel: int
    name: str
    weight: float
    iou: float


class Words(NamedTuple):
    """What speaks for a class in an image, and what against it, in words. It prints as two lines.

    Attributes:
      target: the class that is explained, or the target as it was given if it is no class.
      important: the named neurons of the largest positive alpha_k, the most important first.
      opposing: the named neurons of the largest negative alpha_k, the most negative first.
      named_share: the share of the sum over all channels of |alpha_k| that named channels have.
    """

    target: object
    important: tuple[Neuron, ...]
    opposing: tuple[Neuron, ...]
    named_share: float

    def __str__(self) -> str:
        lines = [
            f"{direction} {describe_target(self.target)}: {_list_of(neurons)}"
            for direction, neurons in (("for", self.important), ("against", self.opposing))
        ]
        return "\n".join([*lines, f"named channels have {self.named_share:.0%} of the weight"])


class Ablation(NamedTuple):
    """What a score loses without some channels, beside as many that are drawn at random. It prints as a line.

    Attributes:
      drop: the score less the score with the chosen channels set to zero.
      random_drops: `[draws]`, the same for channels drawn at random.
      share_below: the share of the random draws with a smaller drop; ties count half.
    """

    drop: float
    random_drops: np.ndarray
    share_below: float

    def __str__(self) -> str:
        return (
            f"the score falls by {self.drop:.4g}; by {self.random_drops.mean():.4g} without as many random channels, "
            f"less than that in {self.share_below:.0%} of {len(self.random_drops)} draws"
        )


def explain_in_words(
    cut: Cut,
    image: Image,
    target: Target = None,
    *,
    dissection: Dissection,
    count: int = 5,
    score: Score = scores.logit,
) -> Words:
    """The names of the most important neurons of a class, and of those that speak against it, by Grad-CAM's alpha_k.

    alpha_k is the mean over space of the derivative of the score in channel k. Channels without a name are left out;
    `named_share` says how much of the weight the named ones have.

    Args:
      cut: the cut that was dissected.
      image: one example, floats, without a batch axis.
      target: what is explained; None for the class of the largest output.
      dissection: what `jaxcam.analysis.dissect` returned for this cut: the names of its channels.
      count: the largest number of neurons on each side; the paper has 5.
      score: `(outputs, target) -> scalar`.

    Returns:
      A `Words`.

    Raises:
      TypeError: the cut is a model or at several layers, or the dissection is none.
      ValueError: the dissection is of another layer or has another number of channels, the target is out of range, or
        the weights are not finite.

    Selvaraju et al., "Grad-CAM", IJCV 2020, section "Generating textual explanations using Grad-CAM".

    Example:
      >>> import jaxcam
      >>> params = jnp.array([[2.0, -1.0], [-1.0, 0.5]])
      >>> cut = jaxcam.Cut(params, lambda W, x: x[..., ::2], lambda W, A, x: A.mean((0, 1)) @ W, "colors")
      >>> image = jnp.zeros([16, 16, 3]).at[:4, :4, 0].set(1.0).at[8:, 8:, 2].set(1.0)
      >>> masks = {"red": image[None, ..., 0] > 0, "blue": image[None, ..., 2] > 0}
      >>> found = jaxcam.analysis.dissect(cut, image[None], masks)
      >>> print(explain_in_words(cut, image, 0, dissection=found))
      for class 0: red (channel 0, alpha +0.00781)
      against class 0: blue (channel 1, alpha -0.00391)
      named channels have 100% of the weight
    """
    check_cut(cut)
    image = checks.checked_image(image)
    checks.check_count("count", count, at_least=1)
    checks.check_function("score", score)
    check_target(cut, image, target, score)
    if not isinstance(dissection, Dissection):
        raise TypeError(f"expected what jaxcam.analysis.dissect returns, got a {type(dissection).__name__}")
    cut, score = for_score(cut, image, score)
    alphas, outputs = _alphas(cut, image, target, score=score)
    alphas = np.asarray(alphas, np.float64)
    if len(alphas) != len(dissection.iou):
        raise ValueError(
            f"expected a dissection of the {len(alphas)} channels at {cut.layer!r}, got one of {len(dissection.iou)} "
            f"channels at {dissection.layer!r}"
        )
    if dissection.layer and cut.layer and dissection.layer != cut.layer:
        raise ValueError(f"expected a dissection of the layer {cut.layer!r}, got one of {dissection.layer!r}")
    if not np.isfinite(alphas).all():
        raise ValueError(
            f"the weights of the channels at {cut.layer!r} are not finite: the score has no derivative there"
        )
    named = [channel for channel, name in enumerate(dissection.names) if name is not None]
    neurons = [
        Neuron(channel, str(dissection.names[channel]), float(alphas[channel]), float(dissection.iou[channel].max()))
        for channel in sorted(named, key=lambda channel: -alphas[channel])
    ]
    total = np.abs(alphas).sum()
    index = class_or_none(outputs, target)
    return Words(
        target if index is None else int(index),
        tuple(neuron for neuron in neurons if neuron.weight > 0)[:count],
        tuple(neuron for neuron in reversed(neurons) if neuron.weight < 0)[:count],
        float(np.abs(alphas[named]).sum() / total) if total > 0 else 0.0,
    )


def ablation(
    cut: Cut,
    image: Image,
    target: Target,
    key: jax.Array,
    *,
    channels: tuple[int, ...] | list[int],
    draws: int = 50,
    score: Score = scores.logit,
) -> Ablation:
    """What the score loses if some channels are set to zero, beside as many channels that are drawn at random.

    Args:
      cut: a `Cut`.
      image: one example, floats, without a batch axis.
      target: whose score is taken; None for the class of the largest output of the whole network.
      key: a `jax.random.key` for the draws.
      channels: the numbers of the channels, such as those of `Words.important`.
      draws: the number of sets of channels drawn at random, without replacement, from the whole layer.
      score: `(outputs, target) -> scalar`.

    Returns:
      An `Ablation`.

    Raises:
      TypeError: the cut is a model or at several layers, or there is no key.
      ValueError: there are no channels, or one is outside the layer or given twice.

    Example:
      >>> import jaxcam
      >>> cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
      >>> image, _ = jaxcam.pretrained.digits_canvas(0)
      >>> ablation(cut, image, 1, jax.random.key(0), channels=[3, 7], draws=4).random_drops.shape
      (4,)
    """
    check_cut(cut)
    image = checks.checked_image(image)
    checks.check_key(key)
    checks.check_count("draws", draws, at_least=1)
    checks.check_function("score", score)
    check_target(cut, image, target, score)
    cut, score = for_score(cut, image, score)
    count = jax.eval_shape(cut.features, cut.params, image).shape[-1]
    numbers = np.asarray(channels)
    chosen = numbers.ravel().tolist() if numbers.dtype.kind in "iu" else []
    if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= channel < count for channel in chosen):
        raise ValueError(f"expected channels, integers in 0..{count - 1}, each once, got {checks.one_line(channels)}")
    drawn = [jax.random.permutation(k, count)[: len(chosen)] for k in jax.random.split(key, draws)]
    kept = np.ones((1 + draws, count), bool)
    for row, off in enumerate([np.array(chosen), *map(np.asarray, drawn)]):
        kept[row, off] = False
    drops = np.asarray(_drops(cut, image, target, kept, score=score), np.float64)
    if not np.isfinite(drops).all():
        raise ValueError(f"the score is not finite without some channels at {cut.layer!r}")
    drop, random_drops = float(drops[0]), drops[1:]
    below = (random_drops < drop).mean() + (random_drops == drop).mean() / 2
    return Ablation(drop, random_drops, float(below))


def _list_of(neurons):
    texts = [f"{neuron.name} (channel {neuron.channel}, alpha {neuron.weight:+.3g})" for neuron in neurons]
    return ", ".join(texts) or "no named channel"


@functools.partial(jit_with_target, static_argnames="score")
def _alphas(cut, image, target, *, score):
    """Grad-CAM's weights, `[k]`, and the outputs."""
    A, outputs = activations(cut, image)
    target, _ = resolve_target(outputs, target)
    gradient = jax.grad(lambda A: score(cut.head(cut.params, A, image), target))(A[cut.layer])
    return weights.grad_cam(as_floats(gradient)), outputs


@functools.partial(jit_with_target, static_argnames="score")
def _drops(cut, image, target, kept, *, score):
    """The score less that of the activation whose other channels are zero, for each row of `kept`, `[m k]`."""
    A, outputs = activations(cut, image)
    target, _ = resolve_target(outputs, target)

    def score_of(channels):
        masked = jnp.where(channels.reshape((1,) * (A[cut.layer].ndim - 1) + channels.shape), A[cut.layer], 0)
        return score(cut.head(cut.params, masked, image), target)

    # The whole activation through the same program, so that rounding is the same.
    values = jax.lax.map(score_of, jnp.concatenate([jnp.ones_like(kept[:1]), kept]))
    return values[0] - values[1:]
