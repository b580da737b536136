"""`jaxcam ask`: answer a question about a picture of digits, and draw a map of each answer."""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam
from jaxcam._base import checks
from jaxcam.cli import _options, _output, _sentences


def add_parser(subparsers: _options.Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "ask",
        help="answer a question about digits, with a map of each answer",
        description="Answer a question about a picture of handwritten digits, such as 'how many threes are there?', "
        "'which digit is left of the 3?', 'is there a seven?' or 'what color is the one?', and draw a map of each of "
        "the most probable answers. The network is the embedded answerer, which knows nothing but digits.",
    )
    parser.set_defaults(command="ask", run=run)
    parser.add_argument("words", nargs="+", metavar="[IMAGE] QUESTION", help="a picture file, and a question in quotes")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="answers to explain (default: %(default)s)")
    _sentences.add_options(parser)


def run(options: argparse.Namespace) -> int:
    """Answer the question and draw the maps."""
    checks.check_count("top", options.top, at_least=1)
    image, question = _image_and_question(options.words, options.sample)
    map_of = _sentences.bound_method(options, jaxcam.scores.answer)
    picture = _sentences.find_picture(image, "answer", options)
    model = jaxcam.pretrained.answerer()
    tokens = model.tokens(question)
    if options.top > len(model.answers):
        raise ValueError(f"expected --top of at most {len(model.answers)}, the number of answers, got {options.top}")
    answers = model.ranked_answers(picture.image, question)[: options.top]

    cut = jaxcam.cut(model, "encoder", inputs=(tokens,))
    numbers = jnp.array([answer.number for answer in answers])
    maps = np.asarray(jax.vmap(lambda number: map_of(cut, picture.image, number))(numbers))
    panels = {f"{answer.text}, {answer.probability:.1%}": saliency
              for answer, saliency in zip(answers, maps, strict=True)}  # fmt: skip
    _sentences.write_figure(picture, panels, question, options)
    record = _sentences.described(picture, options) | {
        "question": model.text(tokens),
        "answer": answers[0].text,
        "answers": [
            {"answer": answer.text, "probability": answer.probability, "map_is_zero": not saliency.any()}
            for answer, saliency in zip(answers, maps, strict=True)
        ],
    }
    if options.json:
        _output.print_json(record)
    else:
        print(f"{picture.name}: {answers[0].text}, {answers[0].probability:.1%}: {picture.file}")
    return 0


def _image_and_question(words: list[str], sample: int | None) -> tuple[str | None, str]:
    """IMAGE and QUESTION, or QUESTION alone with `--sample`.

    Raises:
      ValueError: one word too few or too many.
    """
    expected = 1 if sample is not None else 2
    if len(words) != expected:
        needed = "the question alone with --sample" if sample is not None else "IMAGE and QUESTION, or --sample N"
        raise ValueError(f"expected {needed}, and the question in quotes, got {len(words)} arguments")
    return (None if sample is not None else words[0]), words[-1]
