"""The interpretation loss of Grad-CAM++: the distance of a student's map from its teacher's."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxcam._base.numerics import as_floats
from jaxcam._base.types import Image, Method, Target
from jaxcam.cutting import Cut
from jaxcam.formulas import maps
from jaxcam.losses._maps import check_one_layer, check_target_given, map_in_training, scaled
from jaxcam.methods import grad_cam_pp


def map_distance(student_map: ArrayLike, teacher_map: ArrayLike, *, normalize: str | None = None) -> jax.Array:
    """The squared L2 distance of two maps, sum over space of (M_s - M_t)^2, with gradients in the student's map alone.

    Args:
      student_map: `[*spatial]`, at any resolution. It is resized to the teacher's.
      teacher_map: `[*spatial]`; no gradient passes through it.
      normalize: None for the maps as they are; "max" divides each by its maximum, after resizing.

    Returns:
      A scalar of at least 0.

    Raises:
      ValueError: the maps differ in their number of axes, or `normalize` is another name.

    Example:
      >>> student_map, teacher_map = jnp.array([[1.0, 3.0]]), jnp.array([[2.0, 6.0]])
      >>> float(map_distance(student_map, teacher_map)), float(map_distance(student_map, teacher_map, normalize="max"))
      (10.0, 0.0)
    """
    student_map, teacher_map = as_floats(student_map), jax.lax.stop_gradient(as_floats(teacher_map))
    if student_map.ndim != teacher_map.ndim or not student_map.ndim:
        raise ValueError(
            f"expected two maps [*spatial] with the same number of axes, got shapes {student_map.shape} and "
            f"{teacher_map.shape}: use jax.vmap for batches"
        )
    resized = maps.resize(student_map, teacher_map.shape)
    return ((scaled(resized, normalize) - scaled(teacher_map, normalize)) ** 2).sum()


def interpretation(
    student: Cut,
    teacher: Cut | ArrayLike,
    image: Image,
    target: Target,
    key: jax.Array | None = None,
    *,
    method: Method = grad_cam_pp,
    normalize: str | None = None,
) -> jax.Array:
    """The interpretation loss: the squared L2 distance of the student's map of an example from the teacher's.

    sum over space of (M_s - M_t)^2. It has gradients in the student's parameters and none in the teacher. The maps of
    Grad-CAM++ are those of the library, without the factor e^u of the exponential link, which overflows.

    Args:
      student: the cut of the network that learns.
      teacher: the cut of the teacher, at any layer; or the teacher's map `[*spatial]` of this example, target and
        method, computed before, which costs nothing here.
      image: one example, floats, without a batch axis.
      target: what is explained, for most scores a class. The paper has the example's own class.
      key: for a method that draws noise. Student and teacher get the same noise.
      method: `(cut, image, target, [key]) -> map`; bind its options with `functools.partial`. If the student's
        head is smooth, `derivatives="closed_form"` costs much less than the default and approximates it.
      normalize: None for the maps as they are, as the paper has it; "max" divides each by its maximum, so that the loss
        does not depend on the scale of the logits.

    Returns:
      A scalar of at least 0.

    Raises:
      TypeError: the student or the teacher is a model or a cut at several layers; the target is None; the method's
        result is not a map.
      ValueError: the maps differ in their number of axes, or `normalize` is another name.

    Chattopadhay et al., "Grad-CAM++", WACV 2018, in the section on knowledge distillation.

    Example:
      >>> import jaxcam
      >>> pooled = lambda W, A, x: A.mean((0, 1)) @ W
      >>> student, teacher = (jaxcam.Cut(W, lambda W, x: x, pooled) for W in (jnp.eye(3, 2), jnp.ones([3, 2])))
      >>> image = jnp.linspace(0, 1, 48).reshape(4, 4, 3)
      >>> teacher_map = jaxcam.grad_cam_pp(teacher, image, 1)
      >>> bool(jnp.allclose(interpretation(student, teacher, image, 1), interpretation(student, teacher_map, image, 1)))
      True
    """
    check_target_given(target)
    student_map = map_in_training("student", student, image, target, key, method)
    return map_distance(student_map, _teacher_map(teacher, image, target, key, method), normalize=normalize)


def _teacher_map(teacher, image, target, key, method):
    """The teacher's map, computed without a trace of its derivatives, or as it was given."""
    if not isinstance(teacher, Cut):
        if not hasattr(teacher, "shape"):
            check_one_layer("teacher", teacher, ", or its map [*spatial]")
        return jnp.asarray(teacher)
    teacher, image = jax.tree.map(jax.lax.stop_gradient, (teacher, image))
    return map_in_training("teacher", teacher, image, target, key, method)
