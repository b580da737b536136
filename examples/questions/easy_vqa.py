"""Train the answerer on easy-VQA, and compare the maps of its answers with the pixels of the shape that they are about.

    python -m examples.questions.easy_vqa --out build/easy_vqa

easy-VQA (MIT, `pip install easy-vqa`) has 5,000 images of one colored shape, 48,248 questions and 13 answers. The
network is `jaxcam.networks.Answerer` with its words and answers, and starts from the blocks of the embedded digits
network. The script prints the share of the test questions that it answers rightly, by answer, and a table of the maps
of the questions that name no absent shape. A run that is stopped goes on when it is called again.
"""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from PIL import Image

from examples.captions import table
from examples.places import training
from jaxcam import scores
from jaxcam.networks.answerer import Answerer

LENGTH = 9  # words of the longest question
SHAPES = ("circle", "rectangle", "triangle")
QUESTIONS = 8  # of each image in a training batch
CLOSE = 60  # of 255: how far a pixel of the background may be from the background's color, over all channels


class Questions(NamedTuple):
    """A split: the images, uint8, and for each question its tokens, the answer's number and the image's number."""

    images: np.ndarray
    tokens: np.ndarray
    answers: np.ndarray
    image_of: np.ndarray
    texts: list[str]


def words_in(question: str) -> list[str]:
    """The words of a question, as the network reads them.

    Example:
      >>> words_in("Is there a teal shape?")
      ['is', 'there', 'a', 'teal', 'shape']
    """
    return re.sub(r"[?.,!]", " ", question.lower()).split()


@functools.cache
def network() -> type[Answerer]:
    """The answerer with the words of the training questions and the data set's answers."""
    import easy_vqa  # an import that is not a dependency

    questions, _, _ = easy_vqa.get_train_questions()
    known = tuple(sorted({word for question in set(questions) for word in words_in(question)}))

    class EasyAnswerer(Answerer):
        """The network for easy-VQA, whose images are light: it reads 1 - image, as its first blocks know dark ones."""

        words = known
        answers = tuple(easy_vqa.get_answers())
        length = LENGTH

        def __call__(self, images: jax.Array, questions: jax.Array) -> jax.Array:
            """Logits `[n answers]`."""
            return self.classify(self.encoder(1 - images), questions)

    return EasyAnswerer


def build(seed: int = 0) -> Answerer:
    """The network that is trained."""
    return network()(rngs=nnx.Rngs(seed))


def read(split: str) -> Questions:
    """The questions of a split, "train" or "test", and their images."""
    import easy_vqa

    texts, answers, images = getattr(easy_vqa, f"get_{split}_questions")()
    paths = getattr(easy_vqa, f"get_{split}_image_paths")()
    numbers = {word: number for number, word in enumerate(network().words)}
    tokens = np.full((len(texts), LENGTH), -1, np.int32)
    for row, text in zip(tokens, texts, strict=True):
        words = words_in(text)
        row[: len(words)] = [numbers[word] for word in words]
    rows = {number: row for row, number in enumerate(sorted(paths))}
    return Questions(
        np.stack([np.asarray(Image.open(paths[number]).convert("RGB")) for number in sorted(paths)]),
        tokens,
        np.array([network().answers.index(answer) for answer in answers]),
        np.array([rows[int(number)] for number in images]),
        texts,
    )


def shape_mask(image: np.ndarray) -> np.ndarray:
    """The pixels of the shape `[64 64]`: those whose color is not near the one that most of the border has.

    Example:
      >>> image = np.full([64, 64, 3], 240, np.uint8)
      >>> image[10:20, 10:20] = 0, 0, 255
      >>> int(shape_mask(image).sum())
      100
    """
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).astype(int)
    return np.abs(image.astype(int) - np.median(border, 0)).sum(-1) > CLOSE


class Learner(nnx.Module):
    """The network, and beside it in training a linear layer that reads shape and color off the mean of the map.

    Without that layer's loss the network learns the colors first and the shapes much later.
    """

    def __init__(self, answerer: Answerer, *, rngs: nnx.Rngs):
        self.answerer = answerer
        self.attributes = nnx.Linear(answerer.locations.features.in_features, len(answerer.answers), rngs=rngs)


def attributes_of(data: Questions) -> np.ndarray:
    """For each image which of the answers, shapes and colors, it has `[images answers]`: 1, 0, and NaN if not known.

    An image has one shape and one color, and what its own questions ask is known.
    """
    answers = network().answers
    shapes = {answers.index(name) for name in SHAPES}
    colors = {number for number, name in enumerate(answers) if name not in (*SHAPES, "yes", "no")}
    known = np.full((len(data.images), len(answers)), np.nan, np.float32)
    for image, answer in zip(data.image_of, data.answers, strict=True):
        for kind in (shapes, colors):
            if answer in kind:
                known[image, list(kind)] = 0
                known[image, answer] = 1
    return known


