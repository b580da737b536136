"""Distillation, and the student's whole loss in the Grad-CAM++ paper."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._base import checks
from jaxcam._base.numerics import as_floats
from jaxcam._base.targets import is_integer
from jaxcam._base.types import Image, Method, Target
from jaxcam.cutting import Cut, activations, output_kind, score_or_nan, without_last_activation
from jaxcam.formulas import scores
from jaxcam.losses._interpretation import map_distance
from jaxcam.losses._maps import check_one_layer, check_target_given, map_in_training
from jaxcam.methods import grad_cam_pp

# The Grad-CAM++ paper's weight of the interpretation loss, and the temperature of its distillation.
INTERPRETATION_WEIGHT = 0.01
TEMPERATURE = 4.0


class TeacherTargets(NamedTuple):
    """What a student learns from its teacher for one example, or, with a leading axis, for a batch.

    Attributes:
      saliency: the teacher's map, `[*spatial]`.
      logits: the teacher's outputs before their softmax, `[classes]`.
    """

    saliency: jax.Array
    logits: jax.Array


def teacher_targets(
    teacher: Cut, image: Image, target: Target, key: jax.Array | None = None, *, method: Method = grad_cam_pp
) -> TeacherTargets:
    """The teacher's map and logits of one example, to be computed once and kept for all epochs.

    Args:
      teacher: the teacher's cut.
      image: one example, floats, without a batch axis, as the student sees it: after its augmentation.
      target: the class that is explained.
      key: for a method that draws noise.
      method: as in `interpretation`.

    Returns:
      A `TeacherTargets`, in float32, without gradients.

    Raises:
      TypeError: the teacher is not a cut at one layer, or the target is None.
      ValueError: the teacher's outputs are not those of a softmax.

    Example:
      >>> import jaxcam
      >>> teacher = jaxcam.Cut(jnp.eye(3, 2), lambda W, x: x, lambda W, A, x: A.mean((0, 1)) @ W)
      >>> keep = lambda image, target: teacher_targets(teacher, image, target, method=jaxcam.grad_cam)
      >>> kept = jax.vmap(keep)(jnp.ones([5, 4, 4, 3]), jnp.array([1, 0, 1, 1, 0]))
      >>> kept.saliency.shape, kept.logits.shape
      ((5, 4, 4), (5, 2))
    """
    check_one_layer("teacher", teacher)
    check_target_given(target)
    teacher, image = jax.tree.map(jax.lax.stop_gradient, (teacher, image))
    saliency = map_in_training("teacher", teacher, image, target, key, method)
    return TeacherTargets(saliency, _logits("teacher", teacher, image))


def distillation(
    student_logits: ArrayLike, teacher_logits: ArrayLike, *, temperature: jax.Array | float = TEMPERATURE
) -> jax.Array:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), with gradients in the student alone.

    It differs from Hinton's cross-entropy with soft targets by the entropy of the targets, which is constant, so that
    it is 0 where the two agree. The factor T^2 keeps its gradients at the size of those of a cross-entropy.

    Args:
      student_logits: `[classes]`.
      teacher_logits: `[classes]`; no gradient passes through them.
      temperature: T, above 0.

    Returns:
      A scalar of at least 0, up to rounding.

    Raises:
      ValueError: the shapes differ or are not `[classes]`, or the temperature is not above 0.

    Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015, section 2.

    Example:
      >>> logits = jnp.array([2.0, 0.0, -1.0])
      >>> float(distillation(logits + 5.0, logits)), float(distillation(-logits, logits)) > 1
      (0.0, True)
    """
    student_logits, teacher_logits = as_floats(student_logits), jax.lax.stop_gradient(as_floats(teacher_logits))
    if student_logits.ndim != 1 or student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"expected logits [classes] of student and teacher, got shapes {student_logits.shape} and "
            f"{teacher_logits.shape}: use jax.vmap for batches"
        )
    is_traced = isinstance(temperature, jax.core.Tracer)
    if not is_traced and not (checks.is_real_number(temperature) and temperature > 0):
        raise ValueError(f"expected a temperature above 0, got {checks.one_line(temperature)}")
    of_student, of_teacher = (jax.nn.log_softmax(logits / temperature) for logits in (student_logits, teacher_logits))
    # A class that the teacher excludes, with a logit of -infinity, has the term 0 log 0 = 0.
    excluded = jnp.isneginf(of_teacher)
    differences = jnp.where(excluded, 0, of_teacher) - jnp.where(excluded, 0, of_student)
    return temperature**2 * (jnp.exp(of_teacher) * differences).sum()


