"""A gradient through a map: gradient descent on an image moves the network's map out of a region.

python -m examples.map_in_a_loss --steps 30
"""

import argparse

import jax
import jax.numpy as jnp

import jaxcam


def inside(cut, image, target, region):
    """The share of the map inside `region`, `[16 16]` of 0 and 1."""
    saliency = jaxcam.grad_cam_pp(cut, image, target, score=jaxcam.scores.log_softmax)
    return (saliency * region).sum() / (saliency.sum() + 1e-9)


@jax.jit
def step(cut, image, target, region):
    """One descent step on the share of the map inside the region, along the gradient scaled to unit length."""
    share, gradient = jax.value_and_grad(inside, argnums=1)(cut, image, target, region)
    return share, jnp.clip(image - 0.3 * gradient / (jnp.linalg.norm(gradient) + 1e-9), 0, 1)


def main():
    """Move the map away from one of two copies of a 3."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    steps = parser.parse_args().steps
    cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    image, boxes = jaxcam.pretrained.digits_canvas(1)
    row0, column0, row1, column1 = boxes[0] // 4
    region = jnp.zeros((16, 16)).at[row0 : row1 + 1, column0 : column1 + 1].set(1)
    target = int(cut.head(cut.params, cut.features(cut.params, jnp.asarray(image)), image).argmax())
    before = float(inside(cut, image, target, region))
    changed = jnp.asarray(image)
    for _ in range(steps):
        _, changed = step(cut, changed, target, region)
    after = float(inside(cut, changed, target, region))
    moved = float(jnp.abs(changed - image).mean())
    print(f"share of the map on the first copy: {before:.3f} before, {after:.3f} after {steps} steps")
    print(f"mean change of a pixel: {moved:.4f}")


if __name__ == "__main__":
    main()
