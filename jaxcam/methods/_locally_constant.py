"""The refusal of scores whose gradient is zero by construction: a map of zeros would say that nothing matters."""

from collections.abc import Callable
from typing import Any

import jax

from jaxcam.derivatives import Certificate, Level, certify


def refuse_locally_constant(score_at: Callable[[Any], Any], points: dict[Any, Any]) -> None:
    """Raises a ValueError if the score's derivative in one of the points is proved to be zero. Nothing is computed.

    Args:
      score_at: from the dict of points to the score.
      points: the activation, or the image, by the name of its layer.
    """
    certificate = certify(score_at, points)
    if len(points) == 1 or certificate.locally_constant:
        certificates = dict.fromkeys(points, certificate)
    elif certificate.halts:
        certificates = {name: certify(_along(score_at, points, name), points[name]) for name in points}
    else:
        return
    for name, certificate in certificates.items():
        if certificate.locally_constant:
            raise ValueError(message_of_zero_gradient(certificate, f"the activation at {name!r}" if name else "A"))


def _along(score_at, points, name):
    """The score as a function of one of the points."""
    return lambda A: score_at({**points, name: A})


def message_of_zero_gradient(certificate: Certificate, where: str) -> str:
    """Why the derivative of the score is zero, and what to do."""
    if certificate.level == Level.CONSTANT:
        return f"the score does not depend on {where}: every gradient and the map are zero; cut at another layer"
    halts = certificate.halts_text()
    reason = f"the score is locally constant in {where}: every path stops at {halts}, so every gradient is zero"
    if any("stop_gradient" in halt.primitive for halt in certificate.halts):
        return (
            f"{reason}; look through stop_gradient with jaxcam.cut(..., through_stop_gradient=True), or with "
            "jaxcam.rules.through_stop_gradient for a head of your own"
        )
    return f"{reason}; cut behind it, or choose a score that can be differentiated"


def check_gradient_of_image(score_of: Callable[[jax.Array], Any], image: jax.Array) -> None:
    """`refuse_locally_constant` for the whole model."""
    certificate = certify(score_of, image)
    if certificate.locally_constant:
        raise ValueError(message_of_zero_gradient(certificate, "the image"))
