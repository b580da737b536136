"""Run by an interpreter that has TensorFlow, which has neither JAX nor jaxcam: tf-keras-vis, xplique, the original.

    python peers_tensorflow.py PEER IN.npz OUT.npz

IN has the image `[h w 3]`, whose dtype is the network's, the targets, the layers to explain, `explain`, and the names
of all layers of a VGG, `layers`, with `NAME/kernel` and `NAME/bias` of each; OUT, by the layer's name, the maps
`[targets *spatial]` at its resolution. For xplique-removal `explain` names curves, and `saliency` is the map `[h w]`.
Exit code 3: the peer is not installed, and why.
"""

import contextlib
import os
import pathlib
import re
import sys
import types
from unittest import mock

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np


def network(given):
    """The VGG in Keras: relu inside the layers, logits at the end."""
    import keras

    keras.backend.set_floatx(str(given["image"].dtype))
    inputs = x = keras.Input(given["image"].shape)
    for name in given["layers"].tolist():
        if name.endswith("pool"):
            x = keras.layers.MaxPooling2D(name=name)(x)
            continue
        kernel, bias = given[f"{name}/kernel"], given[f"{name}/bias"]
        relu = None if name == "predictions" else "relu"
        if kernel.ndim == 4:
            layer = keras.layers.Conv2D(kernel.shape[-1], 3, padding="same", activation=relu, name=name)
        else:
            layer = keras.layers.Dense(kernel.shape[-1], activation=relu, name=name)
            x = x if x.ndim == 2 else keras.layers.Flatten()(x)
        x = layer(x)
        layer.set_weights([kernel, bias])
    return keras.Model(inputs, x)


def tf_keras_vis(given, layer):
    from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
    from tf_keras_vis.utils.scores import CategoricalScore

    explainer = GradcamPlusPlus(network(given))
    options = {"penultimate_layer": layer, "seek_penultimate_conv_layer": False, "expand_cam": False}
    return [
        explainer(CategoricalScore([int(target)]), given["image"][None], **options)[0] for target in given["targets"]
    ]


def xplique(given, layer):
    import tensorflow as tf
    from xplique.attributions import GradCAMPP

    model = network(given)
    one_hot = np.eye(model.output_shape[-1], dtype=np.float32)
    explainer = GradCAMPP(model, conv_layer=layer)
    with mock.patch.object(tf.image, "resize", lambda maps, size, method: maps):  # the layer's resolution stays
        return [explainer.explain(given["image"][None], one_hot[[target]])[0, ..., 0] for target in given["targets"]]


def xplique_removal(given, curve):
    """The curve of scores and its area, `[steps + 2]`; "layers" to explain are curves here."""
    from xplique.metrics import Deletion, Insertion

    model = network(given)
    one_hot = np.eye(model.output_shape[-1], dtype=np.float32)
    options = {"steps": int(given["steps"]), "activation": "softmax"}
    if curve == "insertion of blurred":
        options["baseline_mode"] = lambda images: given["blurred"][None]
    found = []
    for target in given["targets"]:
        metric = (Deletion if curve == "deletion" else Insertion)(
            model, given["image"][None], one_hot[[target]], **options
        )
        scores = metric.detailed_evaluate(given["saliency"][None])
        found.append([*scores.values(), metric.evaluate(given["saliency"][None])])
    return found


def original(given, layer):
    """`grad_CAM_plus` of adityac94/Grad_CAM_plus_plus, in a clone at JAXCAM_ORIGINAL, as it stands there but for
    Python 2's print; around it, our network for its VGG-16, and no resizing, no guided backprop, no figure."""
    file = pathlib.Path(os.environ.get("JAXCAM_ORIGINAL", "")) / "misc" / "utils.py"
    if not file.exists():
        raise ImportError("JAXCAM_ORIGINAL names no clone of adityac94/Grad_CAM_plus_plus")
    import tensorflow

    tf = tensorflow.compat.v1
    tf.disable_eager_execution()

    class Vgg16:
        def build(self, x):
            for name in given["layers"].tolist():
                if name.endswith("pool"):
                    x = tf.nn.max_pool2d(x, 2, 2, "VALID")
                    continue
                kernel, bias = tf.constant(given[f"{name}/kernel"]), tf.constant(given[f"{name}/bias"])
                if len(kernel.shape) == 4:
                    x = tf.nn.conv2d(x, kernel, 1, "SAME") + bias
                else:
                    x = tf.matmul(tf.reshape(x, [-1, kernel.shape[0]]), kernel) + bias
                x = x if name == "predictions" else tf.nn.relu(x)
                if name == layer:
                    self.conv5_3 = x
            self.fc8, self.prob = x, tf.nn.softmax(x)

    names = "GuideReLU models models.vgg16 models.vgg_utils skimage skimage.transform matplotlib matplotlib.pyplot cv2"
    others = [*names.split(), "scipy.misc", "tensorflow.python.framework"]
    stubs = {"tensorflow": tf, **{name: mock.MagicMock(name=name) for name in others}}
    for name in ("models", "skimage", "matplotlib"):  # `import a.b as c` asks a for b
        for child in others:
            if child.startswith(f"{name}."):
                setattr(stubs[name], child.split(".")[1], stubs[child])
    stubs["models.vgg16"].Vgg16 = Vgg16
    stubs["models.vgg_utils"].load_image = lambda name: given["image"]
    text = re.sub(r"^(\s*)print (.*)$", r"\1print(\2)", file.read_text(), flags=re.MULTILINE)
    code = types.ModuleType("original")
    with mock.patch.dict(sys.modules, stubs):
        exec(compile(text, str(file), "exec"), vars(code))
    code.resize, code.guided_BP, code.visualize = (lambda found, shape: found), mock.Mock(), mock.Mock()
    found = []
    for target in given["targets"]:
        with tf.Graph().as_default():
            found.append(code.grad_CAM_plus("", int(target), ""))
    return found


if __name__ == "__main__":
    peer, before, after = sys.argv[1:]
    with np.load(before) as arrays:
        given = dict(arrays)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            run = {
                "tf-keras-vis": tf_keras_vis,
                "xplique": xplique,
                "xplique-removal": xplique_removal,
                "original": original,
            }[peer]
            maps = {
                layer: np.stack([np.asarray(found) for found in run(given, layer)])
                for layer in given["explain"].tolist()
            }
    except ImportError as missing:
        print(missing)
        sys.exit(3)
    np.savez(after, **maps)
