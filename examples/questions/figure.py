"""Questions about one image with the maps of their answers, and what speaks against an answer.

    python -m examples.questions.figure --out .

HiResCAM keeps the sign of what each place adds, so that the two maps of an answer do not overlap.
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam import plots, scores
from jaxcam.cutting import with_inputs

QUESTIONS = ("how many threes are there", "which digit is shown", "is there a three", "is there a five")


def main():
    """Ask four questions about a sample canvas, whose features are computed once, and draw the maps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("."))
    folder = parser.parse_args().out
    model = jaxcam.pretrained.answerer()
    image, _ = jaxcam.pretrained.digits_canvas(1)
    answers = [model.answer(image, question) for question in QUESTIONS]
    questions = jnp.stack([model.tokens(question) for question in QUESTIONS])
    cut = jaxcam.cut(model, "encoder", inputs=(questions[0],))

    def against_the_answer(outputs, target):
        return -scores.answer(outputs, target)

    def maps_of(question, number):
        own_cut = with_inputs(cut, (question,))
        return [jaxcam.hires_cam(own_cut, image, number, score=score) for score in (scores.answer, against_the_answer)]

    numbers = jnp.array([answer.number for answer in answers])
    speaking_for, against = map(np.asarray, jax.jit(jax.vmap(maps_of))(questions, numbers))
    titles = [f"{question}?\n{answer.text}, {answer.probability:.0%}"
              for question, answer in zip(QUESTIONS, answers, strict=True)]  # fmt: skip
    figure = plots.compare(
        [image] * len(QUESTIONS), {"for the answer": list(speaking_for), "against it": list(against)}, titles=titles
    )
    plots.save(figure, folder / "questions.png", force=True)
    print(*(title.replace("\n", " ") for title in titles), folder / "questions.png", sep="\n")


if __name__ == "__main__":
    main()
