"""The base class of networks that say themselves how they are cut, so that nothing has to be traced."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxcam.cutting._cut import Cut, Cuts


class SelfCutting:
    """A base class for networks that say how they are cut at their layers, such as `jaxcam.VGG`.

    `jaxcam.cut` traces a model and takes its program apart at a layer. A network that inherits from this class is not
    traced: `jaxcam.cut(network, layer)` returns `network.cut_at(layer)`. That is for a network in a framework that
    jaxcam does not know, or for layers that are not modules of their own, or to say what is the value of a layer, such
    as after its activation. Only a class that inherits from this one is asked; a model that happens to have methods of
    these names is traced.

    The functions of equal networks should be the same ones, as those of the example are, and not made anew at each
    cut: `jax.jit` knows a function by its identity, and would compile again.

    Attributes:
      layers: the names that the network can be cut at, in the order of its computation.
      image_shape: the shape of one image, for `jaxcam.layers`.

    Example:
      >>> import jax, jaxcam
      >>> class Mixer(jaxcam.cutting.SelfCutting):
      ...     layers, image_shape = ("mixed",), (4, 4, 3)
      ...     def __init__(self, params):
      ...         self.params = params
      ...     def cut_at(self, layer):
      ...         return jaxcam.Cut(self.params, Mixer.features, Mixer.head, layer, reads_input=False)
      ...     @staticmethod
      ...     def features(params, x):
      ...         return jax.nn.relu(x @ params["mix"])
      ...     @staticmethod
      ...     def head(params, A, x):
      ...         return A.mean((0, 1)) @ params["classify"]
      >>> model = Mixer({"mix": jax.numpy.ones([3, 8]), "classify": jax.numpy.ones([8, 2])})
      >>> jaxcam.layers(model)
      {'mixed': (4, 4, 8)}
      >>> jaxcam.grad_cam(jaxcam.cut(model, "mixed"), jax.numpy.ones([4, 4, 3]), 0).shape
      (4, 4)
    """

    layers: Sequence[str]
    image_shape: tuple[int, ...]

    def cut_at(self, layer: str) -> Cut:
        """The cut at one of `layers`: `jaxcam.cut` has checked that it is one."""
        raise NotImplementedError(f"{type(self).__name__} has no cut_at(layer), which returns a jaxcam.Cut")

    def cuts_at(self, layers: tuple[str, ...]) -> Cuts:
        """The cut at several of `layers`, each of them once. A network may leave it out."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot be cut at several layers: it has no cuts_at(layers), which returns a "
            "jaxcam.Cuts"
        )


def check_no_options(model: SelfCutting, options: Mapping[str, Any], function: Callable[..., Any]) -> None:
    """Raises a TypeError if an option of traced models is given for a network that cuts itself.

    Args:
      model: the network.
      options: by their names.
      function: whose options they are, with their defaults.
    """
    parameters = inspect.signature(function).parameters
    for option, value in options.items():
        if value is not parameters[option].default and value != parameters[option].default:
            raise TypeError(
                f"a {type(model).__name__} takes no {option}: it cuts itself at its layers, a jaxcam.VGG after their "
                "activation"
            )
