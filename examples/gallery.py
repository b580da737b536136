"""The gallery of the site: a figure for each method, and the code that draws it.

    python -m examples.gallery                              (docs/gallery.md and docs/images/gallery)
    python -m examples.gallery --only grad_cam occlusion    (some figures)

The photograph is scikit-image's cat, the network EfficientNet-Lite0, cut at the last convolution and at an earlier one,
at which the methods differ. Each function below draws one figure, and the page shows its lines.
"""

import argparse
import functools
import inspect
import pathlib
import textwrap
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam import plots
from jaxcam.runtime import replace

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "gallery.md"
PICTURES = PAGE.parent / "images" / "gallery"
LAST, EARLIER = "head", "blocks/11/expand"
WIDTH = 420  # of a picture on the page, in pixels

HEAD = """# Gallery

Every figure is drawn by the lines below it, after these:

```python
import functools

import jax
import jax.numpy as jnp
import jaxcam
from jaxcam import plots

opened = jaxcam.open_model("efficientnet_lite0", layer="blocks/11/expand")
image = opened.read(jaxcam.datasets.sample_photograph())  # a cat, [224 224 3]
cut, key = opened.cut, jax.random.key(0)
last = opened.at_layer("head").cut  # the last convolution
egyptian, tabby = 285, 281


def up_to_99th(values):  # of single pixels: a few peaks would leave the rest dark
    return jnp.minimum(values, jnp.percentile(values, 99))
```

`python -m examples.gallery` draws them again. The photograph is scikit-image's `chelsea` by Stefan van der Walt, CC0.
"""

egyptian, tabby = 285, 281
key = jax.random.key(0)


@functools.cache
def opened() -> jaxcam.OpenedModel:
    """The network, opened once."""
    return jaxcam.open_model("efficientnet_lite0", layer=EARLIER)


@functools.cache
def picture() -> np.ndarray:
    """The photograph as the network takes it."""
    return opened().read(jaxcam.datasets.sample_photograph())


def up_to_99th(values: jax.Array) -> jax.Array:
    """Values of single pixels up to their 99th percentile: a few peaks would leave the rest dark."""
    return jnp.minimum(values, jnp.percentile(values, 99))


def cam(cut, last, image):
    """CAM: the weights of the linear layer behind the mean over space."""
    saliency = jaxcam.cam(last, image, egyptian)
    return plots.compare([image], {"CAM": [saliency]})


def grad_cam(cut, last, image):
    """Grad-CAM: weights are means of the gradient over space. At the last layer it is CAM."""
    maps = {"last layer": [jaxcam.grad_cam(last, image, egyptian)], "earlier": [jaxcam.grad_cam(cut, image, egyptian)]}
    return plots.compare([image], maps)


def grad_cam_plus(cut, last, image):
    """Grad-CAM+: only positive derivatives count."""
    saliency = jaxcam.grad_cam_plus(cut, image, egyptian)
    return plots.compare([image], {"Grad-CAM+": [saliency]})


def grad_cam_pp(cut, last, image):
    """Grad-CAM++: positive derivatives, weighted by the second and the third derivative."""
    maps = {
        "as defined": [jaxcam.grad_cam_pp(cut, image, egyptian)],
        "alpha bounded": [jaxcam.grad_cam_pp(cut, image, egyptian, alpha="bounded")],
    }
    return plots.compare([image], maps)


def smooth_grad_cam_pp(cut, last, image):
    """Smooth Grad-CAM++: the derivatives are means over noisy images."""
    saliency = jaxcam.smooth_grad_cam_pp(cut, image, egyptian, key, n_samples=5, std=0.3)
    return plots.compare([image], {"Smooth Grad-CAM++": [saliency]})


def counterfactual_grad_cam(cut, last, image):
    """The counterfactual map: where the evidence against the class lies."""
    saliency = jaxcam.counterfactual_grad_cam(cut, image, egyptian)
    return plots.compare([image], {"counterfactual": [saliency]})


