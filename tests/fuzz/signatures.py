"""The signatures that calls are drawn from: a network, a method with its static options, and how it is called.

Values, targets, keys and parameters differ from call to call and compile nothing.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam


class Signature(NamedTuple):
    """What is compiled once.

    Attributes:
      network: its name in `networks.NETWORKS`.
      method: its name in the root, or of one of `MADE`.
      options: static options.
      score: the name of a score of `jaxcam.scores`, a score of `SCORES`, or None for a method without the option.
      call: "eager", "jit" or "vmap" over targets.
      cut: "Cut", "Cuts" or "Flax".
      dtype: of the image.
    """

    network: str
    method: str
    options: dict[str, Any] = {}  # noqa: RUF012
    score: Any = "logit"
    call: str = "eager"
    cut: str = "Cut"
    dtype: Any = np.float32

    @property
    def name(self):
        score = getattr(self.score, "__name__", self.score)
        options = "".join(f" {key}={getattr(value, '__name__', value)}" for key, value in self.options.items())
        others = [word for word in (self.call, self.cut) if word not in ("eager", "Cut")]
        kind = [] if self.dtype == np.float32 else [np.dtype(self.dtype).name]
        return " ".join([self.method, "of", f"{self.network}, {score}{options}", *others, *kind])


# Scores of users. They take outputs of any float type.


def near(outputs, value):
    return -((outputs[0] - jnp.asarray(value).astype(outputs.dtype)) ** 2)


def weighted(outputs, weights):
    return jnp.dot(outputs, jnp.asarray(weights).astype(outputs.dtype), precision="highest")


def contrast(outputs, target):
    logits = outputs["logits"]
    signs = {"plus": 1.0, "minus": -1.0}
    sign = signs[target["sign"]] if isinstance(target["sign"], str) else target["sign"]
    return sign * (logits[target["classes"][0]] - logits[target["classes"][1]])


def masked(outputs, target):
    values, _ = target
    mask = jnp.asarray(values).astype(outputs["mask"].dtype)
    return (jnp.tanh(outputs["mask"]) * mask).sum() + outputs["logits"][0]


def largest(A, Y1):
    return Y1.max(range(Y1.ndim - 1))


def target_of_score(score, rng, shape):
    """A target that a user's score takes, its name, and the target as the oracle's score takes it."""
    if score is near:
        value = [float(rng.normal()), np.float32(rng.normal()), jnp.float32(rng.normal()), np.float64(rng.normal())]
        value = value[int(rng.integers(4))]
        return "a float", value, float(np.float32(value))
    if score is weighted:
        values = rng.normal(size=shape).astype(np.float32)
        kinds = [values, jnp.asarray(values), values.astype(np.float64), np.round(values).astype(np.int32)]
        value = kinds[int(rng.integers(4))]
        return "weights", value, np.asarray(value, np.float64)
    if score is contrast:
        pair = rng.integers(0, 4, 2)
        sign = str(rng.choice(["plus", "minus"]))
        classes = [tuple(map(int, pair)), pair, jnp.asarray(pair), list(pair.astype(np.uint8))][int(rng.integers(4))]
        return "a dictionary", {"sign": sign, "classes": classes}, {"sign": {"plus": 1.0, "minus": -1.0}[sign],
                                                                    "classes": pair}  # fmt: skip
    mask = rng.uniform(size=shape) < 0.5
    kinds = [mask, mask.astype(np.float32), mask.astype(np.uint8), jnp.asarray(mask)]
    return "a mask", (kinds[int(rng.integers(4))], "text"), (mask.astype(np.float64), 0.0)


# Methods made of others, by their name in a signature. Made once, because jit compares functions by identity.
MADE: dict[str, Callable[..., Any]] = {
    "mean of layer_cam": jaxcam.average_maps(jaxcam.layer_cam),
    "square of saliency": jaxcam.average_maps(jaxcam.saliency, statistic="square"),
    "rule largest": functools.partial(jaxcam.gradient_cam, weigh=largest, order=1),
}
FILTERS = jaxcam.select(filters=[2, 0])
REGION = jaxcam.select(region=True, subset=[(0, 1), (2, 2)])
NEURONS = jaxcam.select(subset=[(1,), (7,)])
S = Signature
SIGNATURES = [
    S("relu", "grad_cam"),
    S("gelu", "grad_cam_pp"),
    S("softmax", "layer_cam", score="log_softmax"),
    S("one logit", "input_gradient", score="probability"),
    S("structured", "grad_cam", score=contrast),
    S("signal", "xgrad_cam"),
    S("volume", "hires_cam"),
    S("pooled", "cam", score=None),
    # Those above are the ones of the short test.
    S("relu", "grad_cam_pp", {"link": "exp"}, score="log_softmax"),
    S("relu", "layer_cam", call="jit"),
    S("relu", "smooth_grad_cam_pp", {"n_samples": 3}),
    S("relu", "integrated_gradients", {"steps": 3}),
    S("relu", "xgrad_cam", dtype=np.float16),
    S("relu", "hires_cam", call="vmap"),
    S("relu", "saliency"),
    S("relu", "guided_backprop"),
    S("relu", "deconvnet"),
    S("relu", "guided_grad_cam"),
    S("relu", "smooth_grad", {"n_samples": 2}),
    S("relu", "score_cam"),
    S("relu", "counterfactual_grad_cam", score=near),
    S("relu", "grad_cam_plus", score=weighted),
    S("relu", "grad_cam", cut="Flax"),
    S("relu", "grad_cam_pp", score="log_softmax", cut="Cuts"),
    S("relu", "mean of layer_cam", {"n_samples": 2}, score=None),
    S("relu", "rule largest", {"select": FILTERS}),
    S("gelu", "grad_cam_pp", {"derivatives": "closed_form"}, score="log_softmax"),
    S("gelu", "smooth_grad_cam_pp", {"n_samples": 2, "numerator": "first"}),
    S("gelu", "var_grad", {"n_samples": 3}),
    S("gelu", "input_gradient", dtype=jnp.bfloat16),
    S("gelu", "grad_cam_pp", {"link": "identity"}, score="probability"),
    S("gelu", "grad_cam_pp", {"alpha": "bounded"}, score="log_softmax"),
    S("max", "grad_cam_pp", {"select": REGION}),
    S("max", "grad_cam", {"n_samples": 16, "standard_error": 0.0}),
    S("attention", "grad_cam_pp"),
    S("attention", "layer_cam", call="jit"),
    S("around", "grad_cam", {"n_samples": 2, "relative": False}),
    S("around", "input_gradient"),
    S("softmax", "grad_cam"),
    S("softmax", "grad_cam_pp", score="log_softmax"),
    S("softmax", "hires_cam", score="probability"),
    S("one sigmoid", "grad_cam_pp", score="log_softmax"),
    S("sigmoids", "grad_cam", call="vmap"),
    S("structured", "grad_cam_pp", score=masked),
    S("structured", "score_cam", score=contrast),
    S("signal", "integrated_gradients", {"steps": 2, "link": "exp"}, score="log_softmax"),
    S("smooth signal", "grad_cam_pp", {"select": NEURONS}),
    S("volume", "grad_cam_pp"),
    S("volume", "score_cam"),
    S("signal", "grad_cam_pp", score="log_softmax"),
    S("one logit", "grad_cam_pp", score="log_softmax"),
    S("sigmoids", "layer_cam", score="log_softmax"),
    S("half", "grad_cam"),
    S("volume", "square of saliency", {"n_samples": 2}, score=None),
    S("relu", "diagnose"),
]
SHORT = 8


@functools.cache
def method_of(index):
    """The method of a signature with its static options bound, and called as the signature says."""
    signature = SIGNATURES[index]
    options = dict(signature.options)
    if signature.score is not None:
        score = signature.score
        options["score"] = getattr(jaxcam.scores, score) if isinstance(score, str) else score
    method = MADE.get(signature.method) or getattr(jaxcam, signature.method)
    explain = functools.partial(method, **options)
    if signature.call == "jit":
        return jax.jit(explain)
    if signature.call == "vmap":
        return lambda cut, image, targets: jax.vmap(lambda target: explain(cut, image, target))(targets)
    return explain
