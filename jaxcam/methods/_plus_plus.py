"""The rule of Grad-CAM++ for the weights, and the line that is logged where its alphas leave their range."""

import functools
import logging
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxcam._base.numerics import Scaled
from jaxcam.cutting import Cut, Cuts
from jaxcam.formulas import sampling, weights

log = logging.getLogger("jaxcam")


class PlusPlusRule(NamedTuple):
    """The weights of Grad-CAM++ from derivatives of any size, for `jaxcam.methods.compute_gradient_cam`.

    Attributes:
      numerator: as in `jaxcam.weights.grad_cam_pp`.
      alpha: as in `jaxcam.weights.grad_cam_pp`.
    """

    numerator: str
    alpha: str

    def __call__(self, A: jax.Array, Y1: jax.Array, Y2: Scaled, Y3: Scaled) -> jax.Array:
        """The weights `[k]`."""
        return weights.grad_cam_pp(
            A, Y1, Y2.array, Y3.array,
            numerator=self.numerator, alpha=self.alpha, exponents=(Y2.exponent, Y3.exponent),
        )  # fmt: skip

    def sampled(
        self, A: jax.Array, Y1: jax.Array, Y2: Scaled, Y3: Scaled, counts: jax.Array
    ) -> sampling.SampledWeights:
        """The weights `[k]` from drawn locations, with their standard errors."""
        return sampling.sampled_grad_cam_pp(
            A, Y1, Y2.array, Y3.array, counts,
            numerator=self.numerator, alpha=self.alpha, exponents=(Y2.exponent, Y3.exponent),
        )  # fmt: skip

    def share_outside(
        self, A: jax.Array, Y1: jax.Array, Y2: Scaled, Y3: Scaled, counts: jax.Array | None = None
    ) -> jax.Array | None:
        """The share of alphas outside [0, 1/2], where Y1 > 0 and, with `counts`, of the locations that are drawn.

        None if alphas are bounded or have no such range.
        """
        if (self.numerator, self.alpha) != ("second", "defined"):
            return None
        Y1 = Y1 if counts is None else jnp.where(counts > 0, Y1, 0)
        return weights.share_outside(A, Y1, Y2.array, Y3.array, exponents=(Y2.exponent, Y3.exponent))


# What the first call of a method has looked at: for each head, the methods and options.
_looked_at: weakref.WeakKeyDictionary[Any, set[Any]] = weakref.WeakKeyDictionary()


def log_alphas_outside(
    method: str, cut: Cut | Cuts, options: Mapping[str, Any], shares: dict[str, jax.Array | None] | None
) -> None:
    """Logs one line at the first call of a method with a cut if alphas are outside [0, 1/2].

    Under the caller's jit the shares are traced, and nothing is logged or computed.
    """
    if not shares or any(not _is_readable(share) for share in shares.values()):
        return
    score = options.get("score")
    named = str(getattr(getattr(score, "func", score), "__name__", "a score"))
    form = options.get("derivatives")
    settings = (method, named, options.get("link"), form)
    seen = _settings_seen(cut.tapped if isinstance(cut, Cuts) else cut.head)
    if settings in seen:
        return
    seen.add(settings)
    outside = {layer: float(share) for layer, share in shares.items() if share is not None}
    layer, share = max(outside.items(), key=lambda item: item[1])
    if share > 0:
        log.warning(
            "%s at %s: alpha is outside [0, 1/2] at %s of the locations with a positive derivative%s, and a few large "
            "alphas may decide the map; alpha='bounded' clips them, and jaxcam.diagnose shows what that changes",
            method, layer or "this cut", f"{share:.1%}", " that are drawn" if form == "sampled" else "",
        )  # fmt: skip


def _settings_seen(head):
    try:
        return _looked_at.setdefault(head, set())
    except TypeError:  # an object without weak references, such as a NamedTuple
        return _settings_seen_by_value(head)


@functools.lru_cache(maxsize=256)
def _settings_seen_by_value(head):
    return set()


def _is_readable(share):
    return share is not None and not isinstance(share, jax.core.Tracer) and share.is_fully_addressable
