"""Every layout of a VGG's weights is read back, and compared with the arrays that were put in."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam import pretrained
from jaxcam.networks.vgg import DEPTHS, caffe, torchvision
from jaxcam.pretrained import checkpoints, layouts
from tests.pretrained.refusal import refusal
from tests.pretrained.weight_files import (
    FILES,
    keras_save,
    keras_weights,
    timm_names,
    torch_names,
    weights,
    write_h5,
    write_safetensors,
)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("layout", FILES)
def test_every_layout_gives_the_arrays_that_were_put_in(tmp_path, layout, depth):
    write, rename, preprocess = FILES[layout]
    path = tmp_path / "weights.bin"  # the name says nothing
    write(path, rename(weights(depth)))
    found = layouts.vgg(checkpoints.read(path))
    assert found.arrays.keys() == weights(depth).keys()
    for name, array in weights(depth).items():
        np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)
    assert found.options == {
        "blocks": tuple((4,) * length for length in DEPTHS[depth]), "dense": (7, 6), "classes": 5,
        "image_shape": (64, 64, 3), "top": "dense", "preprocess": preprocess,
    }  # fmt: skip


def direct(preprocess, **options):
    build = functools.partial(
        jaxcam.vgg16, dense=(7, 6), classes=5, image_shape=(64, 64, 3), preprocess=preprocess,
        blocks=[(4,) * length for length in DEPTHS[16]], **options,
    )  # fmt: skip
    return pretrained.from_arrays(build, weights())


IMAGE = np.random.default_rng(0).random((1, 64, 64, 3), np.float32)


@pytest.mark.parametrize("layout", ["keras save_weights", "torchvision legacy", "timm", "flaxmodels"])
def test_a_loaded_network_gives_the_same_logits(tmp_path, layout):
    write, rename, preprocess = FILES[layout]
    write(tmp_path / "w", rename(weights()))
    model = jaxcam.vgg16(weights=tmp_path / "w")
    np.testing.assert_array_equal(model(IMAGE), direct(preprocess)(IMAGE))
    assert model.class_names is None


def test_options_take_the_place_of_what_the_file_says(tmp_path):
    write_safetensors(tmp_path / "w", torch_names(weights()))
    model = pretrained.load(tmp_path / "w", activation=jax.nn.gelu, preprocess=caffe, class_names=list("abcde"))
    np.testing.assert_array_equal(model(IMAGE), direct(caffe, activation=jax.nn.gelu)(IMAGE))
    assert model.class_names == tuple("abcde")
    wide = pretrained.load(tmp_path / "w", image_shape=(32, 128, 3))
    assert jaxcam.layers(wide)["block5_pool"] == (1, 4, 4)
    with pytest.raises(ValueError, match="w: expected 5 class_names, one for each class, got 2"):
        pretrained.load(tmp_path / "w", class_names=["cat", "dog"])
    with pytest.raises(ValueError, match=r"w: expected shape .*10.* for predictions/.*, got .*5"):
        jaxcam.vgg16(weights=tmp_path / "w", classes=10)


def test_the_rows_of_fc1_are_not_those_of_a_plain_transpose(tmp_path):
    """The trap: both have the same shape and load without a word, and one has the wrong logits."""
    write_safetensors(tmp_path / "right", torch_names(weights()))
    write_safetensors(tmp_path / "transposed", torch_names(weights(), reorder=False))
    right, transposed = (pretrained.load(tmp_path / name)(IMAGE) for name in ("right", "transposed"))
    assert np.abs(right - transposed).max() > 1e-2 * np.abs(right).max()


def test_an_image_that_is_not_square_is_told_by_timms_kernel(tmp_path):
    arrays = timm_names(weights())
    arrays["pre_logits.fc1.weight"] = arrays["pre_logits.fc1.weight"].reshape(7, 4, 1, 4)
    assert layouts.vgg(arrays).options["image_shape"] == (32, 128, 3)


@pytest.mark.parametrize("top", ["dense", "average"])
def test_jaxcams_own_networks_go_out_and_come_back(tmp_path, top):
    build = functools.partial(jaxcam.vgg_digits, top=top)
    rng = np.random.default_rng(5)
    shapes = jax.tree.flatten_with_path(nnx.state(nnx.eval_shape(build)))[0]
    arrays = {"/".join(key.key for key in path[:2]): rng.random(leaf.shape, np.float32) for path, leaf in shapes}
    np.savez(tmp_path / "w.npz", **arrays)
    model, again = pretrained.from_arrays(build, arrays), pretrained.load(tmp_path / "w.npz")
    assert again.layers == model.layers
    np.testing.assert_array_equal(again(IMAGE), model(IMAGE))


def test_torchvision_preprocessing_is_mean_and_standard_deviation():
    found = torchvision(jnp.array([[[1.0, 0.5, 0.0]]]))
    np.testing.assert_allclose(found[0, 0], [0.515 / 0.229, 0.044 / 0.224, -0.406 / 0.225], rtol=1e-5)


def changed(arrays, changes):
    return {name: array for name, array in {**arrays, **changes}.items() if array is not None}


def misfits():
    torch, keras = torch_names(weights()), keras_weights(weights())
    nothing = {name: None for name in torch if name.startswith("classifier")}
    norm = {"features.1.running_mean": np.ones(4)}
    yield torch, norm, r"batch normalization \(features.1.running_mean\): jaxcam.VGG has none"
    yield keras, {"layers/batch_normalization/vars/0": np.ones(4)}, "batch normalization"
    yield torch, nothing, "the convolutions only, without fc1, fc2 and predictions: jaxcam.pretrained.from_arrays takes"
    yield (
        {},
        {"layer1.0.conv1.weight": np.ones(3), "fc.bias": np.ones(3)},
        (r"not a layout of VGG's weights that is known: it has fc.bias, layer1.0.conv1.weight; known are torch"),
    )
    yield torch, {"extra": np.ones(1)}, "not a layout of VGG's weights that is known: it has extra; known are"
    yield torch, {"features.28.weight": None, "features.28.bias": None}, "12 convolutions, features.0, .*: no VGG has"
    yield keras, {"layers/conv2d_12/vars/0": None, "layers/conv2d_12/vars/1": None}, "12 convolutions, conv2d, "
    yield (
        torch,
        {"classifier.6.weight": None, "classifier.6.bias": None},
        "expected 3 dense layers, as a VGG has, got 2: classifier.0, classifier.3",
    )
    own = {"predictions/kernel": None, "predictions/bias": None}
    yield weights(), own, "expected dense layers fc1, fc2, ... and predictions, got fc1, fc2"
    yield keras_save(weights()), {"fc1/fc1/kernel": np.ones(3)}, "fc1 has two of kernel, one of them model_weights/fc1"
    yield torch, {"features.0.bias": None}, "expected a kernel and a bias of features.0, got a kernel only"
    yield torch, {"features.0.weight": np.ones((4, 27))}, r"expected 4 axes of features.0's kernel, got shape \(4, 27\)"
    yield torch, {"features.2.weight": np.ones((4, 9, 3, 3))}, r"for block1_conv2/kernel, got \(3, 3, 9, 4\)"
    yield (
        torch,
        {"classifier.0.weight": np.ones((7, 20))},
        "expected height x height x 4 rows of the last pooling in classifier.0, got 20",
    )
    yield torch, {"classifier.3.weight": np.ones((6, 8))}, r"expected shape \(7, 6\) for fc2/kernel, got \(8, 6\)"
    yield (
        torch,
        {"classifier.3.weight": np.ones((6, 7, 1, 1))},
        r"expected 2 axes of classifier.3's kernel, got shape \(6, 7, 1, 1\)",
    )
    yield torch, {"classifier.3.bias": np.full(6, np.nan)}, "fc2/bias has values that are not finite"
    yield keras, {"layers/dense/vars/0": np.full((16, 7), np.inf)}, "fc1/kernel has values that are not finite"


@pytest.mark.parametrize(("arrays", "changes", "message"), list(misfits()))
def test_a_file_that_is_not_of_a_vgg_that_jaxcam_has(tmp_path, arrays, changes, message):
    write_h5(tmp_path / "w.h5", changed(arrays, changes))
    refusal(pretrained.load, tmp_path / "w.h5")
    with pytest.raises(ValueError, match=f"w.h5: .*{message}"):
        pretrained.load(tmp_path / "w.h5")


def test_another_depth_than_the_function_has(tmp_path, digits):
    write_safetensors(tmp_path / "w", torch_names(weights(19)))
    assert refusal(jaxcam.vgg16, weights=tmp_path / "w").endswith("w: holds VGG-19: use jaxcam.vgg19")
    np.savez(tmp_path / "d.npz", **pretrained.to_arrays(digits))
    found = refusal(jaxcam.vgg11, weights=str(tmp_path / "d.npz"))
    assert found.endswith("d.npz: holds a network of 6 convolutions: use jaxcam.pretrained.load")