def xgrad_cam(cut, last, image):
    """XGrad-CAM: derivatives weighted by the share of the activation."""
    saliency = jaxcam.xgrad_cam(cut, image, egyptian)
    return plots.compare([image], {"XGrad-CAM": [saliency]})


def hires_cam(cut, last, image):
    """HiResCAM: a weight for each neuron, with its sign."""
    saliency = jaxcam.hires_cam(cut, image, egyptian)
    return plots.compare([image], {"HiResCAM": [saliency]})


def layer_cam(cut, last, image):
    """LayerCAM: the positive derivative of each neuron is its weight."""
    saliency = jaxcam.layer_cam(cut, image, egyptian)
    return plots.compare([image], {"LayerCAM": [saliency]})


def score_cam(cut, last, image):
    """Score-CAM: channels weighted by the score of the image that they mask. Its forward passes are many."""
    digits = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    canvas, _ = jaxcam.pretrained.digits_canvas(1)
    return plots.compare([canvas], {"Score-CAM": [jaxcam.score_cam(digits, canvas)]})


def occlusion(cut, last, image):
    """Occlusion: how far the probability of any cat, five classes, falls where a patch covers the picture."""
    cats = jnp.arange(281, 286)
    saliency = jaxcam.occlusion(
        last,
        image,
        cats,
        score=lambda outputs, classes: jax.nn.softmax(outputs)[classes].sum(),
        patch=56,
        stride=28,
        baseline=0.5,
    )
    return plots.compare([image], {"occlusion": [jnp.maximum(saliency, 0)]})


def input_gradient(cut, last, image):
    """Saliency: the largest absolute value of the input gradient over the colors."""
    saliency = jaxcam.saliency(last, image, egyptian)
    return plots.compare([image], {"saliency": [up_to_99th(saliency)]}, alpha=0.9)


def smooth_grad(cut, last, image):
    """SmoothGrad: the mean of the input gradient over noisy images."""
    gradient = jaxcam.smooth_grad(last, image, egyptian, key, n_samples=20, std=0.1)
    return plots.compare([image], {"SmoothGrad": [up_to_99th(jnp.abs(gradient).max(-1))]}, alpha=0.9)


def var_grad(cut, last, image):
    """VarGrad: the variance of the input gradient over noisy images."""
    variance = jaxcam.var_grad(last, image, egyptian, key, n_samples=20, std=0.1)
    return plots.compare([image], {"square root of the variance": [up_to_99th(jnp.sqrt(variance.sum(-1)))]}, alpha=0.9)


def guided_backprop(cut, last, image):
    """Guided backprop and deconvolution: other backward rules for every relu."""
    maps = {
        "guided backprop": [up_to_99th(jnp.abs(jaxcam.guided_backprop(last, image, egyptian)).max(-1))],
        "deconvolution": [up_to_99th(jnp.abs(jaxcam.deconvnet(last, image, egyptian)).max(-1))],
    }
    return plots.compare([image], maps, alpha=0.9)


def integrated_gradients(cut, last, image):
    """Integrated gradients: the mean gradient on the way from a black image, times the image."""
    attribution = jaxcam.integrated_gradients(last, image, egyptian, steps=20)
    return plots.compare([image], {"integrated gradients": [up_to_99th(jnp.abs(attribution).sum(-1))]}, alpha=0.9)


def guided_grad_cam(cut, last, image):
    """Guided Grad-CAM: guided backprop where the map is bright."""
    saliency = jaxcam.guided_grad_cam(last, image, egyptian)
    return plots.compare([image], {"Guided Grad-CAM": [up_to_99th(jnp.abs(saliency).max(-1))]}, alpha=0.9)


def several_layers(cut, last, image):
    """Several layers: maps of two layers by one backward pass, and their fusion."""
    model = jaxcam.efficientnet_lite0()
    cuts = jaxcam.cut(model, ["blocks/11/expand", "head"])
    maps = jaxcam.layer_cam(cuts, image, egyptian)
    fused = jaxcam.fuse(maps, how="maximum")
    return plots.compare([image], {**{layer: [saliency] for layer, saliency in maps.items()}, "fused": [fused]})


