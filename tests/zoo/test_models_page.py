"""The examples of docs/models.md run as written, and their cuts are the models.

Most need packages that the development group does not have: `.ci/long` runs those in environments with one of them.
"""

import os
import pathlib
import re

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np
import pytest

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "models.md").read_text()
# The package that an example imports, and the outputs of its model for the image, as its own framework computes them.
OWN_OUTPUTS = {
    "keras": lambda s, image: s["model"](image[None])[0],
    "keras_hub": lambda s, image: s["model"](image[None])[0],
    "FlaxResNet": lambda s, image: s["model"](np.moveaxis(np.array(image), -1, 0)[None]).logits[0],
    "FlaxViT": lambda s, image: s["model"](np.moveaxis(np.array(image), -1, 0)[None]).logits[0],
    "equinox": lambda s, image: s["model"](jnp.moveaxis(image, -1, 0)),
    "haiku": lambda s, image: s["model"].apply(s["params"], s["state"], image)[0][0],
}
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def example(name):
    """The only example that imports this name."""
    (code,) = [code for code in EXAMPLES if re.search(rf"^(import|from) .*\b{name}(\b|For)", code, flags=re.MULTILINE)]
    return code


def marked(name):
    return pytest.param(name, marks=pytest.mark.zoo if name == "keras" else pytest.mark.elsewhere)


def test_every_example_is_run():
    assert sorted(map(example, OWN_OUTPUTS)) == sorted(EXAMPLES)


@pytest.mark.parametrize("name", [marked(name) for name in OWN_OUTPUTS])
def test_the_example_cuts_the_model(name):
    code, session = example(name), {}
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        exec(compile(code, name, "exec"), session)
        cut, image = session["cut"], session["image"]
        outputs = jax.jit(lambda cut, x: cut.head(cut.params, cut.features(cut.params, x), x))(cut, image)
        expected = OWN_OUTPUTS[name](session, image)
    outputs = jax.nn.softmax(outputs) if name == "keras" else outputs  # its cut takes the softmax off
    scale = np.abs(expected).max()
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5 * scale)
    (shape,) = re.findall(r"^saliency = .*# \[([\d ]+)\]", code, flags=re.MULTILINE)
    saliency = session["saliency"]
    assert saliency.shape == tuple(int(size) for size in shape.split())
    assert np.isfinite(saliency).all() and saliency.max() > 0


def test_the_page_has_all_keras_applications_that_ci_runs():
    from tests.zoo.test_applications import IN_CI

    rows = {line.split("|")[1].strip() for line in PAGE.splitlines() if line.endswith("| CI |")}
    assert rows == IN_CI
