"""A network of a user's own, which the tests of the page serve."""

from flax import nnx


class Small(nnx.Module):
    """Two convolutions and a linear layer, with random weights."""

    image_shape = (32, 32, 3)
    class_names = ("circle", "square", "star")

    def __init__(self, rngs):
        self.first = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.second = nnx.Conv(8, 12, (3, 3), strides=2, rngs=rngs)
        self.last = nnx.Linear(12, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.second(nnx.relu(self.first(x))))
        return self.last(x.mean((1, 2)))


def build():
    """The network."""
    return Small(nnx.Rngs(0))
