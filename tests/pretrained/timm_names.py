"""The names of timm's files of weights, written out, with the shapes of networks that are a few channels wide."""

import itertools
import re

import numpy as np
import safetensors.numpy

from jaxcam.networks.efficientnet import STAGES as EFFICIENTNET_STAGES
from jaxcam.networks.mobilenet import STAGES as MOBILENET_STAGES

# A line is names and their shape. {1,2} stands for one of these, {0-3} for one of 0, 1, 2, 3; W is weight and bias, and
# N is those of a batch norm.
BASIC = """
conv1.weight 8 3 7 7
bn1.N 8
layer1.{0-%d}.conv{1,2}.weight 8 8 3 3
layer1.{0-%d}.bn{1,2}.N 8
layer2.0.conv1.weight 16 8 3 3
layer2.0.downsample.0.weight 16 8 1 1
layer2.0.downsample.1.N 16
layer2.0.conv2.weight 16 16 3 3
layer2.{1-%d}.conv{1,2}.weight 16 16 3 3
layer2.{0-%d}.bn{1,2}.N 16
layer3.0.conv1.weight 32 16 3 3
layer3.0.downsample.0.weight 32 16 1 1
layer3.0.downsample.1.N 32
layer3.0.conv2.weight 32 32 3 3
layer3.{1-%d}.conv{1,2}.weight 32 32 3 3
layer3.{0-%d}.bn{1,2}.N 32
layer4.0.conv1.weight 64 32 3 3
layer4.0.downsample.0.weight 64 32 1 1
layer4.0.downsample.1.N 64
layer4.0.conv2.weight 64 64 3 3
layer4.{1-%d}.conv{1,2}.weight 64 64 3 3
layer4.{0-%d}.bn{1,2}.N 64
fc.weight 10 64
fc.bias 10
"""
RESNET_50 = """
conv1.weight 4 3 7 7
bn1.N 4
layer1.0.conv1.weight 4 4 1 1
layer1.{1,2}.conv1.weight 4 16 1 1
layer1.{0-2}.conv2.weight 4 4 3 3
layer1.{0-2}.conv3.weight 16 4 1 1
layer1.{0-2}.bn{1,2}.N 4
layer1.{0-2}.bn3.N 16
layer1.0.downsample.0.weight 16 4 1 1
layer1.0.downsample.1.N 16
layer2.0.conv1.weight 8 16 1 1
layer2.{1-3}.conv1.weight 8 32 1 1
layer2.{0-3}.conv2.weight 8 8 3 3
layer2.{0-3}.conv3.weight 32 8 1 1
layer2.{0-3}.bn{1,2}.N 8
layer2.{0-3}.bn3.N 32
layer2.0.downsample.0.weight 32 16 1 1
layer2.0.downsample.1.N 32
layer3.0.conv1.weight 16 32 1 1
layer3.{1-5}.conv1.weight 16 64 1 1
layer3.{0-5}.conv2.weight 16 16 3 3
layer3.{0-5}.conv3.weight 64 16 1 1
layer3.{0-5}.bn{1,2}.N 16
layer3.{0-5}.bn3.N 64
layer3.0.downsample.0.weight 64 32 1 1
layer3.0.downsample.1.N 64
layer4.0.conv1.weight 32 64 1 1
layer4.{1,2}.conv1.weight 32 128 1 1
layer4.{0-2}.conv2.weight 32 32 3 3
layer4.{0-2}.conv3.weight 128 32 1 1
layer4.{0-2}.bn{1,2}.N 32
layer4.{0-2}.bn3.N 128
layer4.0.downsample.0.weight 128 64 1 1
layer4.0.downsample.1.N 128
fc.weight 10 128
fc.bias 10
"""
MOBILENET_BLOCKS = "blocks.1.{0,1} blocks.2.{0-2} blocks.3.{0-3} blocks.4.{0-2} blocks.5.{0-2} blocks.6.0"
EFFICIENTNET_BLOCKS = "blocks.1.{0,1} blocks.2.{0,1} blocks.3.{0-2} blocks.4.{0-2} blocks.5.{0-3} blocks.6.0"
STEM_AND_HEAD = """
conv_stem.weight 12 3 3 3
bn1.N 12
conv_head.weight 16 8 1 1
bn2.N 16
classifier.weight 10 16
classifier.bias 10
blocks.0.0.conv_dw.weight 12 1 3 3
blocks.0.0.bn1.N 12
blocks.0.0.conv_pw.weight 8 12 1 1
blocks.0.0.bn2.N 8
"""
INVERTED = """
BLOCK.conv_pw.weight 48 8 1 1
BLOCK.conv_dw.weight 48 1 SIDE SIDE
BLOCK.conv_pwl.weight 8 48 1 1
BLOCK.bn{1,2}.N 48
BLOCK.bn3.N 8
"""
GATES = """
BLOCK.se.conv_reduce.weight 2 48 1 1
BLOCK.se.conv_reduce.bias 2
BLOCK.se.conv_expand.weight 48 2 1 1
BLOCK.se.conv_expand.bias 48
"""
FIRST_GATE = """
blocks.0.0.se.conv_reduce.weight 3 12 1 1
blocks.0.0.se.conv_reduce.bias 3
blocks.0.0.se.conv_expand.weight 12 3 1 1
blocks.0.0.se.conv_expand.bias 12
"""
CONVNEXT = """
stem.0.weight 4 3 4 4
stem.0.bias 4
stem.1.W 4
stages.1.downsample.0.W 4
stages.1.downsample.1.weight 8 4 2 2
stages.1.downsample.1.bias 8
stages.2.downsample.0.W 8
stages.2.downsample.1.weight 12 8 2 2
stages.2.downsample.1.bias 12
stages.3.downsample.0.W 12
stages.3.downsample.1.weight 16 12 2 2
stages.3.downsample.1.bias 16
head.norm.W 16
head.fc.weight 10 16
head.fc.bias 10
"""
CONVNEXT_BLOCKS = """
stages.STAGE.gamma CHANNELS
stages.STAGE.conv_dw.weight CHANNELS 1 7 7
stages.STAGE.conv_dw.bias CHANNELS
stages.STAGE.norm.W CHANNELS
stages.STAGE.mlp.fc1.weight HIDDEN CHANNELS
stages.STAGE.mlp.fc1.bias HIDDEN
stages.STAGE.mlp.fc2.weight CHANNELS HIDDEN
stages.STAGE.mlp.fc2.bias CHANNELS
"""
VIT = """
cls_token 1 1 6
pos_embed 1 197 6
patch_embed.proj.weight 6 3 16 16
patch_embed.proj.bias 6
blocks.{0-11}.norm{1,2}.W 6
blocks.{0-11}.attn.qkv.weight 18 6
blocks.{0-11}.attn.qkv.bias 18
blocks.{0-11}.attn.proj.weight 6 6
blocks.{0-11}.attn.proj.bias 6
blocks.{0-11}.mlp.fc1.weight 24 6
blocks.{0-11}.mlp.fc1.bias 24
blocks.{0-11}.mlp.fc2.weight 6 24
blocks.{0-11}.mlp.fc2.bias 6
norm.W 6
head.weight 10 6
head.bias 10
"""
PARTS = {"N": "{weight,bias,running_mean,running_var,num_batches_tracked}", "W": "{weight,bias}"}


