"""A training step with the interpretation loss takes at most 3 times a step without, the teacher's map given.

A step is the gradient of a batch's mean loss in all parameters of the student, and stochastic gradient descent. The
rival is the cross-entropy alone, of the same cut, in the same run and in turn. The rows are Grad-CAM and Grad-CAM++ in
the loss with the teacher's maps computed before; beside them the teacher's share, its maps of the batch over the step
without, and the step with the whole teacher in it. Students: the VGG for digits at 64 x 64 with a third of its
channels, cut at its last convolution, taught by the embedded network; and ResNet-18 with 16 channels in its first
layer at 64 x 64, cut at its last layer, taught by a ResNet-18 with 32.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import jaxcam
import jaxcam.losses
from benchmarks import timing
from jaxcam.networks import resnet

BOUND = 3.0
RATE = 1e-3
METHODS = {"Grad-CAM": jaxcam.grad_cam, "Grad-CAM++": jaxcam.grad_cam_pp}


def pairs(small: bool) -> dict[str, tuple[jaxcam.Cut, jaxcam.Cut]]:
    """Students and their teachers by name."""
    thin = jaxcam.vgg_digits(blocks=((6, 6), (11, 11), (22, 22)), dense=(43, 22), rngs=nnx.Rngs(0))
    found = {"VGG": (jaxcam.cut(thin, "block3_conv2"), jaxcam.cut(jaxcam.digits(), "block3_conv2"))}
    if not small:
        build: Any = functools.partial(
            resnet.ResNet, block="basic", depths=(2, 2, 2, 2), classes=10, image_shape=(64, 64, 3)
        )
        cuts = [jaxcam.cut(build(width=width, rngs=nnx.Rngs(0)), "layer4") for width in (16, 32)]
        found["ResNet-18"] = (cuts[0], cuts[1])
    return found


def measure(*, small: bool = False) -> dict:
    """Ratios over the step without the map; small runs one student on two images."""
    count = 2 if small else 32
    images = jax.random.uniform(jax.random.key(0), (count, 64, 64, 3))
    targets = jnp.arange(count) % 10
    ratios: dict[str, float] = {}
    seconds: dict[str, dict[str, float]] = {}
    for name, (student, teacher) in pairs(small).items():
        plain = functools.partial(jaxcam.losses.student_loss, interpretation_weight=0, distillation_weight=0)
        kept = targets_of(teacher, images, targets, method=jaxcam.grad_cam)
        rivals = {"without": functools.partial(step, student, kept, images, targets, loss=plain)}
        for title, method in METHODS.items():
            loss = functools.partial(jaxcam.losses.student_loss, distillation_weight=0, method=method)
            kept = targets_of(teacher, images, targets, method=method)
            rivals[f"{title}, map given"] = functools.partial(step, student, kept, images, targets, loss=loss)
            rivals[f"{title}, teacher inside"] = functools.partial(step, student, teacher, images, targets, loss=loss)
            rivals[f"{title}, teacher's maps"] = functools.partial(targets_of, teacher, images, targets, method=method)
        times = timing.in_turn(rivals, repeats=2 if small else 15)
        ratios |= {
            f"{name}: {rival} / without": timing.median_ratio(times, rival, "without")
            for rival in rivals
            if rival != "without"
        }
        seconds |= {f"{name}: {rival}": summary for rival, summary in timing.summary(times).items()}
    return {"ratios": ratios, "bounds": {"map given / without": BOUND}, "images in a batch": count, "seconds": seconds}


@functools.partial(jax.jit, static_argnames="method")
def targets_of(teacher, images, targets, *, method):
    """The teacher's maps and logits of a batch."""
    of_example = functools.partial(jaxcam.losses.teacher_targets, method=method)
    return jax.vmap(of_example, in_axes=(None, 0, 0))(teacher, images, targets)


@functools.partial(jax.jit, static_argnames="loss")
def step(student, teacher, images, targets, *, loss):
    """One step of gradient descent on the mean loss of a batch."""
    whole = isinstance(teacher, jaxcam.Cut)

    def mean_loss(student):
        per_example = jax.vmap(loss, in_axes=(None, None if whole else 0, 0, 0))
        return per_example(student, teacher, images, targets).mean()

    value, gradient = jax.value_and_grad(mean_loss)(student)
    return value, jax.tree.map(lambda leaf, slope: leaf - RATE * slope, student, gradient)
