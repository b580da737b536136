"""Named arrays out of a model, and a model out of them."""

import jax
import numpy as np
import pytest
from flax import nnx

import jaxcam


def test_weights_go_out_and_come_back():
    model = jaxcam.vgg_digits(rngs=nnx.Rngs(5))
    arrays = jaxcam.pretrained.to_arrays(model)
    assert arrays["block1_conv1/kernel"].shape == (3, 3, 3, 16)
    again = jaxcam.pretrained.from_arrays(jaxcam.vgg_digits, arrays)
    x = jax.random.uniform(jax.random.key(0), (1, 64, 64, 3))
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc1/bias": None}, "parameters missing: fc1/bias; this model has block1_conv1/bias"),
        ({"fc9/bias": np.ones(3)}, "parameters not in this model: fc9/bias"),
        ({"fc1/bias": np.ones(3)}, r"expected shape \(128,\) for fc1/bias, got \(3,\)"),
        ({"fc1/bias": np.full(128, np.nan)}, "fc1/bias has values that are not finite"),
    ],
)
def test_arrays_that_do_not_fit(change, message):
    arrays = {**jaxcam.pretrained.to_arrays(jaxcam.vgg_digits()), **change}
    with pytest.raises(ValueError, match=message):
        jaxcam.pretrained.from_arrays(
            jaxcam.vgg_digits, {name: array for name, array in arrays.items() if array is not None}
        )
