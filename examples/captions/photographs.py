"""Train a captioner of photographs, a frozen EfficientNet-Lite0 and an LSTM, on Flickr8k, and score its captions.

    JAXCAM_ASSETS=../shared/assets python -m examples.captions.photographs --out build/photographs

Vinyals et al., "Show and tell: a neural image caption generator", CVPR 2015, in small: 2,600 photographs with five
captions each, and an encoder that is not trained. The script prints BLEU-4 and CIDEr of the test photographs, by
pycocoevalcap, and writes the decoder's weights and words. A run that is stopped goes on when it is called again. The
photographs are for research alone: none is shown or kept. `examples.captions.photographs_table` explains the captions.
"""

import functools
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.progress import track

import jaxcam
from examples import real_photographs, similarity, stored_pictures
from examples.kept_arrays import kept_arrays
from examples.places import training
from jaxcam.networks.beam_search import beam_search

END, UNKNOWN = ".", "<unknown>"
LEAST_COUNT = 5  # how often a word must occur in the training captions
LENGTH = 20  # tokens of a caption, its end included
WIDTH = 256
KEPT = 0.5  # of the hidden values in training
SHAPE = (224, 224)
LAYER = "head"  # of the encoder: the last convolution, 7 x 7
CHUNK = 100  # photographs at once


class Decoder(nnx.Module):
    """An LSTM that reads the image's mean features first, and then the words.

    Args:
      words: the vocabulary; the first one ends a caption.
      rngs: where the initial parameters come from.
    """

    def __init__(self, words: tuple[str, ...], *, rngs: nnx.Rngs):
        self.words = words
        self.image = nnx.Linear(1280, WIDTH, rngs=rngs)
        self.word = nnx.Embed(len(words) + 1, WIDTH, rngs=rngs)  # the last one starts a caption
        self.lstm = nnx.OptimizedLSTMCell(WIDTH, WIDTH, rngs=rngs)
        self.predictions = nnx.Linear(WIDTH, len(words), rngs=rngs)

    def hidden(self, features: jax.Array, tokens: jax.Array) -> jax.Array:
        """The LSTM's values `[n t width]` when each token is chosen, from mean features `[n 1280]`."""
        start = jnp.full_like(tokens[:, :1], len(self.words))
        read = self.word(jnp.maximum(jnp.concatenate([start, tokens[:, :-1]], 1), 0))
        carry = self.read_image(features)
        return jax.lax.scan(self.lstm, carry, read.swapaxes(0, 1))[1].swapaxes(0, 1)

    def read_image(self, features: jax.Array):
        """The LSTM's carry behind the image."""
        zeros = jnp.zeros((len(features), WIDTH))
        return self.lstm((zeros, zeros), self.image(features))[0]

    def __call__(self, features: jax.Array, tokens: jax.Array) -> jax.Array:
        """The logits `[n t words]` of each token, given the image and the tokens before it."""
        return self.predictions(self.hidden(features, tokens))

    def write(self, features: jax.Array, beams: int = 3) -> jax.Array:
        """The tokens `[length]` of the most probable caption, from mean features `[1280]`."""

        def step(carry, token):
            carry, hidden = self.lstm(carry, self.word(token[None]))
            logits = self.predictions(hidden)[0].at[self.words.index(UNKNOWN)].set(-jnp.inf)
            return carry, jax.nn.log_softmax(logits)

        carry = self.read_image(features[None])
        return beam_search(step, carry, start=len(self.words), end=0, beams=beams, length=LENGTH).tokens[0]


class PhotographCaptioner(nnx.Module):
    """Encoder and decoder: `__call__(images [n 224 224 3], tokens [n t])` is `[n t words]`, what scores take.

    Captions are explained at the layer `encoder/head`, `[7 7 1280]`.
    """

    image_shape = (*SHAPE, 3)

    def __init__(self, decoder: Decoder):
        self.encoder = similarity.embedder()
        self.decoder = decoder

    def __call__(self, images: jax.Array, tokens: jax.Array) -> jax.Array:
        """The logits of each token."""
        return self.decoder(self.encoder(images), tokens)


class Photographs(NamedTuple):
    """Photographs of a split: the encoder's mean features `[n 1280]`, and the captions' words."""

    features: np.ndarray
    captions: list[list[list[str]]]


def words_in(caption: str) -> list[str]:
    """The words of a human caption, without punctuation.

    Example:
      >>> words_in("A man , in a T-shirt , runs .")
      ['a', 'man', 'in', 'a', 't-shirt', 'runs']
    """
    return [word for word in caption.lower().split() if any(map(str.isalnum, word))]


def photographs(folder: pathlib.Path, work: pathlib.Path) -> dict[str, Photographs]:
    """Flickr8k by split. The features are kept in the folder `work`."""
    rows = json.loads((folder / "flickr8k" / "captions.json").read_text())

    def computed():
        chunks = [range(i, min(i + CHUNK, len(rows))) for i in range(0, len(rows), CHUNK)]
        file = folder / "flickr8k" / "images.npz"
        parts = [mean_features(stored_pictures.read(file, SHAPE, of=of)) for of in track(chunks, "features")]
        return {"features": np.concatenate(parts)}

    features = kept_arrays(work / "features.npz", computed)["features"]
    by_split = {}
    for split in ("train", "val", "test"):
        chosen = [i for i, row in enumerate(rows) if row["split"] == split]
        captions = [[words_in(caption) for caption in rows[i]["captions"]] for i in chosen]
        by_split[split] = Photographs(features[chosen], captions)
    return by_split