def loss(learner: Learner, batch: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> jax.Array:
    """The mean cross-entropy of the answers to several questions about each image, and that of what is known of it."""
    images, tokens, answers, known = batch
    A = learner.answerer.encoder(1 - images.astype(jnp.float32) / 255)
    logits = learner.answerer.classify(jnp.repeat(A, tokens.shape[1], 0), tokens.reshape(-1, LENGTH))
    of_answers = optax.softmax_cross_entropy_with_integer_labels(logits, answers.ravel()).mean()
    is_known = jnp.isfinite(known)
    of_attributes = optax.sigmoid_binary_cross_entropy(
        learner.attributes(A.mean((1, 2))), jnp.where(is_known, known, 0)
    )
    return of_answers + jnp.where(is_known, of_attributes, 0).sum(-1).mean()


def trained(model: Answerer, data: Questions, options: Any) -> Answerer:
    """The network after the training.

    A batch has images, turned and mirrored at random, and `QUESTIONS` of each image's: no question is about a side.
    """
    known = attributes_of(data)
    rows_of = [np.flatnonzero(data.image_of == number) for number in range(len(data.images))]
    asked = [number for number, rows in enumerate(rows_of) if len(rows)]

    def draw_batch(rng, size):
        numbers = rng.choice(asked, size)
        turned = [np.rot90(data.images[number], rng.integers(4)) for number in numbers]
        images = np.stack([image[:, ::-1] if rng.random() < 0.5 else image for image in turned])
        rows = np.stack([rng.choice(rows_of[number], QUESTIONS) for number in numbers])
        return images, data.tokens[rows], data.answers[rows], known[numbers]

    learner = training.train(Learner(model, rngs=nnx.Rngs(options.seed)), draw_batch, loss, options)
    return learner.answerer  # type: ignore[attr-defined]


def predicted(model: Answerer, data: Questions, count: int) -> np.ndarray:
    """The numbers of the most probable answers to the first `count` questions."""
    run = nnx.jit(lambda model, images, tokens: model(images.astype(jnp.float32) / 255, tokens).argmax(-1))
    parts = [slice(i, i + 200) for i in range(0, count, 200)]
    images, tokens = data.images[data.image_of[:count]], data.tokens[:count]
    return np.concatenate([run(model, images[part], tokens[part]) for part in parts])


def cases_of(data: Questions, count: int) -> list[tuple[np.ndarray, list[table.Case]]]:
    """For `count` images the questions whose answer is about the shape: all but those that name what is not there."""
    drawn = []
    for number in range(min(count, len(data.images))):
        mask, cases = shape_mask(data.images[number]), []
        for row in np.flatnonzero(data.image_of == number):
            negated, answer = "not" in data.texts[row].split(), network().answers[data.answers[row]]
            is_present = answer == ("no" if negated else "yes") or answer not in ("yes", "no")
            if is_present and mask.any():
                cases.append(table.Case(data.tokens[row], np.asarray(data.answers[row]), mask))
        if cases:
            drawn.append((data.images[number].astype(np.float32) / 255, cases[: table.MOST]))
    return drawn


def main():
    """Train, score, write and print the table."""
    parser = training.parser_of(__doc__, steps=2000, batch=32, test=9673)
    parser.add_argument("--maps", type=int, default=200, help="test images whose answers are explained")
    parser.set_defaults(rate=1.5e-3)
    options = parser.parse_args()
    options.checkpoints = options.checkpoints or options.out / "checkpoints"
    model = build(options.seed)
    training.with_blocks_of_digits(model.encoder)
    model = trained(model, read("train"), options)
    model, arrays = training.rounded(model, build)  # type: ignore[assignment]
    test = read("test")
    count = min(options.test, len(test.tokens))
    right = predicted(model, test, count) == test.answers[:count]
    printed: dict[str, Any] = {"steps": options.steps, "questions": count, "accuracy": float(right.mean())}
    for number, answer in enumerate(model.answers):
        of_answer = right[test.answers[:count] == number]
        printed[f"accuracy, {answer}"] = float(of_answer.mean()) if of_answer.size else None
    training.write(options.out, arrays, printed)
    if options.maps:
        drawn = cases_of(test, options.maps)
        results = table.compared(model, drawn, scores.answer)
        print(f"\n{sum(len(cases) for _, cases in drawn)} maps of {len(drawn)} images\n\n{table.table(results)}")


if __name__ == "__main__":
    main()
