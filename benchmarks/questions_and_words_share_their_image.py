"""Smoothed maps of ten questions about one image cost at most 1.3 times one, and maps of 12 words 1.5 times one word's.

The embedded answerer and captioner at 64 x 64, cut at `encoder`; and networks of the papers' size with random weights:
the convolutions of VGG-16 at 224 x 224, cut at the last, with an LSTM of width 512. Questions: Grad-CAM and Smooth
Grad-CAM++ of an answer with n = 5, by `jax.vmap` over questions and answers, with image and key unbatched. Words:
Grad-CAM and Grad-CAM++ of the log-probability of each word of a caption, by `jax.vmap` over `scores.one_token_each`.

The features of the image do not depend on the question or the word, so they are computed once; what is computed for
each is the head's part. In the closed form that is a backward pass, and the moments of a caption's steps are shared by
its words. Exact second and third derivatives are taken for each question and word: they have no bound, and are here to
tell what they cost at the small size. `difference` is the largest between a map of many and the map alone, over the
maximum.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import jaxcam
from benchmarks import timing
from jaxcam import scores
from jaxcam.cutting import with_inputs

QUESTIONS, WORDS, SAMPLES = 10, 12, 5
CLOSED, EXACT = {"derivatives": "closed_form"}, {"derivatives": "exact"}
OF_QUESTIONS: dict[str, Callable[..., jax.Array]] = {
    "Grad-CAM": functools.partial(jaxcam.grad_cam, n_samples=SAMPLES),
    "Grad-CAM++, closed form": functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=SAMPLES, **CLOSED),
    "Grad-CAM++, exact": functools.partial(jaxcam.smooth_grad_cam_pp, n_samples=SAMPLES, **EXACT),
}
OF_WORDS: dict[str, Callable[..., jax.Array]] = {
    "Grad-CAM": jaxcam.grad_cam,
    "Grad-CAM++, closed form": functools.partial(jaxcam.grad_cam_pp, **CLOSED),
    "Grad-CAM++, exact": functools.partial(jaxcam.grad_cam_pp, **EXACT),
}
TITLES = f"smoothed {{}}: {QUESTIONS} questions / one", f"{{}}: {WORDS} words / one"
BOUNDS = {
    title.format(name): bound
    for title, bound in zip(TITLES, (1.3, 1.5), strict=True)
    for name in OF_WORDS
    if name != "Grad-CAM++, exact"
}
BLOCKS = (64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)  # of VGG-16
WIDTH, VOCABULARY, LENGTH = 512, 1000, 8


class Encoder(nnx.Module):
    """The convolutions of VGG-16."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.convolutions: nnx.List[nnx.Conv] = nnx.List()
        channels = 3
        for block in BLOCKS:
            for width in block:
                self.convolutions.append(nnx.Conv(channels, width, (3, 3), rngs=rngs))
                channels = width

    def __call__(self, x: jax.Array) -> jax.Array:
        """The last activation, `[n h/16 w/16 512]`."""
        ends = {sum(map(len, BLOCKS[:i])) for i in range(1, len(BLOCKS))}
        for number, convolution in enumerate(self.convolutions):
            x = nnx.max_pool(x, (2, 2), strides=(2, 2)) if number in ends else x
            x = jax.nn.relu(convolution(x))
        return x


class Reader(nnx.Module):
    """Show and Tell: the image is the first input of an LSTM and words the next ones; logits of every next word."""

    image_shape = (224, 224, 3)

    def __init__(self, *, rngs: nnx.Rngs):
        self.encoder = Encoder(rngs=rngs)
        self.image, self.word = nnx.Linear(WIDTH, WIDTH, rngs=rngs), nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.cell = nnx.OptimizedLSTMCell(WIDTH, WIDTH, rngs=rngs)
        self.predictions = nnx.Linear(WIDTH, VOCABULARY, rngs=rngs)

    def hidden(self, images: jax.Array, tokens: jax.Array) -> jax.Array:
        """The hidden values `[n t width]` after the image and each token but the last."""
        read = jnp.concatenate([self.image(self.encoder(images).mean((1, 2)))[:, None], self.word(tokens[:, :-1])], 1)
        zeros = jnp.zeros((len(images), WIDTH))
        return jax.lax.scan(lambda carry, x: self.cell(carry, x), (zeros, zeros), read.swapaxes(0, 1))[1].swapaxes(0, 1)

    def __call__(self, images: jax.Array, tokens: jax.Array) -> jax.Array:
        """Logits `[n t words]`."""
        return self.predictions(self.hidden(images, tokens))


