"""What an evaluation explains of an image: the predicted class, its label, or a target that was given."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxcam._base import checks
from jaxcam._base.targets import without_static_leaves
from jaxcam._base.types import Method, Score
from jaxcam.cutting import Cut, activations, means_class, output_kind
from jaxcam.evaluation._loaded import Loaded
from jaxcam.formulas import scores
from jaxcam.methods import grad_cam_plus

GIVEN = "given"  # beside "predicted" and "label"


def explained_target(outputs: Any, example: Loaded, kind: str, score: Score) -> Any:
    """What is explained: the example's own target, its label or the largest output; a class is int32.

    Raises:
      ValueError: outputs that are no classes, for a class or a score of classes.
    """
    has_classes = means_class(outputs, None)
    is_given = kind == GIVEN or example.target is not None
    if not has_classes and (not is_given or scores.takes_class(score)):
        raise ValueError(
            f"expected outputs [classes] of the model, got {checks.describe_shapes(outputs)}: for others give "
            "target= or targets=, and score=, to evaluate, and a score= to each method"
        )
    if example.target is not None:
        target = without_static_leaves(example.target)
    elif kind == "label":
        target = example.label
    else:
        target = outputs.argmax() if has_classes else None
    return target.astype(jnp.int32) if target is not None and means_class(outputs, target) else target


def check_one_output(cut: Cut, image: Any, score: Score) -> None:
    """Raises a ValueError if the score is the probability and the model has one output behind a softmax."""
    if score is not scores.probability or output_kind(cut, image) != "probabilities":
        return
    outputs = jax.eval_shape(lambda: activations(cut, image)[1])
    if means_class(outputs, None) and outputs.shape == (1,):
        raise ValueError("the model has one output, whose softmax is 1 whatever the image is: give score=")


def classes_of(outputs: Any, label: jax.Array) -> dict[str, jax.Array | None]:
    """The number of classes, the predicted class and the label's rank; None for outputs that are not `[classes]`."""
    if not means_class(outputs, None):
        return {"classes": None, "predicted": None, "rank": None}
    return {
        "classes": jnp.int32(outputs.size),
        "predicted": outputs.argmax().astype(jnp.int32),
        "rank": (outputs > outputs[jnp.maximum(label, 0)]).sum(),
    }


def with_own_score(method: Method, outputs: Any, target: Any, score: Score) -> Method:
    """The method; the control Grad-CAM+ with the evaluation's score where the target is no class."""
    if method is not grad_cam_plus or means_class(outputs, target):
        return method
    return functools.partial(grad_cam_plus, score=score)
