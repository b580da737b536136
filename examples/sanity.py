"""Does a map change when the network forgets? The model randomization check, module by module, on digit canvases.

    python -m examples.sanity --canvases 20

For each method and two controls it prints the rank correlation between the map on the network as it is and the map on
the network with shuffled modules, as a mean over the canvases. Modules are shuffled from the outputs down ("cascading")
or one at a time ("independent"). For a method that depends on what was learned the correlation falls to nearly 0. A
method for which it stays near 1 fails the check.
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
    "center Gaussian": jaxcam.controls.center_gaussian,
}


def main():
    """Print a table for each order of shuffling."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--canvases", type=int, default=20)
    arguments = parser.parse_args()
    cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    drawn = canvases.draw_many(SEED, "test", arguments.canvases)
    for order in ("cascading", "independent"):
        print(f"\n{order}:\n")
        for number, (name, method) in enumerate(METHODS.items()):
            correlations = [
                jaxcam.metrics.model_randomisation(method, cut, c.image, c.label, jax.random.key(i), order=order)
                for i, c in enumerate(drawn)
            ]
            if number == 0:
                print(f"| | {' | '.join(correlations[0])} |\n|---|{'---|' * len(correlations[0])}")
            cells = (
                f"{np.mean([float(by_layer[layer]) for by_layer in correlations]):.2f}" for layer in correlations[0]
            )
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
