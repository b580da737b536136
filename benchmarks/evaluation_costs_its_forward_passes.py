"""An evaluation costs the forward passes that its metrics are defined by: at most 1.25 times, 12 methods, all metrics.

VGG-16 with random weights at 224 x 224 under a pooled linear head, cut at block5_conv3; an image of noise with a mask
and a box. The floor, in the same run and in turn, is the bare forward pass of one image, jitted, times the number of
passes that cannot be avoided. For an image they are

- 1 for all maps and for the probabilities, and 2 for the ends of the deletion and insertion curves;
- n for each smoothed method, but one set for two methods that differ by the numerator alone;
- for each map that is another: 9 between the ends of deletion, 9 of insertion, 4 and 4 of ROAD, 9 of the confidence;
- for ADCC, 1 for the masked image of each method, of which the drop is had as well, and n more for each smoothed one.

Maps that are the same to 1e-6 count once: under this head CAM, Grad-CAM, XGrad-CAM and HiResCAM are one map, and the
exact Grad-CAM++ is its closed form. Above the floor lie the heads' derivatives, sorting pixels, ROAD's imputation, the
metrics of masks and boxes. Score-CAM is not among the twelve: it would add 2 x 512 passes an image, its own and those
of ADCC, more than twice all the others.
"""

import functools
import statistics

import jax
import numpy as np
from flax import nnx

import jaxcam
from benchmarks import timing
from jaxcam import evaluation
from jaxcam._base import types
from jaxcam.evaluation import _loaded, _scorer, measures

BOUND = 1.25
PHOTOGRAPHS = 150
N = 5
OF_A_MAP = 9 + 9 + 2 * 4 + 9
SMOOTHED = {
    f"Smooth Grad-CAM++, std {std}, {numerator} over": functools.partial(
        jaxcam.smooth_grad_cam_pp, n_samples=N, std=std, numerator=numerator
    )
    for std, numerator in ((0.15, "second"), (0.15, "first"), (0.3, "second"))
}
SETS_OF_SAMPLES = 2  # one for each std
METHODS: dict[str, types.Method] = {
    "CAM": jaxcam.cam,
    "Grad-CAM": jaxcam.grad_cam,
    "Grad-CAM++, closed form": functools.partial(jaxcam.grad_cam_pp, derivatives="closed_form"),
    "Grad-CAM++, exact": jaxcam.grad_cam_pp,
    "XGrad-CAM": jaxcam.xgrad_cam,
    "HiResCAM": jaxcam.hires_cam,
    "LayerCAM": jaxcam.layer_cam,
    "Counterfactual Grad-CAM": jaxcam.counterfactual_grad_cam,
    **SMOOTHED,
}


def measure(*, small: bool = False) -> dict:
    """The ratio, the count, and what it comes to for 150 photographs; small runs a small VGG."""
    if small:
        model, layer, repeats, passes_at_a_time = jaxcam.vgg_digits(top="average"), "block3_conv2", 1, 5
    else:
        build = functools.partial(jaxcam.vgg16, top="average", classes=3)
        model, layer, repeats, passes_at_a_time = build(rngs=nnx.Rngs(0)), "block5_conv3", 2, 60
    cut = jaxcam.cut(model, layer)
    height, width, _ = model.image_shape
    rng = np.random.default_rng(0)
    mask = np.zeros((height, width), np.int8)
    mask[height // 4 : height // 2, width // 4 :] = 1
    boxes = np.array([[height // 4, width // 4, height // 2, width]])
    image = rng.uniform(0, 1, model.image_shape).astype(np.float32)
    example = _loaded.loaded(jaxcam.Example(image, 0, mask, boxes))

    rows = {**METHODS, **evaluation.CONTROLS}  # Grad-CAM+, the twelfth method, is a control as well
    measured = measures.named()
    scorer = _scorer.Scorer(cut, jax.random.key(0), rows, measured, count=1)
    forward = jax.jit(lambda cut, x: cut.head(cut.params, cut.features(cut.params, x), x))
    (record,) = scorer([example])
    maps = {str(row["deletion"]["deletion_curve"]) for row in record["rows"].values()}
    of_methods = 1 + SETS_OF_SAMPLES * N
    of_metrics = 2 + OF_A_MAP * len(maps) + len(rows) + N * len(SMOOTHED)
    passes = of_methods + of_metrics

    times = timing.in_turn(
        {
            "evaluation": lambda: scorer([example]) and None,
            "passes": lambda: [forward(cut, image).block_until_ready() for _ in range(passes_at_a_time)],
        },
        repeats=repeats,
    )
    bare = [seconds / passes_at_a_time for seconds in times["passes"]]
    ratio = statistics.median(whole / (each * passes) for whole, each in zip(times["evaluation"], bare, strict=True))
    hours = PHOTOGRAPHS * statistics.median(times["evaluation"]) / 3600
    return {
        "ratios": {f"evaluation / {passes} forward passes an image": ratio},
        "bound": BOUND,
        "passes": {"methods": of_methods, "metrics": of_metrics, "maps that differ": len(maps), "rows": len(rows)},
        "hours for 150 photographs, by these seconds": hours,
        "passes for 150 photographs": PHOTOGRAPHS * passes,
        "seconds": timing.summary(times),
    }
