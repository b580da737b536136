"""Two small networks for the tests of several layers, classes and networks, and their Grad-CAM by plain derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

SIZE = 16
NAMES = ("ant", "bee", "cow", "dog")


class Small(nnx.Module):
    """Two convolutions, at 16 x 16 and at 8 x 8, and a linear layer."""

    def __init__(self, seed=0, class_names=NAMES):
        self.image_shape = (SIZE, SIZE, 3)
        self.class_names = class_names
        self.fine = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(seed))
        self.coarse = nnx.Conv(4, 6, (3, 3), strides=(2, 2), rngs=nnx.Rngs(seed + 1))
        self.dense = nnx.Linear(6, len(class_names), rngs=nnx.Rngs(seed + 2))

    def __call__(self, x):
        return self.dense(nnx.softplus(self.coarse(nnx.relu(self.fine(x)))).mean((1, 2)))


def probabilities(model, image):
    """The softmax of the model's logits, in NumPy."""
    logits = np.asarray(model(jnp.asarray(image)[None])[0], np.float64)
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


def grad_cam(model, layer, image, target):
    """Grad-CAM of the convolution's output by `jax.grad` of the model, written out."""
    A = model.fine(image[None])[0]
    if layer == "coarse":
        A = model.coarse(nnx.relu(A)[None])[0]

    def score(A):
        if layer == "fine":
            A = model.coarse(nnx.relu(A)[None])[0]
        return model.dense(nnx.softplus(A).mean((0, 1)))[target]

    weights = np.asarray(jax.grad(score)(A)).mean((0, 1))
    return np.maximum((np.asarray(A) * weights).sum(-1), 0)
