"""Does a map change when the network forgets? The model-randomisation check, module by module, on digit canvases.

    python -m examples.sanity --canvases 20

It prints, for each method and a control, the rank correlation of the map on the network as it is with that on the
network whose modules are shuffled, from the outputs down ("cascading") or one at a time ("independent"); means over the
canvases. A method that looks at what was learnt falls to near 0; one that stays near 1 fails.
"""

import argparse
from collections.abc import Callable

import jax
import numpy as np

import jaxcam
from examples.digits import canvases

SEED = 5_000_000
METHODS: dict[str, Callable[..., jax.Array]] = {
    "Grad-CAM": jaxcam.grad_cam,
    "Grad-CAM+": jaxcam.grad_cam_plus,
    "Grad-CAM++": jaxcam.grad_cam_pp,
    "HiResCAM": jaxcam.hires_cam,
    "LayerCAM": jaxcam.layer_cam,
    "mean activation": jaxcam.controls.mean_activation,
    "centre Gaussian": jaxcam.controls.center_gaussian,
}


def main():
    """Print a table for each order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--canvases", type=int, default=20)
    arguments = parser.parse_args()
    cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    drawn = canvases.draw_many(SEED, "test", arguments.canvases)
    for order in ("cascading", "independent"):
        print(f"\n{order}:\n")
        for number, (name, method) in enumerate(METHODS.items()):
            found = [
                jaxcam.metrics.model_randomisation(method, cut, c.image, c.label, jax.random.key(i), order=order)
                for i, c in enumerate(drawn)
            ]
            if number == 0:
                print(f"| | {' | '.join(found[0])} |\n|---|{'---|' * len(found[0])}")
            cells = (f"{np.mean([float(each[layer]) for each in found]):.2f}" for layer in found[0])
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
