"""The layouts of VGG's weights that other libraries write, and the way from each to jaxcam's own.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> shapes = {"features.0": (8, 3, 3, 3), "features.3": (8, 8, 3, 3), "features.6": (8, 8, 3, 3)}
    >>> shapes |= {"features.8": (8, 8, 3, 3), "features.11": (8, 8, 3, 3), "features.13": (8, 8, 3, 3)}
    >>> shapes |= {"features.16": (8, 8, 3, 3), "features.18": (8, 8, 3, 3)}
    >>> shapes |= {"classifier.0": (6, 8 * 2 * 2), "classifier.3": (6, 6), "classifier.6": (5, 6)}
    >>> arrays = {f"{name}.weight": rng.normal(size=shape) for name, shape in shapes.items()}
    >>> arrays |= {f"{name}.bias": rng.normal(size=shape[:1]) for name, shape in shapes.items()}
    >>> weights = vgg(arrays)
    >>> weights.layout, weights.options["image_shape"], weights.options["preprocess"].__name__
    ('torchvision', (64, 64, 3), 'torchvision')
    >>> weights.arrays["block5_conv2/kernel"].shape, weights.arrays["fc1/kernel"].shape
    ((3, 3, 8, 8), (32, 6))

The first dense layer is where layouts differ and the shapes do not tell: its rows are the pixels and channels of the
last pooling, in the order H, W, C in jaxcam and Keras, and C, H, W in PyTorch.
"""

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxcam.networks.vgg import DEPTHS, caffe, torchvision

# For each layout, what its names look like: a layer, and which of its two parameters. A file belongs to a layout if all
# of its names do.
PATTERNS = {
    "jaxcam": r"(block\d+_conv\d+|fc\d+|predictions)/(kernel|bias)",
    "Keras": r"(?:model_weights/)?(block\d+_conv\d+|conv2d(?:_\d+)?|fc\d+|dense(?:_\d+)?|predictions)"
    r"/.*[/_](kernel|bias|W|b)(?:_\d+)?(?::0)?",
    "Keras without names": r"layers/(conv2d(?:_\d+)?|dense(?:_\d+)?)/vars/([01])",
    "torchvision": r"(features\.\d+|classifier\.\d+)\.(weight|bias)",
    "timm": r"(features\.\d+|pre_logits\.fc\d+|head\.fc)\.(weight|bias)",
    "flaxmodels": r"(conv\d+_\d+|fc\d+)/(weight|bias)",
}
EXAMPLES = (
    "torchvision (features.0.weight), timm (head.fc.weight), Keras (block1_conv1/..., layers/conv2d/vars/0), "
    "flaxmodels (conv1_1/weight), jaxcam (block1_conv1/kernel)"
)
BIASES = ("bias", "b", "1")
# What weights of these layouts expect; those of the others, `torchvision`.
PREPROCESS = {"jaxcam": None, "Keras": caffe, "Keras without names": caffe}
NOT_PARAMETERS = re.compile(r"optimizer(_weights)?/|.*seed_generator")
BATCH_NORM = re.compile(r"running_(mean|var)|moving_(mean|variance)|batch_?norm", re.IGNORECASE)


class VGGWeights(NamedTuple):
    """The weights of a VGG under jaxcam's names, and what else they say of the network.

    Attributes:
      layout: the layout's name.
      arrays: one for each parameter, under jaxcam's names and in its shapes.
      options: what `VGG` takes to be the network of these arrays: `blocks`, `dense`, `classes`, `image_shape`, `top`
        and `preprocess`.
    """

    layout: str
    arrays: dict[str, np.ndarray]
    options: dict[str, Any]


