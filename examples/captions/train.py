"""Train the embedded captioner and answerer on scenes of handwritten digits.

    python -m examples.captions.train --out jaxcam/pretrained/words
    python -m examples.captions.train --out /tmp/words --work /tmp/words --scenes 512 --epochs 1 --test 64     (a test)

Both networks learn together and have one encoder. Its trunk has the weights of the embedded digits network and is not
trained; its values are computed once. No box is used: beside captions and answers, the encoder's map learns how many
digits of each kind a scene has. The script writes the weights in float16 and prints what share of the statements in the
captions, and of the answers, is right for scenes with other digits and textures than those of the training. A run that
is stopped goes on when it is called again: scenes and checkpoints are in the folder `--work`.
"""

import argparse
import json
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from examples.captions import learning, scenes
from jaxcam.networks.answerer import Answerer
from jaxcam.networks.captioner import Captioner

TEST_SEED = 3_000_000
BATCH = 64
QUESTIONS = 3  # of a scene in a batch
SCORED = 100  # scenes, or questions, at once


class Learner(nnx.Module):
    """Both networks with one encoder, and what counts digits during the training."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.captioner = learning.with_trunk_of_digits(Captioner(rngs=rngs))
        self.answerer = Answerer(rngs=rngs)
        self.answerer.encoder = self.captioner.encoder
        self.counts = nnx.Linear(48, 10, rngs=rngs)


def loss(model, trunk, images, tokens, questions, answers, counts):
    """The mean loss of a caption's token, of an answer, and of the counts."""
    A = model.captioner.encoder.behind_trunk(trunk.astype(jnp.float32), images.astype(jnp.float32) / 255)
    of_tokens = optax.softmax_cross_entropy_with_integer_labels(
        model.captioner.decode(A, tokens), jnp.maximum(tokens, 0)
    )
    logits = model.answerer.classify(jnp.repeat(A, QUESTIONS, axis=0), questions.reshape(-1, questions.shape[-1]))
    of_answers = optax.softmax_cross_entropy_with_integer_labels(logits, answers.reshape(-1))
    counted = jax.nn.relu(model.counts(A)).sum((1, 2))
    parts = {
        "caption": jnp.where(tokens >= 0, of_tokens, 0).sum() / (tokens >= 0).sum(),
        "answer": of_answers.mean(),
        "counts": ((counted - counts) ** 2).mean(),
    }
    return sum(parts.values()), parts


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
    """The batches of an epoch; every epoch asks other questions."""
    tokens = np.array([model.captioner.tokens(scenes.caption_of(scene)) for scene in data.scenes])
    counts = np.array([[scene.digits.count(digit) for digit in range(10)] for scene in data.scenes], np.float32)
    vocabulary = {word: number for number, word in enumerate(model.answerer.words)}

    def batches(epoch):
        rng = np.random.default_rng(epoch)
        order = rng.permutation(len(tokens))
        for i in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[i : i + BATCH]
            questions = np.full((BATCH, QUESTIONS, model.answerer.length), -1)
            answers = np.zeros((BATCH, QUESTIONS), int)
            for j, row in enumerate(rows):
                pairs = scenes.questions_of(rng, data.scenes[row])
                # The last ones, on directions and colors, are the harder ones.
                chosen = [*pairs[-2:], pairs[rng.integers(len(pairs))]]
                for k, (question, answer) in enumerate(chosen):
                    words = [vocabulary["a" if word == "an" else word] for word in question.split()]
                    questions[j, k, : len(words)] = words
                    answers[j, k] = model.answerer.answers.index(answer)
            yield data.trunk[rows], data.images[rows], tokens[rows], questions, answers, counts[rows]

    return batches


def main():
    """Draw scenes, train, score and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/words"))
    parser.add_argument("--scenes", type=int, default=10_240)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--test", type=int, default=1000)
    arguments = parser.parse_args()

    model = Learner(rngs=nnx.Rngs(0))
    data = learning.training_data(model.captioner.encoder.trunk, arguments.scenes, arguments.work)
    model = learning.fit(
        model, loss, batches_of(model, data), epochs=arguments.epochs, steps=len(data.scenes) // BATCH,
        checkpoint=arguments.work / f"learned{arguments.scenes}x{arguments.epochs}.pickle",
    )  # fmt: skip
    of_captioner, captioner = learning.rounded(model.captioner)
    of_answerer, answerer = learning.rounded(model.answerer)
    drawn = scenes.draw_many(TEST_SEED, "test", arguments.test)
    scores = {"training_scenes": len(data.scenes), "epochs": arguments.epochs, "test_scenes": len(drawn)}
    scores |= scores_of_captions(captioner, drawn) | scores_of_answers(answerer, drawn)

    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out) as folder:
        complete_files = pathlib.Path(folder)
        np.savez_compressed(complete_files / "captioner.npz", **of_captioner)  # type: ignore[arg-type]
        np.savez_compressed(complete_files / "answerer.npz", **of_answerer)  # type: ignore[arg-type]
        (complete_files / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
        for file in complete_files.iterdir():
            file.replace(arguments.out / file.name)
    print(json.dumps(scores, indent=2))
    for scene in drawn[:10]:
        print(f"{captioner.caption(scene.image).text!r:50} {scenes.caption_of(scene)!r}")


if __name__ == "__main__":
    main()