def student_loss(
    student: Cut,
    teacher: Cut | TeacherTargets,
    image: Image,
    target: Target,
    key: jax.Array | None = None,
    *,
    method: Method = grad_cam_pp,
    normalize: str | None = None,
    interpretation_weight: jax.Array | float = INTERPRETATION_WEIGHT,
    distillation_weight: jax.Array | float = 1.0,
    temperature: jax.Array | float = TEMPERATURE,
) -> jax.Array:
    """The student's loss: cross-entropy + 0.01 * interpretation + distillation.

    A weight of 0, as a Python number, leaves its term out: `distillation_weight=0` is the paper's loss without
    distillation, and two zeros leave the cross-entropy.

    Args:
      student: the cut of the network that learns.
      teacher: the teacher's cut, or what `teacher_targets` returned for this example.
      image: one example, floats, without a batch axis.
      target: the example's class, an integer.
      key: for a method that draws noise; student and teacher get the same noise.
      method: as in `interpretation`.
      normalize: as in `interpretation`.
      interpretation_weight: of the distance of the maps.
      distillation_weight: of the distillation.
      temperature: of the distillation, as in `distillation`.

    Returns:
      A scalar; NaN if a traced target is out of range.

    Raises:
      TypeError: the student or the teacher is of another kind, or the target is no integer.
      ValueError: the outputs are not `[classes]` of a softmax; as `interpretation` and `distillation`.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, in the section on knowledge distillation.

    Example:
      >>> import jaxcam
      >>> pooled = lambda W, A, x: A.mean((0, 1)) @ W
      >>> student, teacher = (jaxcam.Cut(W, lambda W, x: x, pooled) for W in (jnp.eye(3, 2), jnp.ones([3, 2])))
      >>> image = jnp.linspace(0, 1, 48).reshape(4, 4, 3)
      >>> kept = teacher_targets(teacher, image, 1)
      >>> loss_given, loss = (student_loss(student, given, image, 1) for given in (kept, teacher))
      >>> bool(jnp.allclose(loss_given, loss, rtol=1e-5))
      True
    """
    check_one_layer("student", student)
    if not isinstance(teacher, TeacherTargets):
        check_one_layer("teacher", teacher, ", or jaxcam.losses.TeacherTargets")
    if not is_integer(target):
        raise TypeError(
            f"expected the example's class, an integer, for target, got {checks.one_line(target)}: use jax.vmap for "
            "batches"
        )
    image = checks.checked_image(image)
    logits = _logits("student", student, image)
    loss = -score_or_nan(scores.log_softmax, logits, target)
    if not _is_zero(interpretation_weight):
        student_map = map_in_training("student", student, image, target, key, method)
        kept = _targets_of(teacher, image, target, key, method)
        loss += interpretation_weight * map_distance(student_map, kept.saliency, normalize=normalize)
    if not _is_zero(distillation_weight):
        teacher_logits = teacher.logits if isinstance(teacher, TeacherTargets) else _logits("teacher", teacher, image)
        loss += distillation_weight * distillation(logits, teacher_logits, temperature=temperature)
    return loss


def _targets_of(teacher, image, target, key, method):
    if isinstance(teacher, TeacherTargets):
        return teacher
    return teacher_targets(teacher, image, target, key, method=method)


def _is_zero(weight):
    return isinstance(weight, int | float) and weight == 0


def _logits(role, cut, image):
    """The outputs in front of the softmax, `[classes]`, of at least 32 bits.

    Raises:
      ValueError: the outputs are not one array `[classes]`, or are those of sigmoids, or it is not known what they are.
    """
    kind = output_kind(cut, jnp.asarray(image))
    if kind == "probabilities":
        cut = without_last_activation(cut, inverse_of="softmax", outputs="logits")
    elif kind != "logits":
        raise ValueError(f"expected a {role} whose outputs are logits or a softmax of them, got {kind}")
    _, outputs = activations(cut, image)
    if not isinstance(outputs, jax.Array) or outputs.ndim != 1:
        raise ValueError(
            f"expected a {role} with outputs [classes] for one image, got {checks.describe_shapes(outputs)}"
        )
    return as_floats(outputs)
