"""The maps of every method and the tables of one evaluation, saved, or compared with those that were saved.

    python tests/golden.py save FILE.npz [maps | tables]
    python tests/golden.py compare FILE.npz [maps | tables]

Run `save` before a change that must not alter a map, and `compare` after it. `compare` prints how many arrays are equal
bit for bit, and the largest difference of each other array as a share of its maximum; it exits with 1 above 1e-6.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxcam

TOLERANCE = 1e-6


class Convolutional(nnx.Module):
    """Three convolutions and a pooled linear head."""

    def __init__(self, activation, rngs):
        self.activation = activation
        self.conv1 = nnx.Conv(3, 8, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.conv2 = nnx.Conv(8, 12, (3, 3), strides=2, rngs=rngs)
        self.conv3 = nnx.Conv(12, 12, (3, 3), rngs=rngs)
        self.dense = nnx.Linear(12, 7, rngs=rngs)

    def __call__(self, x):
        x = self.activation(self.norm(self.conv1(x)))
        x = self.activation(self.conv2(x))
        x = self.activation(self.conv3(x))
        return self.dense(x.mean((1, 2)))


class Block(nnx.Module):
    """A transformer block."""

    def __init__(self, width, rngs):
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, width, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 2 * width, rngs=rngs)
        self.down = nnx.Linear(2 * width, width, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class Transformer(nnx.Module):
    """Patches, two blocks, and the mean of the tokens."""

    def __init__(self, rngs):
        self.patches = nnx.Conv(3, 16, (8, 8), strides=8, rngs=rngs)
        self.blocks = nnx.List([Block(16, rngs), Block(16, rngs)])
        self.norm = nnx.LayerNorm(16, rngs=rngs)
        self.dense = nnx.Linear(16, 7, rngs=rngs)

    def __call__(self, x):
        x = self.patches(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        for block in self.blocks:
            x = block(x)
        return self.dense(self.norm(x).mean(1))


def cuts():
    """A cut, or cuts, of each model, by name."""
    relu = Convolutional(nnx.relu, nnx.Rngs(0))
    gelu = Convolutional(nnx.gelu, nnx.Rngs(1))
    transformer = Transformer(nnx.Rngs(2))
    return {
        "digits": jaxcam.cut(jaxcam.digits(), "block3_conv2"),
        "digits, two layers": jaxcam.cut(jaxcam.digits(), ["block2_conv2", "block3_conv2"]),
        "relu": jaxcam.cut(relu, "conv2", after=nnx.relu),
        "relu, two layers": jaxcam.cut(relu, ["conv2", "conv3"]),
        "gelu": jaxcam.cut(gelu, "conv2"),
        "transformer": jaxcam.cut(transformer, "blocks/0", grid=(4, 4)),
    }


METHODS = {
    "grad_cam": jaxcam.grad_cam,
    "grad_cam_plus": jaxcam.grad_cam_plus,
    "grad_cam_pp": jaxcam.grad_cam_pp,
    "grad_cam_pp, closed form": functools.partial(jaxcam.grad_cam_pp, derivatives="closed_form"),
    "grad_cam_pp, log_softmax": functools.partial(jaxcam.grad_cam_pp, score=jaxcam.scores.log_softmax),
    "smooth_grad_cam_pp": functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=5),
    "smooth_grad_cam_pp, first": functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=5, numerator="first"),
    "counterfactual_grad_cam": jaxcam.counterfactual_grad_cam,
    "xgrad_cam": jaxcam.xgrad_cam,
    "hires_cam": jaxcam.hires_cam,
    "layer_cam": jaxcam.layer_cam,
    "layer_cam, smoothed": functools.partial(jaxcam.layer_cam, n_samples=5),
    "grad_cam, filters": functools.partial(jaxcam.grad_cam, select=jaxcam.select(filters=[0, 3])),
    "grad_cam, region": functools.partial(jaxcam.grad_cam, select=jaxcam.select(region=True, subset=[(0, 0), (2, 2)])),
    "grad_cam, grown": functools.partial(jaxcam.grad_cam, n_samples=32, standard_error=0.05),
}
ONE_LAYER = {
    "score_cam": jaxcam.score_cam,
    "input_gradient": jaxcam.input_gradient,
    "saliency": jaxcam.saliency,
    "guided_backprop": jaxcam.guided_backprop,
    "deconvnet": jaxcam.deconvnet,
    "smooth_grad": functools.partial(jaxcam.smooth_grad, n_samples=5),
    "var_grad": functools.partial(jaxcam.var_grad, n_samples=5),
    "square_grad": functools.partial(jaxcam.square_grad, n_samples=5),
    "integrated_gradients": functools.partial(jaxcam.integrated_gradients, steps=8),
    "guided_grad_cam": jaxcam.guided_grad_cam,
    "average_maps": functools.partial(jaxcam.average_maps(jaxcam.grad_cam), n_samples=5),
    "grad_cam_pp, torch-cam": functools.partial(jaxcam.grad_cam_pp, compat="torch-cam"),
    "grad_cam_pp, xplique": functools.partial(jaxcam.grad_cam_pp, compat="xplique"),
}
NEEDS_RELU = {"guided_backprop", "deconvnet", "guided_grad_cam"}
NEEDS_KEY = {"smooth_grad", "var_grad", "square_grad", "average_maps"}


def maps():
    """Every map, by name."""
    found = {}
    for name, cut in cuts().items():
        image = jaxcam.pretrained.digits_canvas(1)[0] if name.startswith("digits") else _image()
        methods = METHODS if isinstance(cut, jaxcam.Cuts) else METHODS | ONE_LAYER
        for title, method in methods.items():
            if title in NEEDS_RELU and name in ("gelu", "transformer"):
                continue
            noisy = "n_samples" in getattr(method, "keywords", {}) or title in NEEDS_KEY
            key = [jax.random.key(3)] if noisy else []
            for i, leaf in enumerate(jax.tree.leaves(method(cut, image, 2, *key))):
                found[f"{name} / {title} / {i}"] = np.asarray(leaf)
        if not isinstance(cut, jaxcam.Cuts):
            A = cut.features(cut.params, image)
            derivatives = jaxcam.derivatives.exact(lambda A, cut=cut, x=image: cut.head(cut.params, A, x)[2], A)
            found |= {f"{name} / exact / {p}": np.asarray(each) for p, each in enumerate(derivatives)}
    return found


def tables():
    """The estimates of one evaluation."""
    cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    examples = []
    for number in range(3):
        image, _ = jaxcam.pretrained.digits_canvas(number)
        for turn in range(4):
            mask = np.zeros(image.shape[:2], bool)
            mask[8 * turn : 8 * turn + 24, 16:40] = True
            boxes = np.array([[16, 8 * turn, 40, 8 * turn + 24]], np.float32)
            examples.append(jaxcam.Example(np.rot90(image, turn).copy(), 2, mask, boxes, name=f"{number}-{turn}"))
    methods = {
        "grad_cam": jaxcam.grad_cam,
        "grad_cam_pp": jaxcam.grad_cam_pp,
        "smooth": functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=3),
    }
    result = jaxcam.evaluate(cut, examples, methods, key=jax.random.key(0), target="label")
    found = {}
    for name, record in result.as_dict()["images"].items():
        for method, columns in record["rows"].items():
            for column, value in columns.items():
                found[f"table / {name} / {method} / {column}"] = np.asarray(value)
    return found


def _image():
    return np.asarray(jax.random.uniform(jax.random.key(7), (32, 32, 3)))


def compared(saved, found):
    """How the found arrays differ from the saved ones, as text, and the largest difference."""
    equal, worst, lines = 0, 0.0, []
    for name in sorted(saved.keys() | found.keys()):
        if name not in saved or name not in found:
            lines.append(f"{name}: only {'saved' if name in saved else 'found'}")
            worst = max(worst, jnp.inf)
        elif saved[name].shape == found[name].shape and np.array_equal(saved[name], found[name], equal_nan=True):
            equal += 1
        else:
            a, b = saved[name].astype(np.float64), found[name].astype(np.float64)
            share = np.inf if a.shape != b.shape else np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)
            lines.append(f"{name}: {share:.2e} of the maximum")
            worst = max(worst, share)
    return [
        *lines,
        f"{equal} of {len(saved)} arrays are equal bit for bit; the largest difference is {worst:.2e}",
    ], worst


if __name__ == "__main__":
    action, path, *parts = sys.argv[1:]
    arrays = {}
    for part in parts or ("maps", "tables"):
        arrays |= {"maps": maps, "tables": tables}[part]()
    if action == "save":
        np.savez_compressed(path, **arrays)
        print(f"{len(arrays)} arrays in {path}")
    else:
        with np.load(path) as file:
            report, worst = compared(dict(file), arrays)
        print("\n".join(report))
        sys.exit(int(worst > TOLERANCE))
