"""The page of a study in a browser: from a file, without a server, to a file of answers that Python reads."""

import json
import os
import pathlib

import numpy as np
import pytest

from jaxcam.analysis import preferences
from jaxcam.analysis.preferences import DrawnMap

# The warnings of other libraries are theirs.
pytestmark = [pytest.mark.web, pytest.mark.filterwarnings("default")]
CLASSES = ("cat", "dog")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of three pictures and two methods, and the path of its page."""
    rng = np.random.default_rng(0)
    drawn = [
        DrawnMap(picture, source, name, np.kron(rng.uniform(size=[6, 8, 3]), np.ones([50, 50, 1])))
        for picture in ("a", "b", "c")
        for source in ("grad_cam", "layer_cam")
        for name in CLASSES
    ]
    study = preferences.make_study(drawn, dict.fromkeys("abc", CLASSES), title="Cats & dogs")
    path = tmp_path_factory.mktemp("study") / "study.html"
    path.write_text(study.page)
    return study, path


class Participant:
    """A participant with a number, who opened the page."""

    def __init__(self, browser, path, number, **options):
        self.page, self.errors, self.asked = browser.new_page(accept_downloads=True, **options), [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.locator("#participant").fill(str(number))
        self.page.get_by_role("button", name="Begin").click()

    def is_asked(self):
        return self.page.locator("#asking").is_visible()

    def question(self):
        return self.page.locator("#question").inner_text()

    def save(self, folder):
        with self.page.expect_download() as downloaded:
            self.page.get_by_role("button", name="Save the answers").click()
        path = folder / downloaded.value.suggested_filename
        downloaded.value.save_as(path)
        return path

    def leave(self):
        assert not self.errors
        assert [url for url in self.asked if not url.startswith(("file:", "data:", "blob:"))] == []
        self.page.close()


def shown_entries(participant, study):
    """The questions of the key whose drawings are on the screen."""
    data = json.loads(participant.page.locator("#study").inner_text() or participant.page.evaluate(
        "document.getElementById('study').textContent"
    ))  # fmt: skip
    sources = [image.get_attribute("src") for image in participant.page.locator("#pictures img").all()]
    names = {address: name for name, address in data["images"].items()}
    shown = [names[source] for source in sources]
    questions = [q for forms in data["forms"] for form in forms for q in form]
    return [
        study.key["questions"][q["id"]]
        for q in questions
        if shown == ([q["image"]] if q["kind"] == "class" else [q["left"], q["right"]])
    ]


def test_answers_come_back(browser, study, tmp_path):
    """Two participants by clicks and by keys; what they saw is what the answers are joined with."""
    made, path = study
    files, expected = [], {}
    for number in (1, 2):
        participant = Participant(browser, path, number)
        assert participant.page.locator("h1").inner_text() == "Cats & dogs"
        while participant.is_asked():
            entry = shown_entries(participant, made)[0]
            if entry["kind"] == "class":
                assert participant.question() == "Which class does this map show?"
                participant.page.get_by_role("button", name=entry["target"]).click()
                expected[number, entry["picture"], "class"] = entry["source"], entry["target"]
            else:
                assert 'Both maps explain the class "cat"' in participant.question()
                participant.page.keyboard.press("5" if entry["right"] == "layer_cam" else "2")
                expected[number, entry["picture"], "trust"] = -2 if entry["right"] == "layer_cam" else -1
        files.append(participant.save(tmp_path))
        participant.leave()
    assert [file.name for file in files] == ["answers_1.json", "answers_2.json"]
    answers = preferences.read(files, made.key)
    assert len(answers.classes) == len(answers.trusts) == 6 and len(expected) == 12
    for answer in answers.classes:
        assert answer.answer == answer.target
        assert expected[answer.participant, answer.picture, "class"] == (answer.source, answer.target)
    for answer in answers.trusts:
        assert (answer.first, answer.second) == ("grad_cam", "layer_cam")
        assert answer.score == expected[answer.participant, answer.picture, "trust"]
    assert all(share.mean == 1 for share in preferences.summarize(answers).right.values())


def test_back_corrects_an_answer_and_a_part_can_be_saved(browser, study, tmp_path):
    made, path = study
    participant = Participant(browser, path, 1)
    first = shown_entries(participant, made)[0]
    assert participant.page.get_by_role("button", name="Back", exact=True).is_disabled()
    participant.page.get_by_role("button", name="cat").click()
    participant.page.keyboard.press("Backspace")
    assert shown_entries(participant, made)[0] == first
    assert participant.page.locator("button.chosen").inner_text() == "1. cat"
    participant.page.get_by_role("button", name="dog").click()
    participant.page.get_by_role("button", name="Stop and save").click()
    assert "You answered 1 of 6 questions." in participant.page.locator("#thanks").inner_text()
    [answer] = preferences.read([participant.save(tmp_path)], made.key).classes
    assert (answer.picture, answer.answer) == (first["picture"], "dog")
    participant.page.get_by_role("button", name="Back to the questions").click()
    assert "Question 2 of 6" in participant.page.locator("#place").inner_text()
    participant.leave()


def test_there_is_no_way_back_from_the_second_part(browser, study):
    """It names the class that the first part asks for."""
    participant = Participant(browser, study[1], 3)
    for _ in range(3):
        participant.page.get_by_role("button", name="cat").click()
    assert "trust more" in participant.question()
    participant.page.keyboard.press("Backspace")
    assert "trust more" in participant.question()
    assert participant.page.get_by_role("button", name="Back", exact=True).is_disabled()
    participant.leave()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(browser, study, width, scheme):
    """And each answer has one line. `JAXCAM_SCREENSHOTS` names a folder for pictures of the page."""
    viewport = {"width": width, "height": 800}
    participant = Participant(browser, study[1], 1, viewport=viewport, color_scheme=scheme)
    folder = os.environ.get("JAXCAM_SCREENSHOTS")
    while participant.is_asked():
        assert participant.page.evaluate("document.documentElement.scrollWidth") <= width
        assert max(button.bounding_box()["height"] for button in participant.page.locator("#choices button").all()) < 60
        if folder:
            kind = "trust" if "trust" in participant.question() else "class"
            participant.page.screenshot(path=pathlib.Path(folder) / f"study_{kind}_{width}_{scheme}.png")
        participant.page.keyboard.press("1")
    if folder:
        participant.page.screenshot(path=pathlib.Path(folder) / f"study_end_{width}_{scheme}.png")
    participant.leave()
