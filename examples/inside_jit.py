"""The functional API inside jit: one compiled function from an image to its class, probability and map.

    python -m examples.inside_jit

The cut is an argument, and its leaves are the parameters. If the function closed over it, the parameters would become
constants of the program.
"""

import jax

import jaxcam


@jax.jit
def explain(cut, image, key):
    """The most probable class, its probability, and its map, resized to the image and normalized to 0..1."""
    outputs = cut.head(cut.params, cut.features(cut.params, image), image)
    target = outputs.argmax()
    saliency = jaxcam.smooth_grad_cam_pp(cut, image, target, key, n_samples=5, std=0.15)
    resized = jaxcam.normalize(jaxcam.resize(saliency, image.shape[:2]))
    return target, jax.nn.softmax(outputs)[target], resized


def main():
    """Explain three canvases. The function is traced and compiled once."""
    cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    for number in range(3):
        image, _ = jaxcam.pretrained.digits_canvas(number)
        target, probability, saliency = explain(cut, image, jax.random.key(number))
        print(f"canvas {number}: class {int(target)}, probability {probability:.3f}, map {saliency.shape}")


if __name__ == "__main__":
    main()
