"""Where the maps of the digits network fall: pointing game, and how many of one to four copies each method finds.

2,000 canvases of digits and textures never trained on, 500 with each number of copies; the class explained is the
true one; maps at block3_conv2, resized bilinearly to the canvas.

- Pointing game: the share of canvases on which the map's largest value lies inside a copy's box.
- Found: the share of copies in whose box the map reaches half its maximum somewhere.
- Outside: the share of the canvas outside all boxes on which the map is at least half its maximum. Without it,
  "found" is easily had: a random map reaches half its maximum everywhere.

CAM is not defined on a network with hidden dense layers. Its row has a linear head of its own, fitted here to the
global averages of the same block3_conv2 on training canvases; the accuracy of that head is printed beside it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxcam
from examples.digits import canvases
from jaxcam import metrics

LAYER = "block3_conv2"
SEED = 3_000_000


def measure(*, small: bool = False) -> dict:
    """The table, as rows and as Markdown; small takes 16 canvases."""
    count, training = (4, 200) if small else (500, 4000)
    cut = jaxcam.cut(jaxcam.digits(), LAYER)
    pooled = pooled_head(cut, training)
    drawn = {n: canvases.draw_many(SEED + n, "test", count, copies=n) for n in range(1, 5)}
    pooled_accuracy = accuracy(pooled, [canvas for part in drawn.values() for canvas in part])

    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name, explain in methods(cut, pooled).items():
        row = rows[name] = {}
        for copies, part in drawn.items():
            scored = [score(np.asarray(explain(c.image, c.label, jax.random.key(i))), c) for i, c in enumerate(part)]
            pointing, found, outside = (float(np.mean(column)) for column in zip(*scored, strict=True))
            row[f"{copies} copies"] = {"pointing": pointing, "found": found, "outside": outside}
    return {
        "ratios": {"Grad-CAM's pointing game on single copies": rows["Grad-CAM"]["1 copies"]["pointing"]},
        "rows": rows,
        "accuracy": {
            "digits network": accuracy(cut, [canvas for part in drawn.values() for canvas in part]),
            "pooled head of the CAM row": pooled_accuracy,
        },
        "table": table(rows),
    }


def methods(cut, pooled):
    """Each row's map, `(image, target, key) -> [64 64]`."""
    fine = functools.partial(jaxcam.resize, shape=(canvases.SIDE, canvases.SIDE))

    def row(method, cut, **options):
        explain = jax.jit(lambda cut, image, target, key: fine(method(cut, image, target, **options)))
        return functools.partial(explain, cut)

    def smooth(numerator, n_samples, std):
        options = {"numerator": numerator, "n_samples": n_samples, "std": std}
        explain = jax.jit(lambda cut, *example: fine(jaxcam.smooth_grad_cam_pp(cut, *example, **options)))
        return functools.partial(explain, cut)

    rows, columns = np.mgrid[: canvases.SIDE, : canvases.SIDE] - (canvases.SIDE - 1) / 2
    gaussian = np.exp(-(rows**2 + columns**2) / (2 * (canvases.SIDE / 4) ** 2))
    return {
        "CAM (pooled head)": row(jaxcam.cam, pooled),
        "Grad-CAM": row(jaxcam.grad_cam, cut),
        "Grad-CAM++": row(jaxcam.grad_cam_pp, cut),
        "Grad-CAM++, softmax": row(jaxcam.grad_cam_pp, cut, score=jaxcam.scores.log_softmax),
        "Smooth Grad-CAM++, n = 5, std 0.15": smooth("second", 5, 0.15),
        "Smooth Grad-CAM++, n = 5, std 0.3": smooth("second", 5, 0.3),
        "Smooth Grad-CAM++, n = 50, std 0.15": smooth("second", 50, 0.15),
        "Smooth Grad-CAM++ as printed, n = 5, std 0.15": smooth("first", 5, 0.15),
        "random": lambda image, target, key: fine(jax.random.uniform(key, (16, 16))),
        "center Gaussian": lambda image, target, key: gaussian,
    }


@jax.jit
def measured(saliency, boxes):
    """Pointing game, share of copies found, share of the rest that is as bright."""
    inside = metrics.inside(boxes, saliency.shape).any(0)
    return [
        metrics.pointing_game(saliency, inside),
        metrics.found(saliency, boxes),
        metrics.spill(saliency, boxes),
    ]


def score(saliency, canvas):
    """As floats; boxes of no area stand for copies that are not there, so that one program does for all canvases."""
    boxes = np.zeros((4, 4), np.int32)
    boxes[: len(canvas.boxes)] = canvas.boxes
    return [float(each) for each in measured(jnp.asarray(saliency), boxes)]


def pooled_head(cut, training):
    """A cut with the same features and a linear head on their global average, fitted on training canvases."""
    drawn = canvases.draw_many(SEED, "train", training)
    pool = jax.jit(jax.vmap(lambda image: cut.features(cut.params, image).mean((0, 1))))
    x = jnp.concatenate([pool(np.array([c.image for c in drawn[i : i + 100]])) for i in range(0, training, 100)])
    y = jnp.array([c.label for c in drawn])
    scale = x.std(0) + 1e-6
    optimizer = optax.adam(3e-2)

    def step(carry, _):
        head, state = carry

        def loss(head):
            return optax.softmax_cross_entropy_with_integer_labels(x / scale @ head[0] + head[1], y).mean()

        change, state = optimizer.update(jax.grad(loss)(head), state)
        return (optax.apply_updates(head, change), state), None

    head = (jnp.zeros((x.shape[1], 10)), jnp.zeros(10))
    (head, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, length=2000))((head, optimizer.init(head)))
    params = (cut.params, head[0] / scale[:, None], head[1])
    return jaxcam.Cut(
        params,
        lambda params, x: cut.features(params[0], x),
        lambda params, A, x: A.mean((0, 1)) @ params[1] + params[2],
        LAYER,
    )


def accuracy(cut, drawn) -> float:
    """The share of canvases whose digit has the largest logit."""
    forward = jax.jit(lambda cut, x: cut.head(cut.params, cut.features(cut.params, x), x).argmax())
    return float(np.mean([int(forward(cut, c.image)) == c.label for c in drawn]))


def table(rows) -> str:
    """Markdown: pointing / found / outside, a column for each number of copies."""
    columns = list(next(iter(rows.values())))
    lines = ["| pointing / found / outside | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name, row in rows.items():
        cells = [" / ".join(f"{row[c][kind]:.2f}" for kind in ("pointing", "found", "outside")) for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
