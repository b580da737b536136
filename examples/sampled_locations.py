"""How near Grad-CAM++ from drawn locations comes to the exact one: a relu, a gelu and a gated head.

python -m examples.sampled_locations --out .

The embedded digits network at block3_conv2, 16 x 16 locations of 64 channels, on one canvas; with gelu in the place of
its relus; and with a squeeze-and-excite gate of random weights between the layer and the rest. A row is one number of
draws for each channel. The errors are means over keys: of the weights |estimate - exact| / |exact|, the same as the
standard errors predict it, and of the map, largest difference / largest value. "drawn" is the share of the locations
with Y1 > 0 that is drawn. The relu head is certified, so `derivatives="sampled"` draws nothing there, and its rows show
what the draws would give.
"""

import argparse
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

import jaxcam
from jaxcam.derivatives import exact, exact_cost, through_link
from jaxcam.formulas import sampling

LAYER = "block3_conv2"
DRAWS = (2, 4, 8, 16, 32, 64, 128)


def gated(cut: jaxcam.Cut) -> jaxcam.Cut:
    """The cut with a gate behind its layer: A times a sigmoid of two dense layers of the mean over space of A."""
    channels = 64
    narrow, wide = (
        jax.random.normal(key, shape) / shape[0] ** 0.5
        for key, shape in zip(jax.random.split(jax.random.key(0)), [(channels, 16), (16, channels)], strict=True)
    )

    def head(params, A, x):
        network, narrow, wide = params
        gate = jax.nn.sigmoid(4 * jax.nn.relu(A.mean((0, 1), keepdims=True) @ narrow) @ wide)
        return cut.head(network, A * gate, x)

    return jaxcam.Cut((cut.params, narrow, wide), lambda params, x: cut.features(params[0], x), head, LAYER)


def cuts() -> dict[str, tuple[jaxcam.Cut, str]]:
    """The heads by name, with the alphas that are used."""
    relu, gelu = (jaxcam.cut(jaxcam.digits(activation=f), LAYER) for f in (jax.nn.relu, jax.nn.gelu))
    return {
        "relu": (relu, "defined"),
        "gelu": (gelu, "defined"),
        "gelu, bounded alphas": (gelu, "bounded"),
        "gated relu": (gated(relu), "defined"),
    }


def errors_by_draws(
    cut: jaxcam.Cut, image: Any, target: int, alpha: str, draws: tuple[int, ...], keys: jax.Array
) -> dict[int, dict[str, float]]:
    """The mean errors for each number of draws."""

    @jax.jit
    def derivatives(cut):
        A = cut.features(cut.params, image)
        u = exact(lambda A: cut.head(cut.params, A, image)[target], A, where=lambda u1: u1 > 0)
        _, Y = through_link(u, link="exp")
        return A, Y, jaxcam.weights.grad_cam_pp(A, *Y, alpha=alpha)

    A, Y, weights = derivatives(cut)
    saliency = jaxcam.maps.weighted_sum(A, weights)

    def errors(key, A, Y, weights, saliency, n_locations):
        counts = sampling.draw_locations(key, Y[0], n_locations)
        estimate = sampling.sampled_grad_cam_pp(A, Y[0], Y[1], Y[2], counts, alpha=alpha)
        return {
            "weights": jnp.linalg.norm(estimate.weights - weights) / jnp.linalg.norm(weights),
            "predicted": jnp.linalg.norm(estimate.standard_error) / jnp.linalg.norm(weights),
            "map": jnp.abs(jaxcam.maps.weighted_sum(A, estimate.weights) - saliency).max() / saliency.max(),
            "drawn": (counts > 0).sum() / (Y[0] > 0).sum(),
        }

    over_keys = jax.jit(jax.vmap(errors, in_axes=(0, *[None] * 5)), static_argnums=5)
    rows = {n: over_keys(keys, A, Y, weights, saliency, n) for n in draws}
    return {n: {name: float(values.mean()) for name, values in row.items()} for n, row in rows.items()}


def print_table(name: str, cut: jaxcam.Cut, image: Any, rows: dict[int, dict[str, float]]):
    """Print the rows of a head."""
    A = jax.eval_shape(cut.features, cut.params, image)
    directions = exact_cost(lambda A: cut.head(cut.params, A, image)[0], A).directions
    print(f"\n{name}: {directions:,} directions for all locations")
    print(f"{'draws':>6}{'of locations':>14}{'drawn':>7}{'weights':>9}{'predicted':>11}{'map':>7}")
    for n, row in rows.items():
        print(
            f"{n:>6}{n / 256:>14.1%}{row['drawn']:>7.0%}{row['weights']:>9.3f}{row['predicted']:>11.3f}"
            f"{row['map']:>7.3f}",
            flush=True,
        )


def draw_figure(errors: dict[str, dict[int, dict[str, float]]]) -> Figure:
    """The errors of weights and maps by the share of locations."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    for axes, what in zip(panels, ("weights", "map"), strict=True):
        for name, rows in errors.items():
            share = [n / 256 for n in rows]
            (line,) = axes.loglog(share, [row[what] for row in rows.values()], marker="o", markersize=4, label=name)
            if what == "weights":
                predicted = [row["predicted"] for row in rows.values()]
                axes.loglog(share, predicted, linestyle=":", color=line.get_color())
        axes.set_xlabel("draws for each channel / locations")
        axes.set_xticks([0.01, 0.03, 0.1, 0.3], ["1%", "3%", "10%", "30%"])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
    panels[0].set_title("weights: |estimate - exact| / |exact|\n(dotted: from the standard errors)", fontsize=9)
    panels[1].set_title("map: largest difference / largest value", fontsize=9)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def main():
    """Print the tables, and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    parser.add_argument("--canvas", type=int, default=1, help="number of the sample canvas")
    parser.add_argument("--draws", type=int, nargs="+", default=DRAWS)
    parser.add_argument("--keys", type=int, default=100, help="that the errors are means over (default: 100)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    image = jnp.asarray(jaxcam.pretrained.digits_canvas(arguments.canvas)[0])
    target = int(jaxcam.digits()(image[None])[0].argmax())
    keys = jax.random.split(jax.random.key(0), arguments.keys)
    errors = {}
    for name, (cut, alpha) in cuts().items():
        errors[name] = errors_by_draws(cut, image, target, alpha, tuple(arguments.draws), keys)
        print_table(name, cut, image, errors[name])
    path = arguments.out / "sampled_locations.png"
    jaxcam.plots.save(draw_figure(errors), path, force=True)
    print(f"\n{path}")


if __name__ == "__main__":
    main()