def mean_features(images: np.ndarray) -> np.ndarray:
    """What the decoder reads of images, `[n 1280]`."""
    cut = jaxcam.cut(similarity.embedder(), LAYER)
    return np.asarray(_mean_features(cut, images))


@jax.jit
def _mean_features(cut, images):
    return jax.lax.map(lambda image: cut.head(cut.params, cut.features(cut.params, image), image), images)


def vocabulary_of(captions: list[list[list[str]]]) -> tuple[str, ...]:
    """The end, the unknown word, and every word that occurs often enough."""
    counts: dict[str, int] = {}
    for word in (word for several in captions for caption in several for word in caption):
        counts[word] = counts.get(word, 0) + 1
    return (END, UNKNOWN, *sorted(word for word, count in counts.items() if count >= LEAST_COUNT))


def tokens_of(words: list[str], numbers: dict[str, int]) -> np.ndarray:
    """The tokens `[length]` of a caption, with its end and padding of -1; a longer caption is cut off."""
    tokens = np.full(LENGTH, -1, np.int32)
    row = [numbers.get(word, numbers[UNKNOWN]) for word in words][: LENGTH - 1] + [numbers[END]]
    tokens[: len(row)] = row
    return tokens


def loss(decoder: Decoder, batch: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
    """The mean cross-entropy of the tokens, with half of the hidden values left out."""
    features, tokens, seed = batch
    hidden = decoder.hidden(features, tokens)
    kept = jax.random.bernoulli(jax.random.key(seed), KEPT, hidden.shape)
    logits = decoder.predictions(jnp.where(kept, hidden / KEPT, 0))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(tokens, 0))
    return jnp.where(tokens >= 0, losses, 0).sum() / (tokens >= 0).sum()


def trained(data: Photographs, words: tuple[str, ...], options: Any) -> Decoder:
    """The decoder after the training; one of the five captions of a photograph is in a batch."""
    numbers = {word: number for number, word in enumerate(words)}
    tokens = np.array([[tokens_of(caption, numbers) for caption in several] for several in data.captions])

    def draw_batch(rng, size):
        rows, which = rng.integers(0, len(tokens), size), rng.integers(0, tokens.shape[1], size)
        return data.features[rows], tokens[rows, which], np.uint32(rng.integers(2**31))

    decoder = Decoder(words, rngs=nnx.Rngs(options.seed))
    return training.train(decoder, draw_batch, loss, options)  # type: ignore[return-value]


def captions_of(decoder: Decoder, features: np.ndarray) -> list[str]:
    """The most probable caption for each row of features."""
    write = nnx.jit(lambda decoder, features: jax.vmap(functools.partial(_write, nnx.split(decoder)))(features))
    tokens = np.concatenate([write(decoder, features[i : i + 50]) for i in range(0, len(features), 50)])
    return [" ".join(decoder.words[token] for token in row if token > 0) for row in tokens]  # 0 is the end


def _write(split, features):
    return nnx.merge(*split).write(features)


def scores_of(captions: list[str], references: list[list[list[str]]]) -> dict[str, float]:
    """BLEU-4 and CIDEr of the captions beside those of people, with the words of `words_in`."""
    from pycocoevalcap.bleu.bleu import Bleu  # an import that only this function needs
    from pycocoevalcap.cider.cider import Cider

    found = {i: [caption] for i, caption in enumerate(captions)}
    true = {i: [" ".join(words) for words in several] for i, several in enumerate(references)}
    bleu, _ = Bleu(4).compute_score(true, found, verbose=0)
    cider, _ = Cider().compute_score(true, found)
    return {"BLEU-4": 100 * float(bleu[3]), "CIDEr": 100 * float(cider)}


def saved(decoder: Decoder, folder: pathlib.Path, scores: dict[str, Any]) -> None:
    """Writes weights in float16, words and scores, each file whole or not at all."""
    arrays = {name: array.astype(np.float16) for name, array in jaxcam.pretrained.to_arrays(decoder).items()}
    training.write(folder, arrays | {"words": np.array(decoder.words)}, scores)


def load(folder: pathlib.Path) -> PhotographCaptioner:
    """The captioner whose decoder a run wrote to a folder."""
    with np.load(folder / "weights.npz") as file:
        arrays = {name: file[name] for name in file.files}
    words = tuple(str(word) for word in arrays.pop("words"))
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    return PhotographCaptioner(jaxcam.pretrained.from_arrays(lambda: Decoder(words, rngs=nnx.Rngs(0)), floats))


def main():
    """Train, score and write."""
    parser = training.parser_of(__doc__, steps=3000, batch=64, test=500)
    parser.set_defaults(rate=1e-3)
    options = parser.parse_args()
    folder = real_photographs.assets(parser)
    options.checkpoints = options.checkpoints or options.out / "checkpoints"
    data = photographs(folder, options.out)
    decoder = trained(data["train"], vocabulary_of(data["train"].captions), options)
    scores: dict[str, Any] = {"photographs": len(data["train"].captions), "steps": options.steps}
    scores["words"] = len(decoder.words)
    for split in ("val", "test"):
        part = Photographs(data[split].features[: options.test], data[split].captions[: options.test])
        # A person's caption beside the other four, and a caption that says nothing, are what the scores compare with.
        four = [several[:4] for several in part.captions]
        person = scores_of([" ".join(several[4]) for several in part.captions], four)
        constant = scores_of(["a man in a red shirt"] * len(part.captions), part.captions)
        own = scores_of(captions_of(decoder, part.features), part.captions)
        scores[split] = {"captions": own, "a person's, beside four": person, "always the same": constant}
    saved(decoder, options.out, scores)


if __name__ == "__main__":
    main()
