"""Studies with people: which class does a map show, and which of two maps do they trust more?

Both questions are those of Selvaraju et al., "Grad-CAM", IJCV 2020, sections 5.1 and 5.2; Chattopadhay et al.,
"Grad-CAM++", WACV 2018, ask the second one. `make_study` writes a page that participants open in a browser. It holds no
name of a method and no right answer; the key file does. Each participant gets a form: forms are balanced, so that every
picture is shown by every method, for every class, and on both sides equally often. `read` joins the files of answers
with the key, and `summarize` gives shares with intervals and the agreement of the participants.

>>> import numpy as np
>>> gray = np.full([8, 8, 3], 0.5)
>>> drawn = [DrawnMap("pets", method, name, gray) for method in ("grad_cam", "layer_cam") for name in ("cat", "dog")]
>>> study = make_study(drawn, {"pets": ("cat", "dog")})
>>> "grad_cam" in study.page, len(study.key["questions"])
(False, 6)
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcam.analysis._agreement import krippendorff_alpha as krippendorff_alpha
from jaxcam.analysis._clustered import Share as Share
from jaxcam.analysis._clustered import clustered_share as clustered_share
from jaxcam.analysis._study_files import check_key, record_in
from jaxcam.analysis._study_forms import QUESTIONS as QUESTIONS
from jaxcam.analysis._study_forms import class_forms, on_page, opaque_names, trust_forms
from jaxcam.analysis._study_page import data_address, page_of

# What the page's five buttons mean for the map on the right.
MOST = 2
ROUNDING = 1e-5  # of float32, by which a drawing may leave 0..1


class DrawnMap(NamedTuple):
    """A map on its picture, as participants see it.

    Attributes:
      picture: the name of the picture.
      source: what made the map: the name of a method, or of a network.
      target: the name of the class that the map explains.
      pixels: the drawing, `[h w 3]` in 0..1.
    """

    picture: str
    source: str
    target: str
    pixels: np.ndarray


class Study(NamedTuple):
    """A page for participants and the key to their answers; `make_study` makes it.

    Attributes:
      page: the text of one HTML file without addresses of other files.
      key: what each question of the page shows, ready for JSON. Participants must not see it.
      forms: the number of different forms. Participants in multiples of it are balanced exactly.
    """

    page: str
    key: dict[str, Any]
    forms: int


class ClassAnswer(NamedTuple):
    """One answer to "which class does this map show?"."""

    participant: int
    picture: str
    source: str
    target: str
    answer: str


class TrustAnswer(NamedTuple):
    """One answer to "which of the two maps do you trust more?"; `score` in -2..2 is positive if `first` is trusted."""

    participant: int
    picture: str
    first: str
    second: str
    score: int


class Answers(NamedTuple):
    """The answers of all participants, joined with the key; `read` makes it.

    Attributes:
      classes: to the first question.
      trusts: to the second question.
      chance: the share of right answers to the first question that guessing gives.
    """

    classes: tuple[ClassAnswer, ...]
    trusts: tuple[TrustAnswer, ...]
    chance: float


class Pair(NamedTuple):
    """How often one of two maps was trusted more.

    Attributes:
      first: the share of answers in favor of the first one.
      equal: the share of answers without a favorite.
      second: the share in favor of the second one.
      score: the mean of the answers in -2..2, positive in favor of the first one, as a `Share` of that range.
    """

    first: Share
    equal: Share
    second: Share
    score: Share


class Preferences(NamedTuple):
    """What the answers say; `summarize` makes it. It prints as Markdown tables.

    Attributes:
      right: for each source, the share of its maps whose class was named.
      pairs: for each two sources, which one was trusted.
      class_agreement: Krippendorff's alpha of the first question, for the class that was named; None if undefined.
      trust_agreement: Krippendorff's alpha of the second question, for scores on an interval scale; None if undefined.
      participants: their number.
      chance: the share of right answers that guessing gives.
    """

    right: dict[str, Share]
    pairs: dict[tuple[str, str], Pair]
    class_agreement: float | None
    trust_agreement: float | None
    participants: int
    chance: float

    def __str__(self) -> str:
        lines = [f"{self.participants} participants; 95% intervals"]
        if self.right:
            lines += ["", "which class does the map show?", "| map | answers | right |", "|---|---|---|"]
            lines += [f"| {source} | {share.answers} | {share} |" for source, share in self.right.items()]
            lines += [f"chance {self.chance:.3f}; {_agreement(self.class_agreement)}"]
        if self.pairs:
            lines += ["", "which map do you trust more?"]
            lines += [
                "| first | second | answers | first | equal | second | mean in -2..2 |",
                "|---|---|---|---|---|---|---|",
            ]
            for (first, second), pair in self.pairs.items():
                shares = f"{pair.first} | {pair.equal.mean:.3f} | {pair.second}"
                score = f"{pair.score.mean:+.2f} [{pair.score.low:+.2f}, {pair.score.high:+.2f}]"
                lines.append(f"| {first} | {second} | {pair.first.answers} | {shares} | {score} |")
            lines += [_agreement(self.trust_agreement)]
        return "\n".join(lines)


def make_study(
    drawn: Sequence[DrawnMap],
    choices: Mapping[str, Sequence[str]],
    *,
    questions: Sequence[str] = QUESTIONS,
    seed: int = 0,
    title: str = "What does the classifier look at?",
) -> Study:
    """A page with the two questions of the Grad-CAM paper, and its key.

    In the first part each picture is shown once, by one source and for one of its choices. In the second part each
    picture is shown by two sources side by side, for the first of its choices. Form after form the sources, classes and
    sides rotate, so that M sources and C choices are balanced over M C forms in the first part and M (M - 1) forms in
    the second one.

    Args:
      drawn: the maps. Each picture needs one by each source, for the classes that its questions show: all choices for
        the first question, the first choice for the second one.
      choices: for each picture the classes to choose from, equally many, the network's own class first.
      questions: "class", "trust", or both.
      seed: of the order of the questions and of their names on the page.
      title: of the page; participants read it.

    Returns:
      A `Study`. The same arguments give the same study.

    Raises:
      ValueError: no maps, two of the same thing, a map that is missing or whose picture has no choices, pixels that are
        no floats `[h w 3]` in 0..1, another question, a choice twice, fewer than two choices or another number of them
        than for other pictures, or one source with the question "trust".

    Example:
      >>> gray = np.full([8, 8, 3], 0.5)
      >>> drawn = [DrawnMap("a.png", method, "cat", gray) for method in ("grad_cam", "layer_cam")]
      >>> make_study(drawn, {"a.png": ["cat", "dog"]}, questions=["trust"]).forms
      2
    """
    by_name = {(m.picture, m.source, m.target): m for m in drawn}
    sources = list(dict.fromkeys(m.source for m in drawn))
    _check(drawn, by_name, choices, questions, sources)
    rng = np.random.default_rng(seed)
    pictures = [list(choices)[i] for i in rng.permutation(len(choices))]
    parts = []
    if "class" in questions:
        parts.append(class_forms(pictures, sources, choices))
    if "trust" in questions:
        parts.append(trust_forms(pictures, sources, choices))
    shown = {place for forms in parts for form in forms for question in form for place in question.places}
    missing = [place for place in shown if place not in by_name]
    if missing:
        picture, source, target = sorted(missing)[0]
        raise ValueError(f"no map of {picture} by {source} for {target!r}: {len(missing)} maps are missing")
    image_names = dict(zip(sorted(shown), opaque_names(rng, "i", len(shown)), strict=True))
    unique = sorted({question for forms in parts for form in forms for question in form})
    question_names = dict(zip(unique, opaque_names(rng, "q", len(unique)), strict=True))
    forms = [
        [[on_page(form[i], question_names, image_names, choices) for i in rng.permutation(len(form))] for form in part]
        for part in parts
    ]
    images = {image_names[place]: data_address(by_name[place].pixels) for place in shown}
    content = {"forms": forms, "images": dict(sorted(images.items()))}
    study = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    key = {
        "study": study,
        "sources": sources,
        "choices": {picture: list(names) for picture, names in choices.items()},
        "questions": {name: question.in_key() for question, name in sorted(question_names.items(), key=lambda q: q[1])},
    }
    return Study(page_of(title, {"id": study, **content}), key, int(np.lcm.reduce([len(part) for part in parts])))


def read(files: Sequence[str | os.PathLike], key: Mapping[str, Any]) -> Answers:
    """The answers in files that the page saved.

    Args:
      files: one for each participant.
      key: of the study.

    Returns:
      `Answers`. A participant may have left questions out.

    Raises:
      OSError: a file cannot be read.
      ValueError: `key` is not the key of a study; a file is not a file of answers, belongs to another study, or has an
        answer that its question does not offer; or two files have the same participant. Which form a participant was
        shown is not checked.
    """
    classes: list[ClassAnswer] = []
    trusts: list[TrustAnswer] = []
    by_participant: dict[int, str] = {}
    check_key(key)
    for file in files:
        record = record_in(pathlib.Path(file), key)
        participant = record["participant"]
        if participant in by_participant:
            raise ValueError(f"participant {participant} is in {by_participant[participant]} and in {file}: keep one")
        by_participant[participant] = str(file)
        for name, value in record["answers"].items():
            question = key["questions"].get(name)
            if question is None:
                raise ValueError(f"{file}: no question {name!r} in the key")
            if question["kind"] == "class":
                names = key["choices"][question["picture"]]
                if value not in names:
                    raise ValueError(f"{file}: expected one of {', '.join(names)}, got {value!r}")
                place = question["picture"], question["source"], question["target"]
                classes.append(ClassAnswer(participant, *place, value))
            else:
                trusts.append(_trust_answer(file, participant, question, value, key["sources"]))
    return Answers(tuple(classes), tuple(trusts), 1 / min(len(names) for names in key["choices"].values()))


def summarize(answers: Answers) -> Preferences:
    """Shares with intervals, and the agreement of the participants.

    Args:
      answers: of `read`.

    Returns:
      `Preferences`. The intervals are those of `clustered_share`: answers of one participant, and answers about one
      picture, are not independent.

    Raises:
      ValueError: no answers.

    Example:
      >>> classes = [ClassAnswer(n, f"{i}.png", "grad_cam", "cat", "cat") for n in (1, 2, 3) for i in range(4)]
      >>> print(summarize(Answers(tuple(classes), (), 0.5)))
      3 participants; 95% intervals
      <BLANKLINE>
      which class does the map show?
      | map | answers | right |
      |---|---|---|
      | grad_cam | 12 | 1.000 [0.139, 1.000] |
      chance 0.500; agreement (Krippendorff's alpha) undefined: no two answers about one map that could differ
    """
    if not answers.classes and not answers.trusts:
        raise ValueError("expected at least one answer, got none")
    right = {}
    for source in dict.fromkeys(answer.source for answer in answers.classes):
        given = [answer for answer in answers.classes if answer.source == source]
        right[source] = _share([answer.answer == answer.target for answer in given], given)
    pairs = {}
    for first, second in dict.fromkeys((answer.first, answer.second) for answer in answers.trusts):
        own = [answer for answer in answers.trusts if (answer.first, answer.second) == (first, second)]
        score = _share([(answer.score + MOST) / (2 * MOST) for answer in own], own)  # in 0..1
        pairs[first, second] = Pair(
            _share([answer.score > 0 for answer in own], own),
            _share([answer.score == 0 for answer in own], own),
            _share([answer.score < 0 for answer in own], own),
            Share(_score(score.mean), _score(score.low), _score(score.high), score.answers),
        )
    named: dict[tuple, list] = {}
    for answer in answers.classes:
        named.setdefault((answer.picture, answer.source, answer.target), []).append(answer.answer)
    scored: dict[tuple, list] = {}
    for opinion in answers.trusts:
        scored.setdefault((opinion.picture, opinion.first, opinion.second), []).append(opinion.score)
    return Preferences(
        dict(sorted(right.items())),
        dict(sorted(pairs.items())),
        krippendorff_alpha(list(named.values())),
        krippendorff_alpha(list(scored.values()), level="interval"),
        len({answer.participant for answer in answers.classes} | {answer.participant for answer in answers.trusts}),
        answers.chance,
    )


def _check(drawn, by_name, choices, questions, sources):
    if not drawn or not choices:
        raise ValueError("expected at least one map and the choices of its picture, got none")
    for drawing in drawn:
        _check_drawing(drawing, choices)
    if len(by_name) < len(drawn):
        raise ValueError("two maps have the same picture, source and target")
    unknown = [name for name in questions if name not in QUESTIONS]
    if unknown or not questions:
        raise ValueError(f"expected some of {', '.join(QUESTIONS)} for questions, got {list(questions)}")
    for picture, names in choices.items():
        if not names or len(set(names)) < len(names):
            raise ValueError(f"expected different classes to choose from for {picture}, got {list(names)}")
    counts = sorted({len(names) for names in choices.values()})
    if "class" in questions and (len(counts) > 1 or counts[0] < 2):
        numbers = " and ".join(map(str, counts))
        raise ValueError(f"expected equally many classes to choose from for each picture, at least 2, got {numbers}")
    if "trust" in questions and len(sources) < 2:
        raise ValueError(f"the question 'trust' compares two sources, got {', '.join(sources)} alone")


def _check_drawing(drawing, choices):
    """Raises a ValueError for pixels that would be drawn otherwise than they are meant, such as 0..255."""
    name = f"the map of {drawing.picture} by {drawing.source} for {drawing.target!r}"
    if drawing.picture not in choices:
        raise ValueError(f"{name} has no choices: expected {drawing.picture!r} in choices, got {list(choices)[:10]}")
    pixels = np.asarray(drawing.pixels)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"{name}: expected pixels [h w 3], got {list(pixels.shape)}")
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ValueError(f"{name}: expected floats in 0..1, got {pixels.dtype}: divide by 255 if it is uint8")
    if not ((pixels >= -ROUNDING) & (pixels <= 1 + ROUNDING)).all():  # NaN is not
        raise ValueError(f"{name}: expected values in 0..1, got {pixels.min():g}..{pixels.max():g}")


def _trust_answer(file, participant, question, value, sources):
    if isinstance(value, bool) or not isinstance(value, int) or not -MOST <= value <= MOST:
        raise ValueError(f"{file}: expected an integer in -{MOST}..{MOST}, got {value!r}")
    left, right = question["left"], question["right"]
    is_first_left = sources.index(left) < sources.index(right)
    ordered = (left, right) if is_first_left else (right, left)
    return TrustAnswer(participant, question["picture"], *ordered, -value if is_first_left else value)


def _share(values, answers):
    return clustered_share(values, [answer.participant for answer in answers], [answer.picture for answer in answers])


def _score(share):
    """A score in -2..2 from its place in that range, in 0..1."""
    return 2 * MOST * share - MOST


def _agreement(alpha):
    if alpha is None:
        return "agreement (Krippendorff's alpha) undefined: no two answers about one map that could differ"
    return f"agreement (Krippendorff's alpha) {alpha:.3f}"
