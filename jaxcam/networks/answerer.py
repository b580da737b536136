"""A network that answers questions about an image: the one that the Grad-CAM paper explains, in small.

    >>> import jaxcam
    >>> model = jaxcam.pretrained.answerer()
    >>> image, _ = jaxcam.pretrained.digits_canvas(1)
    >>> model.answer(image, "is there a three?").text in model.answers
    True

The features of the image are normalized, an LSTM reads the question, and a classifier reads the product of the two:
Lu et al., "Deeper LSTM and normalized CNN visual question answering model", 2015; Selvaraju et al., "Grad-CAM: visual
explanations from deep networks via gradient-based localization", IJCV 2019, section 8.2. The classifier
reads the image by attention, and the query of the second glimpse depends on the first: Yang et al., "Stacked attention
networks for image question answering", CVPR 2016.
"""

import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxcam._base.checks import checked_image
from jaxcam.cutting import ImageNetwork
from jaxcam.networks._canvas_encoder import MAP_CHANNELS, CanvasEncoder
from jaxcam.networks._glimpses import WIDTH, Locations, glimpses
from jaxcam.networks._lstm import first_carry, lstm_cell, run_lstm
from jaxcam.networks._words import PADDING, check_images_and_tokens, embeddings_of, tokens_of, words_of
from jaxcam.networks.captioner import DIGITS, NUMERALS, PLURALS

COLORS = ("red", "green", "blue", "yellow", "magenta", "cyan", "white")
ANSWERS = (*map(str, range(10)), "yes", "no", "nothing", *COLORS)
QUESTION_WORDS = (
    *("how", "many", "are", "is", "there", "a", "which", "digit", "digits", "shown", "what", "color", "the"),
    *("left", "right", "of", "above", "below", *DIGITS, *PLURALS, *COLORS),
)
QUESTION_LENGTH = 8  # words
GLIMPSES = 2  # at once
READ = GLIMPSES * (WIDTH + 1)
SPELLINGS = {"an": "a"} | NUMERALS


class Answer(NamedTuple):
    """An answer of the network.

    Attributes:
      text: the answer.
      number: its place among the network's `answers`: a target of `jaxcam.scores.answer`.
      probability: in 0..1.
    """

    text: str
    number: int
    probability: float


class Answerer(nnx.Module, ImageNetwork):
    """The network. Its layer `encoder` is the map `[8 8 48]` that answers are explained at.

    Args:
      rngs: where the initial parameters come from.
    """

    image_shape = (64, 64, 3)
    words: tuple[str, ...] = QUESTION_WORDS
    answers: tuple[str, ...] = ANSWERS
    length = QUESTION_LENGTH

    def __init__(self, *, rngs: nnx.Rngs):
        he = nnx.initializers.he_normal()
        self.encoder = CanvasEncoder(rngs=rngs)
        self.locations = Locations(MAP_CHANNELS, 64, rngs=rngs)
        self.word = nnx.Embed(len(self.words), 48, rngs=rngs)
        self.lstm = lstm_cell(48, 128, rngs=rngs)
        self.first = nnx.Linear(128, GLIMPSES * WIDTH, rngs=rngs)
        self.between = nnx.Linear(128 + READ, 128, kernel_init=he, rngs=rngs)
        self.second = nnx.Linear(128, GLIMPSES * WIDTH, rngs=rngs)
        self.image = nnx.Linear(2 * READ, 256, rngs=rngs)
        self.question = nnx.Linear(128, 256, rngs=rngs)
        self.fc = nnx.Linear(256, 128, kernel_init=he, rngs=rngs)
        self.predictions = nnx.Linear(128, len(self.answers), rngs=rngs)

    def __call__(self, images: jax.Array, questions: jax.Array) -> jax.Array:
        """Logits `[n answers]`.

        Args:
          images: `[n 64 64 3]`, RGB in 0..1.
          questions: tokens `[n t]`, -1 for padding; `tokens` of this network has those of a question. A token that no
            word has gives NaN.

        Raises:
          ValueError: images of another shape, or tokens that are not integers `[n t]`.
        """
        check_images_and_tokens(images, questions, self.image_shape)
        return self.classify(self.encoder(images), questions)

    def classify(self, A: jax.Array, questions: jax.Array) -> jax.Array:
        """Logits `[n answers]` from the encoder's map `[n 8 8 48]`."""
        locations = self.locations(A)
        question = self._read(questions)
        first = glimpses(locations, self.first(question))
        between = jax.nn.relu(self.between(jnp.concatenate([question, first], -1)))
        second = glimpses(locations, self.second(between))
        image = jnp.tanh(self.image(jnp.concatenate([first, second], -1)))
        product = image * jnp.tanh(self.question(question))
        return self.predictions(jax.nn.relu(self.fc(product)))

    def answer(self, image: jax.Array | np.ndarray, question: str) -> Answer:
        """The most probable answer to a question about one image `[64 64 3]`.

        Raises:
          TypeError: an image of integers.
          ValueError: an image of another shape, or with NaN or infinite values; an empty question, an unknown word, or
            more than 8 words.
        """
        return self.ranked_answers(image, question)[0]

    def ranked_answers(self, image: jax.Array | np.ndarray, question: str) -> list[Answer]:
        """All answers to a question about one image `[64 64 3]`, the most probable first; errors are those of `answer`.

        Example:
          >>> from flax import nnx
          >>> len(Answerer(rngs=nnx.Rngs(0)).ranked_answers(np.zeros([64, 64, 3]), "is there a three?"))
          20
        """
        if np.shape(image) != self.image_shape:
            raise ValueError(f"expected an image of shape {self.image_shape}, got {np.shape(image)}")
        probabilities = _probabilities(self, checked_image(image)[None], self.tokens(question)[None])[0]
        order = np.argsort(-np.asarray(probabilities), kind="stable")
        return [Answer(self.answers[i], int(i), float(probabilities[i])) for i in order]

    def tokens(self, question: str) -> jax.Array:
        """The tokens of a question, `[8]`, with padding. Digits may be written as numerals: "left of the 3".

        Raises:
          ValueError: an empty question, an unknown word, or more than 8 words.

        Example:
          >>> from flax import nnx
          >>> model = Answerer(rngs=nnx.Rngs(0))
          >>> model.text(model.tokens("Which digit is left of the 3?"))
          'which digit is left of the three'
        """
        text = re.sub("colou?r", "color", re.sub(r"[?.,!]", " ", question.lower()))
        words = [SPELLINGS.get(word, word) for word in text.split()]
        return tokens_of(words, self.words, length=self.length, subject="question")

    def text(self, tokens: jax.Array) -> str:
        """The question that tokens ask."""
        return " ".join(words_of(tokens, self.words))

    def _read(self, questions: jax.Array) -> jax.Array:
        """The LSTM's hidden value at the end of each question, `[n 128]`; padding leaves it as it is."""
        words = embeddings_of(self.word, questions, len(self.words))
        (_, hidden), _ = run_lstm(self.lstm, first_carry(self.lstm, len(questions)), words, questions != PADDING)
        return hidden


@nnx.jit
def _probabilities(model: Answerer, images: jax.Array, questions: jax.Array) -> jax.Array:
    return jax.nn.softmax(model(images, questions))