class Asked(Reader):
    """The VQA network of the Grad-CAM paper: the product of image and question, classified."""

    def __call__(self, images: jax.Array, tokens: jax.Array) -> jax.Array:
        """Logits `[n answers]`: the LSTM reads the question alone."""
        zeros = jnp.zeros((len(images), WIDTH))
        words = self.word(tokens).swapaxes(0, 1)
        (_, question), _ = jax.lax.scan(lambda carry, x: self.cell(carry, x), (zeros, zeros), words)
        features = self.image(self.encoder(images).mean((1, 2)))
        return self.predictions(jnp.tanh(features) * jnp.tanh(question))


@functools.partial(jax.jit, static_argnums=0)
def of_question(method, cut, image, key, question, answer):
    """The smoothed map of an answer to a question."""
    return method(with_inputs(cut, (question,)), image, answer, key, score=scores.answer)


@functools.partial(jax.jit, static_argnums=0)
def of_questions(method, cut, image, key, questions, answers):
    """The maps of several questions."""
    return jax.vmap(functools.partial(of_question, method, cut, image, key))(questions, answers)


@functools.partial(jax.jit, static_argnums=0)
def of_word(method, cut, image, target):
    """The map of what a target keeps of the caption."""
    return method(cut, image, target, score=scores.sequence_log_prob)


@functools.partial(jax.jit, static_argnums=0)
def of_words(method, cut, image, targets):
    """The maps of several targets."""
    return jax.vmap(functools.partial(of_word, method, cut, image))(targets)


def questions_of(model: Any, vocabulary: int, length: int, method: Any) -> tuple[dict[str, Any], Any]:
    """Rivals: a map of one question, and of ten; and the arguments of both."""
    questions = jax.random.randint(jax.random.key(2), (QUESTIONS, length), 0, vocabulary)
    answers = jnp.arange(QUESTIONS)
    cut = jaxcam.cut(model, "encoder", inputs=(questions[0],))
    image, key = jax.random.uniform(jax.random.key(0), model.image_shape), jax.random.key(1)
    return {
        "one question": functools.partial(of_question, method, cut, image, key, questions[0], answers[0]),
        "many questions": functools.partial(of_questions, method, cut, image, key, questions, answers),
    }, functools.partial(of_question, method, cut, image, key, questions[-1], answers[-1])


def words_of(model: Any, vocabulary: int, method: Any) -> tuple[dict[str, Any], Any]:
    """Rivals: a map of one word, and of twelve."""
    tokens = jax.random.randint(jax.random.key(3), (WORDS,), 0, vocabulary)
    targets = scores.one_token_each(tokens)
    cut = jaxcam.cut(model, "encoder", inputs=(tokens,))
    image = jax.random.uniform(jax.random.key(0), model.image_shape)
    return {
        "one word": functools.partial(of_word, method, cut, image, targets[-1]),
        "many words": functools.partial(of_words, method, cut, image, targets),
    }, functools.partial(of_word, method, cut, image, targets[-1])


def measure(*, small: bool = False) -> dict:
    """Ratios of many maps over one; small runs the embedded networks alone, without exact maps."""
    answerer, captioner = jaxcam.pretrained.answerer(), jaxcam.pretrained.captioner()
    cases: dict[str, tuple] = {}
    names = [name for name in OF_WORDS if not small or name != "Grad-CAM++, exact"]  # which takes long to compile
    for name in names:
        title = f"64 x 64, {TITLES[0].format(name)}"
        cases[title] = questions_of(answerer, len(answerer.words), answerer.length, OF_QUESTIONS[name])
    for name in names:
        cases[f"64 x 64, {TITLES[1].format(name)}"] = words_of(captioner, len(captioner.words), OF_WORDS[name])
    if not small:
        asked, reader = Asked(rngs=nnx.Rngs(0)), Reader(rngs=nnx.Rngs(0))
        for name in ("Grad-CAM", "Grad-CAM++, closed form"):
            title = f"224 x 224, {TITLES[0].format(name)}"
            cases[title] = questions_of(asked, VOCABULARY, LENGTH, OF_QUESTIONS[name])
        cases[f"224 x 224, {TITLES[1].format('Grad-CAM')}"] = words_of(reader, VOCABULARY, jaxcam.grad_cam)
    ratios, seconds, differences = {}, {}, {}
    for name, (rivals, alone) in cases.items():
        one, many = rivals
        times = timing.in_turn(rivals, repeats=1 if small else 3)
        ratios[name] = timing.median_ratio(times, many, one)
        last, expected = rivals[many]()[-1], alone()
        differences[name] = float(jnp.abs(last - expected).max() / jnp.maximum(expected.max(), 1e-30))
        seconds[name] = timing.summary(times)
    return {"ratios": ratios, "bounds": BOUNDS, "difference": differences, "seconds": seconds}
