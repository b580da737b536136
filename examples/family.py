"""All methods on one image: maps of one layer, a map of three layers, and attributions of pixels.

python -m examples.family --out .

The canvas shows two copies of its class. Each map is normalized on its own and drawn over the canvas. Of an
attribution of pixels, the largest absolute value over channels is drawn.
"""

import argparse
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

import jaxcam

KEY = jax.random.key(0)


def main():
    """Draw family.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    parser.add_argument("--canvas", type=int, default=1, help="number of the sample canvas")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="panels to draw (default: all)")
    arguments = parser.parse_args()
    model = jaxcam.digits()
    cut = jaxcam.cut(model, "block3_conv2")
    image, _ = jaxcam.pretrained.digits_canvas(arguments.canvas)
    target = int(model(jnp.asarray(image)[None])[0].argmax())

    smooth: dict[str, Any] = {"n_samples": 20, "std": 0.15}
    several = jaxcam.cut(model, ["block1_conv2", "block2_conv2", "block3_conv2"])
    family = {
        "Grad-CAM": lambda: jaxcam.grad_cam(cut, image, target),
        "Grad-CAM+": lambda: jaxcam.grad_cam_plus(cut, image, target),
        "Grad-CAM++": lambda: jaxcam.grad_cam_pp(cut, image, target),
        "Smooth Grad-CAM++": lambda: jaxcam.smooth_grad_cam_pp(cut, image, target, KEY, **smooth),
        "XGrad-CAM": lambda: jaxcam.xgrad_cam(cut, image, target),
        "HiResCAM": lambda: jaxcam.hires_cam(cut, image, target),
        "LayerCAM": lambda: jaxcam.layer_cam(cut, image, target),
        "LayerCAM, three layers": lambda: jaxcam.fuse(jaxcam.layer_cam(several, image, target), how="maximum"),
        "Score-CAM": lambda: jaxcam.score_cam(cut, image, target),
        "Counterfactual": lambda: jaxcam.counterfactual_grad_cam(cut, image, target),
        "HiResCAM, smoothed": lambda: jaxcam.hires_cam(cut, image, target, KEY, **smooth),
        "Saliency": lambda: jaxcam.saliency(cut, image, target),
        "SmoothGrad": lambda: jaxcam.smooth_grad(cut, image, target, KEY, **smooth),
        "VarGrad": lambda: jaxcam.var_grad(cut, image, target, KEY, **smooth),
        "Guided backprop": lambda: jaxcam.guided_backprop(cut, image, target),
        "Deconvnet": lambda: jaxcam.deconvnet(cut, image, target),
        "Integrated gradients": lambda: jaxcam.integrated_gradients(cut, image, target),
        "Guided Grad-CAM": lambda: jaxcam.guided_grad_cam(cut, image, target),
        "Guided, smoothed": lambda: jaxcam.guided_grad_cam(cut, image, target, KEY, **smooth),
    }
    maps = {}
    for name in arguments.only or family:
        attribution = family[name]()
        maps[name] = attribution if attribution.ndim == 2 else jnp.abs(attribution).max(-1)
    figure = jaxcam.plots.family(image, maps, columns=5, title=f"class {target}")
    jaxcam.plots.save(figure, arguments.out / "family.png", force=True)
    print(jaxcam.diagnose(cut, image, target))
    print(arguments.out / "family.png")


if __name__ == "__main__":
    main()
