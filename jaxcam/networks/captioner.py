"""A captioner: a convolutional encoder and an LSTM that writes which digits are where.

    >>> import jaxcam
    >>> model = jaxcam.pretrained.captioner()
    >>> image, _ = jaxcam.pretrained.digits_canvas(1)
    >>> caption = model.caption(image)
    >>> caption.tokens.shape, model.text(caption.tokens) == caption.text
    ((10,), True)

Vinyals, Toshev, Bengio and Erhan, "Show and tell: a neural image caption generator", CVPR 2015: an LSTM reads each word
before it chooses the next. Xu et al., "Show, attend and tell: neural image caption generation with visual attention",
ICML 2015: the image sets the LSTM's first memory, and each word is chosen by attention to the image.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxcam._base.checks import checked_image
from jaxcam.cutting import ImageNetwork
from jaxcam.networks._canvas_encoder import MAP_CHANNELS, CanvasEncoder, row_and_column_means
from jaxcam.networks._glimpses import WIDTH, Locations, glimpses
from jaxcam.networks._lstm import Carry, lstm_cell, run_lstm
from jaxcam.networks._words import check_images_and_tokens, embeddings_of, tokens_of, words_of
from jaxcam.networks.beam_search import beam_search

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PLURALS = ("zeros", "ones", "twos", "threes", "fours", "fives", "sixes", "sevens", "eights", "nines")
NUMERALS = {str(i): word for i, word in enumerate(DIGITS)} | {f"{i}s": word for i, word in enumerate(PLURALS)}
# The first word ends a caption.
CAPTION_WORDS = (
    *(".", "a", "an", "and", ",", *DIGITS, *PLURALS, "above", "left", "of", "the", "other", "side", "by"),
    *("at", "in", "top", "bottom", "right", "middle"),
)
CAPTION_LENGTH = 10  # words, with the end
GLIMPSES = 2  # for each word
MOST_BEAMS = 1000


class Caption(NamedTuple):
    """A caption that the network wrote.

    Attributes:
      text: without the end.
      words: of the tokens that are not padding; the last is the end, ".".
      tokens: `[10]`, with -1 for padding: a target of `jaxcam.scores.sequence_log_prob`, and an input of the network.
      log_prob: its log-probability.
    """

    text: str
    words: tuple[str, ...]
    tokens: jax.Array
    log_prob: float


class Captioner(nnx.Module, ImageNetwork):
    """The network. Its layer `encoder` is the map `[8 8 48]` that captions are explained at.

    Args:
      rngs: where the initial parameters come from.
    """

    image_shape = (64, 64, 3)
    words = CAPTION_WORDS
    length = CAPTION_LENGTH

    def __init__(self, *, rngs: nnx.Rngs):
        he = nnx.initializers.he_normal()
        self.encoder = CanvasEncoder(rngs=rngs)
        self.locations = Locations(MAP_CHANNELS, 64, rngs=rngs)
        self.hidden = nnx.Linear(2 * 8 * WIDTH, 128, kernel_init=he, rngs=rngs)
        self.image = nnx.Linear(128, 128, rngs=rngs)
        self.word = nnx.Embed(len(self.words) + 1, 128, rngs=rngs)  # the last one starts a caption
        self.lstm = lstm_cell(128, 128, rngs=rngs)
        self.query = nnx.Linear(128, GLIMPSES * WIDTH, rngs=rngs)
        self.fc = nnx.Linear(128 + GLIMPSES * (WIDTH + 1), 128, kernel_init=he, rngs=rngs)
        self.predictions = nnx.Linear(128, len(self.words), rngs=rngs)

    def __call__(self, images: jax.Array, tokens: jax.Array) -> jax.Array:
        """The logits of each token, given the image and the tokens before it.

        Args:
          images: `[n 64 64 3]`, RGB in 0..1.
          tokens: `[n t]`, -1 for padding; `tokens` of this network has those of a caption.

        Returns:
          `[n t words]`: what `jaxcam.scores.sequence_log_prob` takes. Behind a token that no word has they are NaN.

        Raises:
          ValueError: images of another shape, or tokens that are not integers `[n t]`.
        """
        check_images_and_tokens(images, tokens, self.image_shape)
        return self.decode(self.encoder(images), tokens)

    def decode(self, A: jax.Array, tokens: jax.Array) -> jax.Array:
        """The logits `[n t words]` from the encoder's map `[n 8 8 48]`."""
        locations = self.locations(A)
        start = self.word(jnp.full((len(tokens), 1), len(self.words), jnp.int32))
        read = jnp.concatenate([start, embeddings_of(self.word, tokens[:, :-1], len(self.words))], 1)
        _, hidden = run_lstm(self.lstm, self._memory(locations), read)
        return self._choose(locations, hidden)

    def caption(self, image: jax.Array | np.ndarray, *, beams: int = 3) -> Caption:
        """The most probable caption of one image `[64 64 3]`, by beam search.

        Raises:
          TypeError: an image of integers.
          ValueError: an image of another shape or with NaN or infinite values, or `beams` not from 1 to 1000.
        """
        if np.shape(image) != self.image_shape:
            raise ValueError(f"expected an image of shape {self.image_shape}, got {np.shape(image)}")
        return self.captions(checked_image(image)[None], beams=beams)[0]

    def captions(self, images: jax.Array | np.ndarray, *, beams: int = 3) -> list[Caption]:
        """The most probable caption of each of the images `[n 64 64 3]`, by beam search.

        Raises:
          TypeError: images of integers.
          ValueError: images of another shape or with NaN or infinite values, or `beams` not from 1 to 1000.
        """
        if not isinstance(beams, int) or not 1 <= beams <= MOST_BEAMS:
            raise ValueError(f"expected beams from 1 to {MOST_BEAMS}, got {beams!r}")
        if np.shape(images)[1:] != self.image_shape:
            raise ValueError(f"expected images [n {' '.join(map(str, self.image_shape))}], got {np.shape(images)}")
        tokens, log_probs = _captions(self, checked_image(images), beams=beams)
        sentences = [words_of(row, self.words) for row in np.asarray(tokens[:, 0])]
        return [
            Caption(_text(words), tuple(words), tokens[i, 0], float(log_probs[i, 0]))
            for i, words in enumerate(sentences)
        ]

    def tokens(self, text: str) -> jax.Array:
        """The tokens of a caption, `[10]`, with its end and padding. Digits may be numerals: "a 3 left of a 7".

        Raises:
          ValueError: an empty caption, an unknown word, or more than 9 words.

        Example:
          >>> from flax import nnx
          >>> model = Captioner(rngs=nnx.Rngs(0))
          >>> model.text(model.tokens("a three left of a seven"))
          'a three left of a seven'
        """
        words = text.lower().replace(",", " , ").replace(".", " ").split()
        words = [NUMERALS.get(word, word) for word in words]
        return tokens_of(words, self.words, length=self.length, subject="caption", end=self.words[0])

    def text(self, tokens: jax.Array) -> str:
        """The caption that tokens say, without its end."""
        return _text(words_of(tokens, self.words))

    def _memory(self, locations: jax.Array) -> Carry:
        """The LSTM's carry before the first word: what it knows of the image."""
        rows_and_columns = locations.reshape(len(locations), 8, 8, WIDTH)
        hidden = jax.nn.relu(self.hidden(row_and_column_means(jax.nn.relu(rows_and_columns))))
        memory = jnp.tanh(self.image(hidden))
        return memory, jnp.tanh(memory)

    def _choose(self, locations: jax.Array, hidden: jax.Array) -> jax.Array:
        """The logits `[n t words]` from the locations and the LSTM's values `[n t width]`."""
        queries = self.query(hidden)
        read = glimpses(locations, queries.reshape(len(queries), -1)).reshape(*hidden.shape[:2], -1)
        return self.predictions(jax.nn.relu(self.fc(jnp.concatenate([hidden, read], -1))))

    def _write(self, A: jax.Array, beams: int) -> tuple[jax.Array, jax.Array]:
        """The captions of one map `[8 8 48]`."""
        locations = self.locations(A[None])

        def step(carry, token):
            carry, hidden = self.lstm(carry, self.word(token[None]))
            return carry, jax.nn.log_softmax(self._choose(locations, hidden[None])[0, 0])

        return beam_search(step, self._memory(locations), start=len(self.words), end=0, beams=beams, length=self.length)


@nnx.jit(static_argnames="beams")
def _captions(model: Captioner, images: jax.Array, *, beams: int) -> tuple[jax.Array, jax.Array]:
    """The tokens `[n beams length]` and log-probabilities `[n beams]` of the captions of images `[n 64 64 3]`."""
    graphdef, state = nnx.split(model)
    A = model.encoder(images)
    return jax.vmap(lambda A: nnx.merge(graphdef, state)._write(A, beams))(A)


def _text(words: list[str]) -> str:
    return " ".join(word for word in words if word != CAPTION_WORDS[0])
