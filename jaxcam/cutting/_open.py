"""What a cut needs to know of a model: its parameters, and a pure function that calls it with layers marked.

`opened(model)` gives both for a `flax.nnx.Module`, for `(linen_module, variables)` and for a Keras 3 model on its JAX
backend. The model is called in eval mode, and what is marked is a copy of it (NNX), a call of it (Linen), or for the
time of one trace the layer, where marks are the identity for everyone else (Keras): the user's model is as it was.

    >>> import jax
    >>> from flax import nnx
    >>> from jaxcam import jaxprs
    >>> model = nnx.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nnx.relu, nnx.Dropout(0.5, rngs=nnx.Rngs(1)))
    >>> found = opened(model)
    >>> found.names
    ('layers/0', 'layers/2')
    >>> streams = jax.tree.unflatten(found.streams.tree, found.streams.leaves)
    >>> program = jax.make_jaxpr(lambda params, streams, x: found.run(params, streams, (x,), {}, None))(
    ...     found.params, streams, jax.numpy.ones([1, 3]))
    >>> [(mark.name, mark.aval.shape) for mark in jaxprs.marks(program.jaxpr)]
    [('layers/0', (1, 4)), ('layers/2', (1, 4))]
"""

import sys
from typing import Any

from flax import linen as nn
from flax import nnx

from jaxcam.cutting._keras import _open_keras
from jaxcam.cutting._linen import _linen_run
from jaxcam.cutting._memo import Shared
from jaxcam.cutting._nnx import _modules, _nnx_run, _static
from jaxcam.cutting._run import Opened, _streams

_runs = Shared()


def opened(model: Any) -> Opened:
    """The parameters of a model and the function that calls it.

    Raises:
      TypeError: not a model of a kind that is known.
      ValueError: a Keras model that is not built, or on another backend than JAX.
    """
    if isinstance(model, nnx.Module):
        graphdef, streams, params = nnx.split(model, nnx.RngState, ...)  # type: ignore[misc]
        run = _runs.once(_nnx_run, graphdef, exact=_static(model))
        return Opened(params, _streams(streams), run, tuple(dict(_modules(model))))
    if isinstance(model, tuple | list) and len(model) == 2 and isinstance(model[0], nn.Module):
        module, variables = model
        return Opened(variables, _streams(()), _runs.once(_linen_run, module, exact=[module]), None)
    if isinstance(model, nn.Module):
        if model.scope is not None:
            return opened(model.unbind())
        raise TypeError(f"a Linen module comes with its variables: give ({type(model).__name__}(...), variables)")
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(model, keras.layers.Layer):
        return _open_keras(model, keras)
    raise TypeError(
        f"{type(model).__name__} is no model that jaxcam can cut: give a flax.nnx.Module, (linen_module, variables), "
        "a Keras 3 model, or the two halves of any other: jaxcam.Cut(params, features, head)"
    )
