"""What single feature maps and single neurons respond to: figures 4 and 5 of the Smooth Grad-CAM++ paper.

python -m examples.filters_and_neurons --out .
"""

import argparse
import pathlib

import jax
import numpy as np

import jaxcam


def main():
    """Draw the six strongest feature maps of the class, and the neurons around one copy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    folder = parser.parse_args().out
    cut, key = jaxcam.cut(jaxcam.digits(), "block3_conv2"), jax.random.key(0)
    image, boxes = jaxcam.pretrained.digits_canvas(1)

    every = jaxcam.smooth_grad_cam_pp(cut, image, None, key, select=jaxcam.select(filters=range(64)))
    chosen = np.argsort(np.asarray(every).sum((1, 2)))[::-1][:6].tolist()
    maps = jaxcam.smooth_grad_cam_pp(cut, image, None, key, select=jaxcam.select(filters=chosen))
    jaxcam.plots.save(jaxcam.plots.filters(image, maps, chosen), folder / "filters.png", force=True)

    row0, column0, row1, column1 = (boxes[0] // 4).tolist()
    corners = [(row0, column0), (min(row1, 15), min(column1, 15))]
    whole = jaxcam.smooth_grad_cam_pp(cut, image, None, key)
    part = jaxcam.smooth_grad_cam_pp(cut, image, None, key, select=jaxcam.select(region=True, subset=corners))
    figure = jaxcam.plots.neurons(image, part, corners, region=True, whole=whole)
    jaxcam.plots.save(figure, folder / "neurons.png", force=True)
    print(f"feature maps {chosen}: {folder / 'filters.png'}; neurons {corners}: {folder / 'neurons.png'}")


if __name__ == "__main__":
    main()
