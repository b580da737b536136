"""Networks in timm's layout: every array of a file is used once, layers have timm's names, other files are refused."""

import pathlib
import re

import jax
import numpy as np
import pytest
from flax import nnx

import jaxcam
from jaxcam.pretrained import _timm
from tests.pretrained.timm_names import LINES, random_arrays, shapes, write_file


def marked(networks, *, ordinary):
    """The networks as parameters of a test, of which the ordinary ones do not take long."""
    return [pytest.param(name, marks=() if name in ordinary else pytest.mark.long) for name in networks]


def load(network, path, **options):
    return getattr(jaxcam, network)(weights=path, **LINES[network][3], **options)


@pytest.mark.parametrize("network", marked(LINES, ordinary=LINES.keys() - {"resnet34", "mobilenet_v2"}))
def test_every_array_is_used_once(network, tmp_path):
    arrays = random_arrays(network)
    assert len(arrays) == LINES[network][1]
    model = load(network, write_file(tmp_path / "model.safetensors", arrays))
    taken = {name: np.sort(array, axis=None) for name, array in jaxcam.pretrained.to_arrays(model).items()}
    given = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}
    assert len(taken) == len(given)
    for name, array in given.items():
        path, values = name.replace(".", "/"), np.sort(array, axis=None)
        equal = [other for other in taken if np.array_equal(taken[other], values)]
        assert len(equal) == 1 and equal[0].rpartition("/")[0] == path.rpartition("/")[0]
    assert model.class_names is None
    if network == "efficientnet_b0":
        dense, depthwise = arrays["conv_stem.weight"], arrays["blocks.1.0.conv_dw.weight"]
        assert model.conv_stem.kernel[...][2, 0, 1, 5] == dense[5, 1, 2, 0]
        assert getattr(model.blocks[1], "0").conv_dw.kernel[...][2, 0, 0, 7] == depthwise[7, 0, 2, 0]
        assert model.classifier.kernel[...][3, 7] == arrays["classifier.weight"][7, 3]


RECOMMENDED = {
    "resnet18": ("layer4", (7, 7, 512), 11_689_512),
    "resnet34": ("layer4", (7, 7, 512), 21_797_672),
    "resnet50": ("layer4", (7, 7, 2048), 25_557_032),
    "mobilenet_v2": ("bn2", (7, 7, 1280), 3_504_872),
    "efficientnet_b0": ("bn2", (7, 7, 1280), 5_288_548),
    "convnext_tiny": ("stages/3", (7, 7, 768), 28_589_128),
    "vit_small_patch16": ("blocks/10", (197, 384), 22_050_664),
}


@pytest.mark.parametrize("network", marked(RECOMMENDED, ordinary={"resnet18"}))
def test_the_recommended_layer_and_the_size(network):
    layer, shape, size = RECOMMENDED[network]
    model = nnx.eval_shape(lambda: getattr(jaxcam, network)(kernel_init=nnx.initializers.zeros_init()))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))) == size
    chosen = jaxcam.describe_layers(model).recommended
    assert (chosen.name, chosen.shape, chosen.reads_input) == (layer, shape, False)
    assert chosen.can_be_negative == (network in ("efficientnet_b0", "convnext_tiny", "vit_small_patch16"))


def test_a_file_of_our_own_names_goes_round(tmp_path):
    model = load("resnet18", write_file(tmp_path / "timm.safetensors", random_arrays("resnet18")))
    np.savez(tmp_path / "own.npz", **jaxcam.pretrained.to_arrays(model))
    again = load("resnet18", tmp_path / "own.npz")
    assert again.fc.out_features == 10
    jax.tree.map(np.testing.assert_array_equal, nnx.state(again), nnx.state(model))


def test_other_files_are_refused(tmp_path):
    path = write_file(tmp_path / "resnet34.safetensors", random_arrays("resnet34"))
    with pytest.raises(
        ValueError, match=r"resnet34.safetensors: not a ResNet-18 in timm's layout: it has layer1.2.bn1.b"
    ):
        load("resnet18", path)
    arrays = random_arrays("resnet18")
    del arrays["layer3.0.bn2.running_var"]
    with pytest.raises(ValueError, match="not a ResNet-18 in timm's layout: it lacks layer3.0.bn2.running_var$"):
        load("resnet18", write_file(tmp_path / "part.safetensors", arrays))
    with pytest.raises(ValueError, match=r"expected shape \(64,\) for bn1/bias, got \(8,\)"):
        jaxcam.resnet18(weights=write_file(tmp_path / "narrow.safetensors", random_arrays("resnet18")))
    with pytest.raises(FileNotFoundError, match="expected 'imagenet' or the path of a file for weights, got 'imagnet'"):
        jaxcam.convnext_tiny(weights="imagnet")
    arrays = random_arrays("vit_small_patch16") | {"head.bias": np.full(10, np.nan, np.float32)}
    with pytest.raises(ValueError, match="head/bias has values that are not finite"):
        load("vit_small_patch16", write_file(tmp_path / "nan.safetensors", arrays))


def test_class_names_must_fit():
    with pytest.raises(ValueError, match="expected 3 class_names"):
        jaxcam.mobilenet_v2(classes=3, class_names=("a", "b"))


def test_names_of_the_list_are_read_as_they_are_written():
    assert shapes("resnet50")["layer3.5.bn3.running_var"] == (64,)
    assert shapes("vit_small_patch16")["blocks.11.norm2.bias"] == (6,)


def test_the_table_of_the_models_page_is_right():
    page = (pathlib.Path(__file__).parents[2] / "docs" / "models.md").read_text()
    rows = [re.findall(r"`(.*?)`", line)[:3] for line in page.splitlines() if line.startswith("| `jaxcam.")]
    expected = {
        f"jaxcam.{network}": (layer, getattr(_timm, network.upper().replace("RESNET", "RESNET_")).repository)
        for network, (layer, _, _) in RECOMMENDED.items()
    }
    assert {name: (layer, repository) for name, layer, repository in rows} == expected