def vgg(arrays: Mapping[str, np.ndarray]) -> VGGWeights:
    """A VGG's arrays under jaxcam's names, with the options that build its network.

    Keras numbers layers it has no name for: they are taken in the order of these numbers. A VGG-11, 13, 16 or 19 is
    recognized by the convolutions of its blocks, between which PyTorch's indices have gaps, or, if Keras has lost the
    names, by how many there are. Images are taken to be square if the file does not say. Widths may be any.

    Args:
      arrays: by the names of one of the layouts, as `checkpoints.read` returns them.

    Raises:
      ValueError: names of no layout; batch normalization; convolutions alone; a depth that no VGG has; a shape that no
        VGG has. Shapes that do not fit each other, and values that are not finite, are `from_arrays`'s to refuse.
    """
    arrays = {name: array for name, array in arrays.items() if not NOT_PARAMETERS.match(name)}
    layout = _layout(arrays)
    layers = _layers(layout, arrays)
    convolutions = sorted((name for name in layers if name.startswith(("block", "conv", "features"))), key=_position)
    dense = sorted(layers.keys() - set(convolutions), key=_position)
    lengths = _block_lengths(layout, convolutions, dense)

    new_convolutions = [f"block{b}_conv{c}" for b, length in enumerate(lengths, start=1) for c in range(1, length + 1)]
    new_dense = [*(f"fc{i}" for i in range(1, len(dense))), "predictions"]
    old_names = dict(zip(new_convolutions + new_dense, convolutions + dense, strict=True))
    kernels = {new: _kernel(layout, old, new, layers[old]["kernel"]) for new, old in old_names.items()}

    channels = kernels[new_convolutions[-1]].shape[-1]
    # Only jaxcam's own network of this kind is known: others keep the last pooling before they average.
    average = layout == "jaxcam" and dense == ["predictions"] and len(kernels["predictions"]) == channels
    height, width = 7, 7
    if not average:
        first = new_dense[0]
        kernels[first], (height, width) = _first_dense(layout, old_names[first], kernels[first], channels)
    for new in new_dense:
        kernels[new] = kernels[new].reshape(-1, kernels[new].shape[-1])  # timm's are convolutions

    renamed = {}
    for new, old in old_names.items():
        renamed[f"{new}/kernel"] = kernels[new]
        renamed[f"{new}/bias"] = layers[old]["bias"]
    widths = iter(kernels[name].shape[-1] for name in old_names)
    options = {
        "blocks": tuple(tuple(itertools.islice(widths, length)) for length in lengths),
        "dense": tuple(itertools.islice(widths, len(dense) - 1)),
        "classes": next(widths),
        "image_shape": (height * 2 ** len(lengths), width * 2 ** len(lengths), kernels["block1_conv1"].shape[2]),
        "top": "average" if average else "dense",
        "preprocess": PREPROCESS.get(layout, torchvision),
    }
    return VGGWeights(layout, renamed, options)


def _match(layout, name) -> re.Match[str] | None:
    return re.fullmatch(PATTERNS[layout], name)


def _layout(arrays) -> str:
    """The name of the layout that all names belong to."""
    for name in arrays:
        if BATCH_NORM.search(name):
            raise ValueError(f"a VGG with batch normalization ({name}): jaxcam.VGG has none, and cannot take it")
    strange = {layout: [name for name in arrays if not _match(layout, name)] for layout in PATTERNS}
    layout = min(strange, key=lambda layout: len(strange[layout]))
    if strange[layout] or not arrays:
        some = ", ".join(strange[layout][:4]) or "nothing"
        raise ValueError(f"not a layout of VGG's weights that is known: it has {some}; known are {EXAMPLES}")
    return layout