def averaged_maps(cut, last, image):
    """Averaged maps: the mean of finished maps over noise, and their variance."""
    maps = {
        statistic: [jaxcam.average_maps(jaxcam.layer_cam, statistic=statistic)(cut, image, egyptian, key, n_samples=8)]
        for statistic in ("mean", "variance")
    }
    return plots.compare([image], maps)


def why_not(cut, last, image):
    """Why an Egyptian cat and not a tabby: the difference of the two logits as the score."""
    contrast = functools.partial(jaxcam.scores.contrast, gamma=1.0)
    saliency = jaxcam.grad_cam(cut, image, (egyptian, jnp.array([tabby])), score=contrast)
    return plots.compare([image], {"Egyptian cat, not tabby": [saliency]})


def probability(cut, last, image):
    """The probability as the score: what changes it, and not the logit alone."""
    saliency = jaxcam.grad_cam(cut, image, egyptian, score=jaxcam.scores.probability)
    return plots.compare([image], {"probability": [saliency]})


def two_classes(cut, last, image):
    """Two classes: maps of several classes are one vmap, which computes the features once."""
    classes = jnp.array([egyptian, tabby])
    both = jax.vmap(lambda target: jaxcam.layer_cam(cut, image, target))(classes)
    return plots.compare([image], {"Egyptian cat": [both[0]], "tabby": [both[1]]})


def chosen_region(cut, last, image):
    """Chosen neurons: those of a rectangle, the contribution of the Smooth Grad-CAM++ paper."""
    select = jaxcam.select(region=True, subset=[(3, 4), (8, 9)])
    saliency = jaxcam.smooth_grad_cam_pp(cut, image, egyptian, key, select=select)
    return plots.neurons(image, saliency, [(3, 4), (8, 9)], region=True)


def words_of_a_caption(cut, last, image):
    """The words of a caption: LayerCAM of each, by one vmap that computes the image's features once."""
    captioner = jaxcam.pretrained.captioner()
    canvas, _ = jaxcam.pretrained.digits_canvas(1)
    caption = captioner.caption(canvas)
    of_caption = jaxcam.cut(captioner, "encoder", inputs=(caption.tokens,))
    score = jaxcam.scores.sequence_log_prob
    of_word = jax.vmap(lambda word: jaxcam.layer_cam(of_caption, canvas, word, score=score))
    maps = of_word(jaxcam.scores.one_token_each(caption.tokens)[: len(caption.words)])
    titles = [f"{number} {word}" for number, word in enumerate(caption.words, 1)]
    return plots.family(canvas, dict(zip(titles, maps, strict=True)), title=caption.text, columns=4)


def answers_to_questions(cut, last, image):
    """Answers to questions: what speaks for an answer, and with the sign turned what speaks against it."""
    answerer = jaxcam.pretrained.answerer()
    canvas, _ = jaxcam.pretrained.digits_canvas(1)
    questions = ["how many threes are there?", "which digit is shown?", "is there a five?"]
    answers = [answerer.answer(canvas, question) for question in questions]
    drawn: dict[str, list[jax.Array]] = {"for the answer": [], "against it": []}
    for question, answer in zip(questions, answers, strict=True):
        asked = jaxcam.cut(answerer, "encoder", inputs=(answerer.tokens(question),))
        for name, sign in ("for the answer", 1), ("against it", -1):
            score = functools.partial(lambda sign, outputs, target: sign * outputs[target], sign)
            drawn[name].append(jaxcam.hires_cam(asked, canvas, answer.number, score=score))
    titles = [f"{question}\n{answer.text}" for question, answer in zip(questions, answers, strict=True)]
    return plots.compare([canvas] * len(questions), drawn, titles=titles)


