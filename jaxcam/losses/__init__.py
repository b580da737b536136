"""Maps inside training: losses of one example that are differentiated with respect to the parameters of a cut.

>>> import dataclasses, jax, jax.numpy as jnp, jaxcam
>>> def features(params, image):
...     return jax.nn.relu(image @ params["W"])
>>> def head(params, A, image):
...     return A.mean((0, 1)) @ params["V"]
>>> student, teacher = (jaxcam.Cut({"W": a * jnp.eye(3), "V": jnp.eye(3, 2)}, features, head) for a in (1.0, 2.0))
>>> image = jnp.linspace(0, 1, 48).reshape(4, 4, 3)
>>> def loss(params, image, target):
...     own = dataclasses.replace(student, params=params)
...     return interpretation(own, teacher, image, target, method=jaxcam.grad_cam)
>>> gradient = jax.jit(jax.grad(loss))(student.params, image, 1)
>>> gradient["W"].shape, bool(gradient["W"][1, 1] < 0)
((3, 3), True)

All losses are pure functions of one example without a batch axis: `jax.vmap` takes a batch, and optax the steps. A cut
runs its model in eval mode, so batch norm has its running statistics.
"""

# A student's map beside its teacher's.
from jaxcam.losses._interpretation import interpretation as interpretation
from jaxcam.losses._interpretation import map_distance as map_distance

# A student's outputs beside its teacher's, and the sum of both with the cross-entropy.
from jaxcam.losses._distillation import TeacherTargets as TeacherTargets
from jaxcam.losses._distillation import distillation as distillation
from jaxcam.losses._distillation import student_loss as student_loss
from jaxcam.losses._distillation import teacher_targets as teacher_targets

# A map beside a mask of where the evidence may lie.
from jaxcam.losses._right_reasons import right_reasons as right_reasons
