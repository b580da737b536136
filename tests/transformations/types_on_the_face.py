# mypy: warn-unused-ignores
"""The types that a type checker sees on the public face. mypy reads this file; pytest does not run it.

`assert_type` fails if mypy infers another type, so a decorator that loses the types, or a function that returns `Any`,
is found here.
"""

import functools
from collections.abc import Callable
from typing import assert_type

import jax

import jaxcam

Maps = dict[str, jax.Array]


def types_of_gradient_methods(cut: jaxcam.Cut, cuts: jaxcam.Cuts, image: jax.Array, key: jax.Array) -> None:
    """The result follows from the cut and from `standard_error`, for each method on its own line."""
    assert_type(jaxcam.grad_cam(cut, image), jax.Array)
    assert_type(jaxcam.grad_cam(cuts, image), Maps)
    assert_type(jaxcam.grad_cam(cut, image, 3, key, n_samples=64, standard_error=0.1), jaxcam.Smoothed[jax.Array])
    assert_type(jaxcam.grad_cam(cuts, image, 3, key, n_samples=64, standard_error=0.1), jaxcam.Smoothed[Maps])
    assert_type(jaxcam.grad_cam(cut, image, 3, key, n_samples=64, standard_error=0.1).map, jax.Array)
    assert_type(jaxcam.grad_cam(cut, image, standard_error=None), jax.Array)

    assert_type(jaxcam.gradient_cam(cut, image, weigh=jaxcam.weights.xgrad_cam, order=1), jax.Array)
    assert_type(jaxcam.gradient_cam(cuts, image, weigh=jaxcam.weights.xgrad_cam, order=1), Maps)
    grown = jaxcam.gradient_cam(cut, image, 3, key, weigh=jaxcam.weights.xgrad_cam, order=1, standard_error=0.1)
    assert_type(grown, jaxcam.Smoothed[jax.Array])

    assert_type(jaxcam.grad_cam_plus(cut, image), jax.Array)
    assert_type(jaxcam.grad_cam_pp(cut, image, link="exp", numerator="first"), jax.Array)
    assert_type(jaxcam.grad_cam_pp(cuts, image, score=jaxcam.scores.log_softmax), Maps)
    assert_type(jaxcam.smooth_grad_cam_pp(cut, image, None, key, n_samples=5, std=0.3), jax.Array)
    assert_type(jaxcam.smooth_grad_cam_pp(cuts, image, None, key), Maps)
    sampled = jaxcam.grad_cam_pp(cut, image, 3, key, derivatives="sampled", n_locations=20, alpha="bounded")
    assert_type(sampled, jaxcam.Sampled[jax.Array])
    assert_type(sampled.weights_standard_error, jax.Array)
    assert_type(
        jaxcam.smooth_grad_cam_pp(cuts, image, 3, key, derivatives="sampled", n_locations=20), jaxcam.Sampled[Maps]
    )
    assert_type(jaxcam.counterfactual_grad_cam(cut, image), jax.Array)
    assert_type(jaxcam.xgrad_cam(cut, image), jax.Array)
    assert_type(jaxcam.hires_cam(cut, image), jax.Array)
    assert_type(jaxcam.layer_cam(cuts, image), Maps)


def types_of_methods_at_one_layer(cut: jaxcam.Cut, cuts: jaxcam.Cuts, image: jax.Array, key: jax.Array) -> None:
    """The decorator keeps the parameters and the result."""
    assert_type(jaxcam.cam(cut, image), jax.Array)
    assert_type(jaxcam.score_cam(cut, image, 3, batch_size=4), jax.Array)
    assert_type(jaxcam.grad_cam_plus_smooth(object(), image), jax.Array)
    assert_type(jaxcam.controls.random(cut, image, None, key), jax.Array)
    assert_type(jaxcam.controls.center_gaussian(cut, image), jax.Array)
    jaxcam.cam(cuts, image)  # type: ignore[arg-type]
    jaxcam.score_cam(cut, image, channels=4)  # type: ignore[call-arg]


def types_of_pixel_methods(cut: jaxcam.Cut, image: jax.Array, key: jax.Array) -> None:
    """Methods in the input's space, and averages over noise."""
    assert_type(jaxcam.input_gradient(cut, image), jax.Array)
    assert_type(jaxcam.saliency(cut, image), jax.Array)
    assert_type(jaxcam.guided_backprop(cut, image), jax.Array)
    assert_type(jaxcam.pixels.deconvnet(cut, image), jax.Array)
    assert_type(jaxcam.integrated_gradients(cut, image, baseline=0.5), jax.Array)
    assert_type(jaxcam.guided_grad_cam(cut, image, method=jaxcam.grad_cam_pp), jax.Array)
    assert_type(jaxcam.smooth_grad(cut, image, 3, key, score=jaxcam.scores.log_softmax), jax.Array)
    assert_type(jaxcam.var_grad(cut, image, 3, key, standard_error=0.1), jaxcam.Smoothed[jax.Array])
    assert_type(jaxcam.square_grad(cut, image, 3, key), jax.Array)


def types_of_averages(cut: jaxcam.Cut, cuts: jaxcam.Cuts, image: jax.Array, key: jax.Array) -> None:
    """An average has the map of its method."""
    assert_type(jaxcam.average_maps(jaxcam.layer_cam)(cut, image, 3, key), jax.Array)
    assert_type(jaxcam.average_maps(jaxcam.layer_cam)(cuts, image, 3, key), Maps)
    assert_type(jaxcam.average_maps(jaxcam.score_cam, statistic="variance")(cut, image, 3, key), jax.Array)
    bound = functools.partial(jaxcam.grad_cam_pp, link="exp")
    assert_type(jaxcam.average_maps(bound)(cut, image, 3, key), jax.Array)
    grown = jaxcam.average_maps(jaxcam.score_cam)(cut, image, 3, key, n_samples=64, standard_error=0.1)
    assert_type(grown, jaxcam.Smoothed[jax.Array])


def types_of_options(cut: jaxcam.Cut, image: jax.Array) -> None:
    """A misspelled option, or one of another type, is an error."""
    jaxcam.grad_cam(cut, image, n_sample=5)  # type: ignore[call-overload]
    jaxcam.grad_cam(cut, image, link=3)  # type: ignore[call-overload]
    jaxcam.gradient_cam(cut, image, order=1)  # type: ignore[call-overload]


def types_of_formulas(A: jax.Array, w: jax.Array) -> None:
    """The equations on arrays."""
    assert_type(jaxcam.maps.weighted_sum(A, w), jax.Array)
    assert_type(jaxcam.normalize(A), jax.Array)
    assert_type(jaxcam.resize(A, (224, 224)), jax.Array)
    assert_type(jaxcam.fuse({"block5": A, "block4": w}), jax.Array)
    assert_type(jaxcam.select(filters=[3]), Callable[[jax.Array], jax.Array])
    assert_type(jaxcam.weights.grad_cam_pp(A, A, A, A), jax.Array)
    assert_type(jaxcam.compat.grad_cam_pp("xplique", A, w, A), jax.Array)
    assert_type(jaxcam.scores.log_softmax(w, 3), jax.Array)


# Every method fits where a function of this form is expected.
METHODS: dict[str, Callable[..., jax.Array]] = {
    "CAM": jaxcam.cam,
    "Grad-CAM": jaxcam.grad_cam,
    "Grad-CAM++": functools.partial(jaxcam.grad_cam_pp, link="exp"),
    "LayerCAM, averaged": jaxcam.average_maps(jaxcam.layer_cam),
    "SmoothGrad": jaxcam.smooth_grad,
    "random": jaxcam.controls.random,
}