def inverted(blocks, template, sides):
    """The lines of blocks that are alike but for the sides of their kernels, one for each stage."""
    pairs = zip(blocks.split(), sides, strict=True)
    return "".join(template.replace("BLOCK", block).replace("SIDE", str(side)) for block, side in pairs)


def convnext_blocks():
    stages = {"0.blocks.{0-2}": 4, "1.blocks.{0-2}": 8, "2.blocks.{0-8}": 12, "3.blocks.{0-2}": 16}
    fill = lambda stage, k: (
        CONVNEXT_BLOCKS.replace("STAGE", stage).replace("CHANNELS", str(k)).replace("HIDDEN", str(4 * k))
    )
    return "".join(fill(stage, k) for stage, k in stages.items())


# By jaxcam's function: timm's name, how many arrays timm 1.0's file has, the lines, the options of a narrow network.
LINES = {
    "resnet18": ("resnet18", 122, BASIC % (1, 1, 1, 1, 1, 1, 1, 1), {"width": 8}),
    "resnet34": ("resnet34", 218, BASIC % (2, 2, 3, 3, 5, 5, 2, 2), {"width": 8}),
    "resnet50": ("resnet50", 320, RESNET_50, {"width": 4}),
    "mobilenet_v2": (
        "mobilenetv2_100", 314, STEM_AND_HEAD + inverted(MOBILENET_BLOCKS, INVERTED, (3, 3, 3, 3, 3, 3)),
        {"stem": 12, "head": 16, "stages": tuple(stage._replace(channels=8) for stage in MOBILENET_STAGES)},
    ),
    "efficientnet_b0": (
        "efficientnet_b0", 360,
        STEM_AND_HEAD + FIRST_GATE + inverted(EFFICIENTNET_BLOCKS, INVERTED + GATES, (3, 5, 3, 5, 5, 3)),
        {"stem": 12, "head": 16, "stages": tuple(stage._replace(channels=8) for stage in EFFICIENTNET_STAGES)},
    ),
    "convnext_tiny": ("convnext_tiny", 182, CONVNEXT + convnext_blocks(), {"widths": (4, 8, 12, 16)}),
    "vit_small_patch16": ("vit_small_patch16_224", 152, VIT, {"width": 6, "heads": 3}),
}  # fmt: skip


def expanded(pattern):
    """The names that a pattern stands for."""
    parts = re.split(r"\{(.*?)\}", re.sub(r"\b[NW]$", lambda match: PARTS[match[0]], pattern))
    choices = [
        [text] if place % 2 == 0
        else text.split(",") if "-" not in text
        else [str(n) for n in range(int(text.split("-")[0]), int(text.split("-")[1]) + 1)]
        for place, text in enumerate(parts)
    ]  # fmt: skip
    return ["".join(choice) for choice in itertools.product(*choices)]


def shapes(network):
    """The names of a network's file, and their shapes in a narrow one."""
    lines = [line.split() for line in LINES[network][2].split("\n") if line]
    pairs = [(name, tuple(map(int, shape))) for pattern, *shape in lines for name in expanded(pattern)]
    assert len(dict(pairs)) == len(pairs)
    return {name: () if name.endswith("num_batches_tracked") else shape for name, shape in pairs}


def random_arrays(network):
    """Arrays for every name; those of a batch norm's variance are positive."""
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes(network).items()}
    return {name: np.abs(array) if name.endswith("var") else array for name, array in arrays.items()}


def write_file(path, arrays):
    safetensors.numpy.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path
