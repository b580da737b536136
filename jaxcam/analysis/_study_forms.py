"""The forms of a study: which map stands in which question of which participant."""

from typing import NamedTuple

QUESTIONS = ("class", "trust")


class Question(NamedTuple):
    """A question of a form: the maps that it shows, `(picture, source, target)`, from left to right."""

    places: tuple[tuple[str, str, str], ...]
    kind: str

    def in_key(self) -> dict[str, str]:
        """What the key says of it."""
        picture, source, target = self.places[0]
        if self.kind == "class":
            return {"kind": "class", "picture": picture, "source": source, "target": target}
        return {"kind": "trust", "picture": picture, "target": target, "left": source, "right": self.places[1][1]}


def class_forms(pictures, sources, choices):
    """The forms of the first part: over all of them each picture is shown by each source for each choice once."""
    count, classes = len(sources), len(choices[pictures[0]])
    return [
        [
            Question(
                ((picture, sources[(i + form) % count], choices[picture][(i // count + form // count) % classes]),),
                "class",
            )
            for i, picture in enumerate(pictures)
        ]
        for form in range(count * classes)
    ]


def trust_forms(pictures, sources, choices):
    """The forms of the second part: over all of them each picture has each pair of sources once in either order."""
    pairs = [(a, b) for i, a in enumerate(sources) for b in sources[i + 1 :]]
    forms = []
    for form in range(2 * len(pairs)):
        questions = []
        for i, picture in enumerate(pictures):
            pair = pairs[(i + form) % len(pairs)]
            ordered = pair if (i // len(pairs) + form // len(pairs)) % 2 == 0 else pair[::-1]
            questions.append(Question(tuple((picture, source, choices[picture][0]) for source in ordered), "trust"))
        forms.append(questions)
    return forms


def on_page(question, question_names, image_names, choices):
    """What the page knows of a question. The classes stand in alphabetical order, which says nothing."""
    names = [image_names[place] for place in question.places]
    shown = {"id": question_names[question], "kind": question.kind}
    picture, _, target = question.places[0]
    if question.kind == "class":
        return {**shown, "image": names[0], "choices": sorted(choices[picture])}
    return {**shown, "left": names[0], "right": names[1], "target": target}


def opaque_names(rng, letter, count):
    """Names in an order that says nothing about what they name."""
    return [f"{letter}{number}" for number in rng.permutation(count)]
