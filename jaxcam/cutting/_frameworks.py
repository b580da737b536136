"""A model of any framework that is known, as parameters and a pure function.

The model is called in eval mode with the outputs of its layers marked. What is marked is a copy of the model (NNX), a
call of it (Linen), or, for the time of one trace, its layers (Keras): the user's model is as it was.

    >>> import jax
    >>> from jaxcam.tracing import marks
    >>> model = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.relu, nnx.Dropout(0.5, rngs=nnx.Rngs(1)))
    >>> functional = functional_model(model)
    >>> functional.layer_names
    ('layers/0', 'layers/2')
    >>> streams = jax.tree.unflatten(functional.random_streams.structure, functional.random_streams.leaves)
    >>> program = jax.make_jaxpr(lambda params, streams, x: functional.call(params, streams, (x,), {}, None))(
    ...     functional.params, streams, jax.numpy.ones([1, 3]))
    >>> [(mark.name, mark.aval.shape) for mark in marks(program.jaxpr)]
    [('layers/0', (1, 4)), ('layers/2', (1, 4))]
"""

import sys
from typing import Any

from flax import linen as nn
from flax import nnx

from jaxcam.cutting._functional_model import FunctionalModel
from jaxcam.cutting._keras import from_keras
from jaxcam.cutting._linen import from_linen
from jaxcam.cutting._nnx import from_nnx


def functional_model(model: Any, method: str = "__call__") -> FunctionalModel:
    """The parameters of a model and the function that calls it.

    Args:
      model: a `flax.nnx.Module`, `(linen_module, variables)` or a bound Linen module, or a Keras 3 model.
      method: the name of the model's method that is called.

    Raises:
      TypeError: not a model of a kind that is known, or it has no such method.
      ValueError: a Keras model that is not built, or on another backend than JAX.
    """
    if isinstance(model, nnx.Module):
        _check_method(model, method)
        return from_nnx(model, method)
    if isinstance(model, tuple | list) and len(model) == 2 and isinstance(model[0], nn.Module):
        _check_method(model[0], method)
        return from_linen(model[0], model[1], method)
    if isinstance(model, nn.Module):
        if model.scope is not None:
            return functional_model(model.unbind(), method)
        raise TypeError(f"a Linen module comes with its variables: give ({type(model).__name__}(...), variables)")
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(model, keras.layers.Layer):
        _check_method(model, method)
        return from_keras(model, keras, method)
    raise TypeError(
        f"{type(model).__name__} is no model that jaxcam can cut: give a flax.nnx.Module, (linen_module, variables), "
        "a Keras 3 model, or the two halves of any other: jaxcam.Cut(params, features, head)"
    )


def _check_method(model, method) -> None:
    """Raises a TypeError if the model's class has no method of this name."""
    if not isinstance(method, str) or not callable(getattr(type(model), method, None)):
        raise TypeError(f"expected the name of a method of {type(model).__name__} for method, got {method!r}")