def _layers(layout, arrays) -> dict[str, dict[str, np.ndarray]]:
    """The kernel and the bias of each layer, by the layer's name in the file."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        match = _match(layout, name)
        assert match is not None
        layer, part = match.groups()
        part = "bias" if part in BIASES else "kernel"
        if part in layers.setdefault(layer, {}):
            raise ValueError(f"{layer} has two of {part}, one of them {name}")
        layers[layer][part] = array
    for layer, parts in layers.items():
        if len(parts) < 2:
            raise ValueError(f"expected a kernel and a bias of {layer}, got a {next(iter(parts))} only")
    return layers


def _kernel(layout, old, new, kernel) -> np.ndarray:
    """A kernel with its axes in jaxcam's order, the outputs last; `old` and `new` are the names of its layer."""
    axes = (4,) if "conv" in new else (2, 4) if layout == "timm" else (2,)
    if kernel.ndim not in axes or 0 in kernel.shape:
        raise ValueError(f"expected {axes[0]} axes of {old}'s kernel, got shape {kernel.shape}")
    if layout not in ("torchvision", "timm"):
        return kernel
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T


def _position(name) -> tuple[int, list[int]]:
    """Where a layer stands: numbers as numbers, so that conv2d_2 is before conv2d_10, and the last layer last."""
    stage = ["predictions", "head.fc"].count(name) * 2 + name.startswith("dense")
    # `conv2d` is before `conv2d_1` as a shorter list is.
    return stage, [int(number) for number in re.findall(r"\d+", name)]


def _block_lengths(layout, convolutions, dense) -> tuple[int, ...]:
    """How many convolutions each block has. They must be those of a VGG, and so must the dense layers."""
    numbers = [_position(name)[1] for name in convolutions]
    lengths: tuple[int, ...] | None
    if not convolutions:
        raise ValueError("no convolutions")
    if convolutions[0].startswith("conv2d"):
        lengths = next((known for known in DEPTHS.values() if sum(known) == len(convolutions)), None)
    elif convolutions[0].startswith("features"):
        # Convolution, relu, convolution is a gap of 2; with a pooling between it is 3.
        gaps = [after - before for (before,), (after,) in itertools.pairwise(numbers)]
        starts = [0, *(i for i, gap in enumerate(gaps, start=1) if gap == 3), len(convolutions)]
        sound = numbers[0] == [0] and set(gaps) <= {2, 3}
        lengths = tuple(end - start for start, end in itertools.pairwise(starts)) if sound else None
    else:
        lengths = tuple(len(list(group)) for _, group in itertools.groupby(numbers, key=lambda number: number[0]))
        if numbers != [[b, c] for b, n in enumerate(lengths, start=1) for c in range(1, n + 1)]:
            lengths = None
    if lengths is None or layout != "jaxcam" and lengths not in DEPTHS.values():
        raise ValueError(
            f"{len(convolutions)} convolutions, {', '.join(convolutions)}: no VGG has these; "
            f"VGG-{', '.join(map(str, DEPTHS))} have {', '.join(str(sum(known)) for known in DEPTHS.values())}"
        )
    if not dense:
        raise ValueError(
            "the convolutions only, without fc1, fc2 and predictions: jaxcam.pretrained.from_arrays takes them, under "
            "jaxcam's names, with a head of your own"
        )
    if layout != "jaxcam" and len(dense) != 3:
        raise ValueError(f"expected 3 dense layers, as a VGG has, got {len(dense)}: {', '.join(dense)}")
    if layout == "jaxcam" and dense != [*(f"fc{i}" for i in range(1, len(dense))), "predictions"]:
        raise ValueError(f"expected dense layers fc1, fc2, ... and predictions, got {', '.join(dense)}")
    return lengths


def _first_dense(layout, name, kernel, channels) -> tuple[np.ndarray, tuple[int, int]]:
    """The kernel `[h * w * c out]` of the layer after the last pooling, and that pooling's height and width."""
    if kernel.ndim == 4:
        return kernel, kernel.shape[:2]
    rows, out = kernel.shape
    side = math.isqrt(rows // channels)
    if side == 0 or side * side * channels != rows:
        raise ValueError(f"expected height x height x {channels} rows of the last pooling in {name}, got {rows}")
    if layout in ("torchvision", "timm", "flaxmodels"):  # flaxmodels' were made from PyTorch's
        kernel = kernel.reshape(channels, side, side, out).transpose(1, 2, 0, 3)
    return kernel, (side, side)
