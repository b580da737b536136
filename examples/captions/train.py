"""Train the embedded captioner and answerer on scenes of handwritten digits.

    python -m examples.captions.train --out jaxcam/pretrained/words
    python -m examples.captions.train --out /tmp/words --work /tmp/words --scenes 512 --steps 8 --test 64     (a test)

Both networks learn together and have one encoder. Its first blocks have the weights of the embedded digits network; two
of them are not trained, and their values are computed once. Beside captions and answers, the encoder's map learns which
digit has its center at each location, and in which color. With `--captions-only` the decoder of captions alone learns,
from maps that are computed once. The script writes the weights in float16 and prints what share of the statements in
the captions, and of the answers, is right for scenes with other digits and textures than those of the training. A run
that is stopped goes on when it is called again: scenes and checkpoints are in the folder `--work`.
"""

import json
import pathlib
import tempfile
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxcam
from examples.captions import learning, scenes
from examples.places import training
from jaxcam.networks.answerer import Answerer
from jaxcam.networks.captioner import Captioner

TEST_SEED = 3_000_000
QUESTIONS = 4  # of a scene in a batch
LOCATIONS = 8  # of the encoder's map, along each side
NO_DIGIT, NO_COLOR = 10, -1
SCORED = 100  # scenes, or questions, at once


class Learner(nnx.Module):
    """Both networks with one encoder, and what names digits and colors at each location during the training."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.captioner = Captioner(rngs=rngs)
        training.with_blocks_of_digits(self.captioner.encoder)
        self.answerer = Answerer(rngs=rngs)
        self.answerer.encoder = self.captioner.encoder
        channels = self.captioner.locations.features.in_features
        self.digits = nnx.Linear(channels, 11, rngs=rngs)
        self.colors = nnx.Linear(channels, len(scenes.COLORS), rngs=rngs)


def read(file: pathlib.Path, network: type) -> Any:
    """The network whose weights a run wrote."""
    with np.load(file) as kept:
        arrays = {name: kept[name].astype(np.float32) for name in kept.files}
    return jaxcam.pretrained.from_arrays(lambda: network(rngs=nnx.Rngs(0)), arrays)


def loss(model, batch):
    """Minus the log-likelihood of a scene: of its caption, its answers, its digits and colors at their locations."""
    block2, images, tokens, questions, answers, digits, colors = batch
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    A = model.captioner.encoder.behind_block2(block2.astype(jnp.float32), images.astype(jnp.float32) / 255)
    of_tokens = cross_entropy(model.captioner.decode(A, tokens), jnp.maximum(tokens, 0))
    logits = model.answerer.classify(jnp.repeat(A, QUESTIONS, axis=0), questions.reshape(-1, questions.shape[-1]))
    of_colors = cross_entropy(model.colors(A), jnp.maximum(colors, 0))
    total = (
        jnp.where(tokens >= 0, of_tokens, 0).sum()
        + cross_entropy(logits, answers.reshape(-1)).sum()
        + cross_entropy(model.digits(A), digits).sum()
        + jnp.where(colors == NO_COLOR, 0, of_colors).sum()
    )
    return total / len(A)


def loss_of_captions(captioner, batch):
    """Minus the log-likelihood of a caption, from the encoder's map."""
    A, tokens = batch
    logits = captioner.decode(A.astype(jnp.float32), tokens)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(tokens, 0))
    return jnp.where(tokens >= 0, losses, 0).sum() / len(A)


def with_trained_captions(captioner, data: learning.Data, options) -> Any:
    """The captioner after a training of its decoder alone, on maps that are computed once."""
    run = nnx.jit(lambda encoder, *values: encoder.behind_block2(*values).astype(jnp.float16))
    parts = [slice(i, i + learning.PIECE) for i in range(0, len(data.images), learning.PIECE)]
    maps = np.concatenate(
        [
            run(captioner.encoder, data.block2[part].astype(np.float32), data.images[part].astype(np.float32) / 255)
            for part in parts
        ]
    )
    tokens = np.array([captioner.tokens(scenes.caption_of(scene)) for scene in data.scenes])

    def draw_batch(rng, size):
        rows = rng.integers(0, len(tokens), size)
        return maps[rows], tokens[rows]

    return training.train(captioner, draw_batch, loss_of_captions, options, frozen=("encoder",))


def centers_of(scene: scenes.Scene) -> tuple[np.ndarray, np.ndarray]:
    """The digit, 0 to 9 or 10 for none, and the color, or -1, whose center lies at each location: `[8 8]` each."""
    digits, colors = np.full((LOCATIONS, LOCATIONS), NO_DIGIT), np.full((LOCATIONS, LOCATIONS), NO_COLOR)
    for i, (row, column) in enumerate((scene.centers * LOCATIONS / scenes.SIDE).astype(int)):
        digits[row, column] = scene.digits[i]
        if scene.colors is not None:
            colors[row, column] = scenes.COLORS.index(scene.colors[i])
    return digits, colors


