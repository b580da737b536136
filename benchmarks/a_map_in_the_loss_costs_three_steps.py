"""A training step with the interpretation loss takes at most 3 times a step without, the teacher's map given.

A step is the gradient of a batch's mean loss in all parameters of the student, and gradient descent. The rival is the
cross-entropy alone, of the same cut, in the same run and in turn. The rows are Grad-CAM and Grad-CAM++ in the loss,
with the teacher's maps computed before. Beside them, apart, is the teacher's share: its maps and logits of the batch
over the step without, which is paid once if they are kept. The student is the VGG for digits at 64 x 64 with a third of
its channels, cut at its last convolution, with batches of 32; the teacher is the embedded network.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import jaxcam
import jaxcam.losses
from benchmarks import timing

BOUND = 3.0
RATE = 1e-3
METHODS = {"Grad-CAM": jaxcam.grad_cam, "Grad-CAM++": jaxcam.grad_cam_pp}


def measure(*, small: bool = False) -> dict:
    """Ratios over the step without the map; small runs batches of two images."""
    count = 2 if small else 32
    model = jaxcam.vgg_digits(blocks=((6, 6), (11, 11), (22, 22)), dense=(43, 22), rngs=nnx.Rngs(0))
    student, teacher = jaxcam.cut(model, "block3_conv2"), jaxcam.cut(jaxcam.digits(), "block3_conv2")
    images, targets = jax.random.uniform(jax.random.key(0), (count, 64, 64, 3)), jnp.arange(count) % 10
    kept = {name: targets_of(teacher, images, targets, method=method) for name, method in METHODS.items()}
    rivals = {
        "without": functools.partial(step, student, kept["Grad-CAM"], images, targets, method=None),
        **{
            f"{name}, map given": functools.partial(step, student, kept[name], images, targets, method=method)
            for name, method in METHODS.items()
        },
        **{
            f"{name}, the teacher's maps": functools.partial(targets_of, teacher, images, targets, method=method)
            for name, method in METHODS.items()
        },
    }
    times = timing.in_turn(rivals, repeats=2 if small else 15)
    ratios = {f"{name} / without": timing.median_ratio(times, name, "without") for name in rivals if name != "without"}
    return {
        "ratios": ratios,
        "bounds": {"map given / without": BOUND},
        "images in a batch": count,
        "seconds": timing.summary(times),
    }


@functools.partial(jax.jit, static_argnames="method")
def targets_of(teacher, images, targets, *, method):
    """The teacher's maps and logits of a batch."""
    of_example = functools.partial(jaxcam.losses.teacher_targets, method=method)
    return jax.vmap(of_example, in_axes=(None, 0, 0))(teacher, images, targets)


@functools.partial(jax.jit, static_argnames="method")
def step(student, kept, images, targets, *, method):
    """One step of gradient descent on the mean loss of a batch, with the method's map in it, or without a map."""
    options: dict[str, Any] = {"interpretation_weight": 0} if method is None else {"method": method}
    loss: Any = functools.partial(jaxcam.losses.student_loss, distillation_weight=0, **options)

    def mean_loss(student):
        return jax.vmap(loss, in_axes=(None, 0, 0, 0))(student, kept, images, targets).mean()

    value, gradient = jax.value_and_grad(mean_loss)(student)
    return value, jax.tree.map(lambda leaf, slope: leaf - RATE * slope, student, gradient)
