"""The functional API inside jit: one compiled function from picture to class, probability and map at its resolution.

    python -m examples.inside_jit

The cut is an argument: its leaves are the parameters. Closed over, they would become constants of the program.
"""

import jax

import jaxcam


@jax.jit
def explain(cut, image, key):
    """The most probable class, its probability, and its map, resized to the image and scaled to 0..1."""
    outputs = cut.head(cut.params, cut.features(cut.params, image), image)
    target = outputs.argmax()
    saliency = jaxcam.smooth_grad_cam_pp(cut, image, target, key, n_samples=5, std=0.15)
    fine = jaxcam.normalize(jaxcam.resize(saliency, image.shape[:2]))
    return target, jax.nn.softmax(outputs)[target], fine


def main():
    """Explain three canvases; the function is traced and compiled once."""
    cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    for number in range(3):
        image, _ = jaxcam.pretrained.digits_canvas(number)
        target, probability, saliency = explain(cut, image, jax.random.key(number))
        print(f"canvas {number}: class {int(target)}, probability {probability:.3f}, map {saliency.shape}")


if __name__ == "__main__":
    main()