def scores_of_captions(model, drawn) -> dict[str, float]:
    """The share of true statements among those made or needed, and of captions that are wholly right."""
    images = np.array([scene.image for scene in drawn])
    captions = [
        caption for part in np.split(images, range(SCORED, len(images), SCORED)) for caption in model.captions(part)
    ]
    verdicts = [scenes.judge(caption.text, scene) for caption, scene in zip(captions, drawn, strict=True)]
    statements = sum(max(verdict.made, verdict.needed) for verdict in verdicts)
    return {
        "statement_accuracy": sum(verdict.true for verdict in verdicts) / statements,
        "caption_accuracy": float(np.mean([verdict.is_right for verdict in verdicts])),
    }


def scores_of_answers(model, drawn) -> dict[str, float]:
    """The share of right answers, of all questions and of each kind."""
    rng = np.random.default_rng(0)
    asked = [(scene, *pair) for scene in drawn for pair in scenes.questions_of(rng, scene)]
    predict = nnx.jit(lambda model, images, questions: model(images, questions).argmax(-1))
    tokens_of = {question: np.asarray(model.tokens(question)) for _, question, _ in asked}
    right: dict[str, list[bool]] = {}
    for start in range(0, len(asked), SCORED):
        part = asked[start : start + SCORED]
        filled = [*part, *[part[0]] * (SCORED - len(part))]  # so that one program serves every part
        images = np.array([scene.image for scene, _, _ in filled])
        numbers = predict(model, images, np.array([tokens_of[question] for _, question, _ in filled]))
        for (_, question, answer), number in zip(part, numbers, strict=False):
            kind = " ".join(word for word in question.split()[:3] if word not in (*scenes.PLURALS, *scenes.COLORS))
            right.setdefault(kind, []).append(model.answers[int(number)] == answer)
    everything = [value for values in right.values() for value in values]
    return {
        "questions": len(everything),
        "answer_accuracy": float(np.mean(everything)),
        **{f"answer_accuracy, {kind}": float(np.mean(values)) for kind, values in sorted(right.items())},
    }


def batches_of(model, data: learning.Data):
    """What draws a batch of scenes, with some of the questions about each."""
    tokens = np.array([model.captioner.tokens(scenes.caption_of(scene)) for scene in data.scenes])
    digits, colors = (np.array(several) for several in zip(*map(centers_of, data.scenes), strict=True))
    vocabulary = {word: number for number, word in enumerate(model.answerer.words)}

    def draw_batch(rng, size):
        rows = rng.integers(0, len(tokens), size)
        questions = np.full((size, QUESTIONS, model.answerer.length), -1)
        answers = np.zeros((size, QUESTIONS), int)
        for j, row in enumerate(rows):
            pairs = scenes.questions_of(rng, data.scenes[row])
            # The last ones, on directions and colors, are the harder ones.
            chosen = [*pairs[1 - QUESTIONS :], pairs[rng.integers(len(pairs))]]
            for k, (question, answer) in enumerate(chosen):
                words = [vocabulary["a" if word == "an" else word] for word in question.split()]
                questions[j, k, : len(words)] = words
                answers[j, k] = model.answerer.answers.index(answer)
        return data.block2[rows], data.images[rows], tokens[rows], questions, answers, digits[rows], colors[rows]

    return draw_batch


def main():
    """Draw scenes, train, score and write."""
    parser = training.parser_of(__doc__, steps=4000, batch=64, test=1000)
    parser.add_argument("--scenes", type=int, default=25_600, help="training scenes (default: 25,600)")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/words"))
    parser.add_argument("--start", type=pathlib.Path, help="go on from the weights that a run wrote to this folder")
    parser.add_argument("--captions-only", action="store_true", help="train the decoder of captions alone")
    parser.set_defaults(rate=1e-3)
    options = parser.parse_args()
    options.checkpoints = options.checkpoints or options.work / f"checkpoints{options.seed}"

    model: Any = Learner(rngs=nnx.Rngs(options.seed))
    if options.start:
        model.captioner = read(options.start / "captioner.npz", Captioner)
        model.answerer = read(options.start / "answerer.npz", Answerer)
        model.answerer.encoder = model.captioner.encoder
    data = learning.training_data(model.captioner.encoder, options.scenes, options.work)
    if options.captions_only:
        model.captioner = with_trained_captions(model.captioner, data, options)
    else:
        model = training.train(model, batches_of(model, data), loss, options, frozen=("block1", "block2"))
    captioner: Any
    answerer: Any
    captioner, of_captioner = training.rounded(model.captioner, lambda: Captioner(rngs=nnx.Rngs(0)))
    answerer, of_answerer = training.rounded(model.answerer, lambda: Answerer(rngs=nnx.Rngs(0)))
    drawn = scenes.draw_many(TEST_SEED, "test", options.test)
    scores = {"training_scenes": len(data.scenes), "steps": options.steps, "test_scenes": len(drawn)}
    scores |= scores_of_captions(captioner, drawn) | scores_of_answers(answerer, drawn)

    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        complete_files = pathlib.Path(folder)
        np.savez_compressed(complete_files / "captioner.npz", **of_captioner)  # type: ignore[arg-type]
        np.savez_compressed(complete_files / "answerer.npz", **of_answerer)  # type: ignore[arg-type]
        (complete_files / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
        for file in complete_files.iterdir():
            file.replace(options.out / file.name)
    print(json.dumps(scores, indent=2))
    for scene in drawn[:10]:
        print(f"{captioner.caption(scene.image).text!r:50} {scenes.caption_of(scene)!r}")


if __name__ == "__main__":
    main()
