"""By what a Keras model is known: its layers, what they hold, and its variables, each of them the object itself.

A layer may be changed in place, such as by `layer.activation = ...`, so the model itself is not enough.
"""

from collections.abc import Hashable, Mapping
from typing import Any

from jaxcam.cutting._keys import MayChangeError, Same, key_of

# What Keras notes on layers and models, and a built model in eval mode does not compute with.
BOOKKEEPING = frozenset(
    """
    build quantize loss compiled optimizer train_function test_function predict_function stop_training history
    steps_per_execution _tracker _lock _metrics _losses _loss_ids _losses_override _loss_tracker _compile_loss
    _compile_metrics _compile_config _compile_loss_weights _initial_epoch _jax_state_synced _run_eagerly _jit_compile
    _call_signature _inbound_nodes _outbound_nodes _called _auto_config _obj_type _inference_fn _input_spec
    _jax_state _compiled_trainable_state stop_predicting stop_evaluating
    """.split()
)


def key_of_keras_model(model: Any, keras: Any) -> Hashable | None:
    """A key of what a model computes with, its variables' values aside; None if a layer holds what may change."""
    walked: set[int] = set()

    def key_of_held(value) -> Hashable:
        if isinstance(value, keras.Operation):
            return key_of_operation(value)
        if isinstance(value, tuple | list):
            return type(value), tuple(map(key_of_held, value))
        if isinstance(value, set | frozenset):
            return type(value), frozenset(map(key_of_held, value))
        if isinstance(value, Mapping):
            return type(value), tuple((key_of_held(key), key_of_held(item)) for key, item in value.items())
        if _is_of_keras(type(value)) or (hasattr(value, "__code__") and _is_of_keras(value)):
            return Same(value)
        return key_of(value)

    def key_of_operation(operation) -> Hashable:
        if id(operation) in walked:
            return Same(operation)
        walked.add(id(operation))
        held = ((name, key_of_held(value)) for name, value in vars(operation).items() if name not in BOOKKEEPING)
        return Same(operation), type(operation), tuple(held)

    try:
        return key_of_operation(model), tuple(map(Same, model.variables))
    except (MayChangeError, RecursionError):
        return None


def _is_of_keras(value: Any) -> bool:
    return str(value.__module__).split(".")[0] == "keras"