def mask_of_a_class(cut, last, image):
    """A mask: what the mean of a class's logits over its mask depends on; HiResCAM keeps each place's own gradient."""
    segmenter = jaxcam.cut(jaxcam.pretrained.segmenter(), "block3")
    canvas, _ = jaxcam.pretrained.digits_canvas(1)
    outputs = segmenter.head(segmenter.params, segmenter.features(segmenter.params, canvas), canvas)
    mask = outputs.argmax(-1) == 3
    score = jaxcam.scores.masked_mean
    saliency = jaxcam.grad_cam(segmenter, canvas, (3, mask), score=score)
    local = jaxcam.hires_cam(segmenter, canvas, (3, mask), score=score)
    return plots.compare([canvas], {"mask of 3": [mask.astype(float)], "Grad-CAM": [saliency], "HiResCAM": [local]})


def attributes_of_a_box(cut, last, image):
    """A box: maps of its score and of its four sides are one vmap (ODAM)."""
    detector = jaxcam.cut(jaxcam.pretrained.detector(), "block3")
    canvas, _ = jaxcam.pretrained.digits_canvas(1)
    outputs = detector.head(detector.params, detector.features(detector.params, canvas), canvas)
    number = outputs["scores"].argmax()
    parts = jaxcam.scores.BOX_PARTS
    of_part = jax.vmap(lambda part: jaxcam.hires_cam(detector, canvas, (number, part), score=jaxcam.scores.box))
    maps = of_part(jnp.arange(len(parts)))
    return plots.boxes(canvas, [outputs["boxes"][number]], maps[None], titles=["3"], names=parts)


def clip_of_a_motion(cut, last, image):
    """A clip: frames of an object that moves to the left, and the map over time and space of this motion."""
    motions = jaxcam.cut(jaxcam.pretrained.motions(), "conv3")
    clip, _, motion = jaxcam.pretrained.motion_clip(0)
    maps = {"Grad-CAM": jaxcam.grad_cam(motions, clip, motion), "Grad-CAM++": jaxcam.grad_cam_pp(motions, clip, motion)}
    return plots.strip(clip, {name: jaxcam.resize(saliency, clip.shape[:3]) for name, saliency in maps.items()})


FIGURES: tuple[Callable[..., Any], ...] = (
    cam, grad_cam, grad_cam_plus, grad_cam_pp, smooth_grad_cam_pp, counterfactual_grad_cam, xgrad_cam, hires_cam,
    layer_cam, score_cam, occlusion, input_gradient, smooth_grad, var_grad, guided_backprop, integrated_gradients,
    guided_grad_cam, several_layers, averaged_maps, why_not, probability, two_classes, chosen_region,
    words_of_a_caption, answers_to_questions, mask_of_a_class, attributes_of_a_box, clip_of_a_motion,
)  # fmt: skip


def section(figure: Callable[..., Any]) -> str:
    """A figure's part of the page: what it shows, the picture, and its lines."""
    lines = inspect.getsource(figure).split('"""')[2].strip("\n")
    code = textwrap.dedent(lines).replace("return plots", "figure = plots")
    title, _, text = (figure.__doc__ or "").partition(": ")
    name = figure.__name__
    alt = title.rstrip(".")
    text = f"{text[:1].upper()}{text[1:]}\n\n" if text else ""
    return f"## {alt}\n\n{text}![{alt}](images/gallery/{name}.png)\n\n```python\n{code}\n```\n"


def main():
    """Draw the figures and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="figures to draw; the page always has all")
    options = parser.parse_args()
    names = [figure.__name__ for figure in FIGURES]
    for name in options.only or ():
        if name not in names:
            parser.error(f"no figure {name!r}: choose some of {', '.join(names)}")
    PICTURES.mkdir(parents=True, exist_ok=True)
    last = opened().at_layer(LAST).cut
    for figure in FIGURES:
        if options.only is None or figure.__name__ in options.only:
            drawn = figure(opened().cut, last, picture())
            plots.save(drawn, PICTURES / f"{figure.__name__}.png", force=True)
            print(figure.__name__, flush=True)
    replace(PAGE, "\n".join([HEAD, *map(section, FIGURES)]).encode())


if __name__ == "__main__":
    main()
