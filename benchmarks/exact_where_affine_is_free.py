"""Exact derivatives cost what the closed form does where the head is piecewise affine: at most 1.1 times.

VGG-16 with relu and random weights at 224 x 224, cut at block5_conv3, score logit. `certify` proves the head locally
affine while tracing, and what is left is one backward pass. Both the derivatives alone and the whole map are timed,
each beside its closed form; what the proof itself takes, at the first trace, is among the seconds.
"""

import functools
import time

import jax
from flax import nnx

import jaxcam
from benchmarks import timing

BOUND = 1.1


@functools.partial(jax.jit, static_argnames="exact")
def derivatives(cut, image, A, *, exact):
    """u, u1, u2, u3 of class 3 at every location."""

    def head(A):
        return cut.head(cut.params, A, image)

    if exact:
        return jaxcam.derivatives.exact(lambda A: head(A)[3], A)
    return jaxcam.derivatives.closed_form(head, A, jaxcam.scores.logit, 3)


def measure(*, small: bool = False) -> dict:
    """Ratios of exact over closed form; small runs the digits network."""
    model, layer = (jaxcam.digits(), "block3_conv2") if small else (jaxcam.vgg16(rngs=nnx.Rngs(0)), "block5_conv3")
    cut = jaxcam.cut(model, layer)
    image = jax.random.uniform(jax.random.key(0), model.image_shape)
    A = jax.jit(lambda cut, image: cut.features(cut.params, image))(cut, image)
    rivals = {}
    for name, exact in (("exact", True), ("closed form", False)):
        rivals[f"{name}, derivatives"] = functools.partial(derivatives, cut, image, A, exact=exact)
        which = "exact" if exact else "closed_form"
        rivals[f"{name}, map"] = functools.partial(jaxcam.grad_cam_pp, cut, image, 3, derivatives=which)
    times = timing.in_turn(rivals, repeats=3 if small else 21)
    start = time.perf_counter()
    certificate = jaxcam.certify(lambda A: cut.head(cut.params, A, image), A)
    proof = time.perf_counter() - start
    ratios = {
        f"{what}: exact / closed form": timing.median_ratio(times, f"exact, {what}", f"closed form, {what}")
        for what in ("derivatives", "map")
    }
    return {
        "ratios": ratios,
        "bound": BOUND,
        "certificate": str(certificate),
        "seconds": {**timing.summary(times), "the proof": proof},
    }
