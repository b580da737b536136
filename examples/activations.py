"""Where the usual computation of Grad-CAM++ differs from its definition: eight activations with the same weights.

python -m examples.activations --out .

The digits network was trained with relu. Here the same weights run with other activations. The network is worse with
them; what matters here are its derivatives. For each activation, the closed form (powers of the gradient, for the
logit) is compared with the exact derivatives of Y = exp(logit), and both maps are drawn.
"""

import argparse
import pathlib

import jax
import numpy as np

import jaxcam

NAMES = ("relu", "leaky_relu", "relu6", "elu", "softplus", "silu", "gelu", "tanh")


def main():
    """Print a line for each activation, and draw both maps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    parser.add_argument("--canvas", type=int, default=1, help="number of the sample canvas")
    parser.add_argument("--activations", nargs="+", choices=NAMES, default=NAMES)
    arguments = parser.parse_args()
    image, _ = jaxcam.pretrained.digits_canvas(arguments.canvas)
    target = int(jaxcam.digits()(jax.numpy.asarray(image)[None])[0].argmax())

    print(f"{'activation':<12}{'certificate':<46}{'Y2':>9}{'Y3':>9}{'weights':>9}{'map':>9}")
    titles: list[str] = []
    rows: dict[str, list[np.ndarray]] = {"exact": [], "closed form": []}
    for name in arguments.activations:
        cut = jaxcam.cut(jaxcam.digits(activation=getattr(jax.nn, name)), "block3_conv2")
        validation = jaxcam.validate(cut, image, target, scores=[jaxcam.scores.logit], links=["exp"])
        (row,), certificate = validation.comparisons, validation.certificate
        verdict = "locally affine" if certificate.affine else "; ".join(dict.fromkeys(map(str, certificate.stops)))
        numbers = "".join(f"{row.errors[quantity]:9.1e}" for quantity in ("Y2", "Y3", "weights", "map"))
        print(f"{name:<12}{verdict:<46}{numbers}", flush=True)
        rows["exact"].append(row.exact["map"])
        rows["closed form"].append(row.approximate["map"])
        titles.append(f"{name}: map error {row.errors['map']:.1e}")
    print("relative errors of the closed form: mean |closed - exact| / mean |exact|")
    figure = jaxcam.plots.compare([image] * len(titles), rows, titles=titles)
    jaxcam.plots.save(figure, arguments.out / "activations.png", force=True)
    print(arguments.out / "activations.png")


if __name__ == "__main__":
    main()
