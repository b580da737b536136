"""Studies with people: balanced, blind, joined with the key, and summarized."""

import collections
import json
import re

import numpy as np
import pytest

from jaxcam.analysis import preferences
from jaxcam.analysis.preferences import DrawnMap, clustered_share, krippendorff_alpha

SOURCES = ("grad_cam", "layer_cam", "xgrad_cam")
PICTURES = [f"{i}.png" for i in range(7)]
CLASSES = ("cat", "dog")


def study_of(sources=SOURCES, pictures=PICTURES, **options):
    drawn = [
        DrawnMap(picture, source, name, np.full([2, 2, 3], (i + 7 * j + 21 * k) / 50))
        for i, picture in enumerate(pictures)
        for j, source in enumerate(sources)
        for k, name in enumerate(CLASSES)
    ]
    return preferences.make_study(drawn, dict.fromkeys(pictures, CLASSES), **options)


def data_of(study):
    [text] = re.findall(r'<script type="application/json" id="study">(.*?)</script>', study.page, re.DOTALL)
    return json.loads(text)


def test_forms_show_everything_equally_often():
    study = study_of()
    questions = study.key["questions"]
    classes, trusts = data_of(study)["forms"]
    assert (len(classes), len(trusts), study.forms) == (6, 6, 6)
    for form in (*classes, *trusts):
        assert sorted(questions[question["id"]]["picture"] for question in form) == PICTURES, "each picture once"
    shown = collections.Counter(
        tuple(questions[question["id"]][part] for part in ("picture", "source", "target"))
        for form in classes
        for question in form
    )
    assert shown == {(p, s, c): 1 for p in PICTURES for s in SOURCES for c in CLASSES}
    sides = collections.Counter(
        tuple(questions[question["id"]][part] for part in ("picture", "left", "right"))
        for form in trusts
        for question in form
    )
    assert sides == {(p, a, b): 1 for p in PICTURES for a in SOURCES for b in SOURCES if a != b}
    for form in classes:
        for part in ("source", "target"):
            counts = collections.Counter(questions[question["id"]][part] for question in form)
            assert len(counts) > 1 and max(counts.values()) - min(counts.values()) <= 1, part


def test_the_page_shows_what_the_key_says():
    study = study_of()
    data = data_of(study)
    addresses = {}
    for form in (form for forms in data["forms"] for form in forms):
        for question in form:
            entry = study.key["questions"][question["id"]]
            if question["kind"] == "class":
                assert question["choices"] == ["cat", "dog"]
                places = {question["image"]: (entry["picture"], entry["source"], entry["target"])}
            else:
                assert question["target"] == entry["target"] == "cat"
                sides = ("left", "right")
                places = {question[side]: (entry["picture"], entry[side], "cat") for side in sides}
            for image, place in places.items():
                assert addresses.setdefault(place, data["images"][image]) == data["images"][image]
    assert len(addresses) == len(set(addresses.values())) == 42, "every place has its own drawing"


def test_the_page_tells_no_secret_and_asks_no_server():
    study = study_of()
    for secret in (*SOURCES, *PICTURES):
        assert secret not in study.page
    assert "http" not in study.page.replace('http-equiv="Content-Security-Policy"', "")
    assert "default-src 'none'" in study.page
    names = list(data_of(study)["images"])
    assert names == sorted(names)


def test_the_names_of_drawings_and_questions_are_in_no_order():
    """A participant who reads the page's text learns neither the method nor the class from them."""
    study = study_of()
    questions, number_of = study.key["questions"], {}
    for form in data_of(study)["forms"][0]:
        for question in form:
            entry = questions[question["id"]]
            place = entry["picture"], entry["source"], entry["target"]
            number_of[place] = int(question["image"][1:]), int(question["id"][1:])
    numbers = np.array([number_of[place] for place in sorted(number_of)])
    for column in numbers.T:
        assert abs(np.corrcoef(column, np.arange(len(column)))[0, 1]) < 0.5


def test_a_seed_decides_everything():
    assert study_of(seed=3) == study_of(seed=3)
    assert data_of(study_of(seed=3))["forms"] != data_of(study_of(seed=4))["forms"]


def test_a_title_and_a_class_are_text():
    drawn = [DrawnMap("a", s, "</script><b>", np.zeros([1, 1, 3])) for s in ("x1", "x2")]
    study = preferences.make_study(drawn, {"a": ("</script><b>",)}, questions=["trust"], title="<i>&")
    assert study.page.count("</script>") == 2 and "<i>" not in study.page
    title = preferences.make_study(drawn, {"a": ("</script><b>",)}, questions=["trust"], title="/* the study */").page
    assert title.count("<h1>/* the study */</h1>") == 1
    assert data_of(study)["forms"][0][0][0]["target"] == "</script><b>"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sources": ("grad_cam",)}, "'trust' compares two sources, got grad_cam alone"),
        ({"questions": ("taste",)}, r"expected some of class, trust for questions, got \['taste'\]"),
        ({"questions": ()}, "expected some of class, trust"),
        ({"pictures": []}, "expected at least one map"),
    ],
)
def test_what_makes_no_study(change, says):
    with pytest.raises(ValueError, match=says):
        study_of(**{"questions": ("class", "trust"), **change})


def test_a_missing_map_and_a_choice_that_is_none():
    drawn = [DrawnMap("a", "x", name, np.zeros([1, 1, 3])) for name in CLASSES]
    with pytest.raises(ValueError, match="two maps have the same"):
        preferences.make_study([*drawn, drawn[0]], {"a": CLASSES}, questions=["class"])
    with pytest.raises(ValueError, match="no map of a by x for 'dog': 1 maps are missing"):
        preferences.make_study(drawn[:1], {"a": CLASSES}, questions=["class"])
    with pytest.raises(ValueError, match="at least 2, got 1"):
        preferences.make_study(drawn, {"a": ("cat",)}, questions=["class"])
    for names in (("cat", "dog", "cat"), ()):
        with pytest.raises(ValueError, match="expected different classes to choose from for a"):
            preferences.make_study(drawn, {"a": names})
    with pytest.raises(ValueError, match="the map of a by x for 'cat' has no choices: expected 'a' in choices, got"):
        preferences.make_study(drawn, {"b": CLASSES}, questions=["class"])


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.full([2, 2, 3], 200, np.uint8), "expected floats in 0..1, got uint8"),
        (np.full([2, 2, 3], 200.0), r"expected values in 0..1, got 200\.\.200"),
        (np.full([2, 2, 3], np.nan), "expected values in 0..1, got nan"),
        (np.zeros([1, 2, 2, 3]), r"expected pixels \[h w 3\], got \[1, 2, 2, 3\]"),
        (np.zeros([2, 2]), r"expected pixels \[h w 3\], got \[2, 2\]"),
    ],
)
def test_a_drawing_that_would_be_shown_wrongly(pixels, says):
    drawn = [DrawnMap("a", "x", "cat", np.zeros([2, 2, 3])), DrawnMap("a", "x", "dog", pixels)]
    with pytest.raises(ValueError, match=f"the map of a by x for 'dog': {says}"):
        preferences.make_study(drawn, {"a": CLASSES}, questions=["class"])


def write_answers(folder, study, answers_of):
    """The files of participants; `answers_of` gives their answers to an entry of the key."""
    forms = data_of(study)["forms"]
    files = []
    for number, answer in enumerate(answers_of, start=1):
        asked = [question for part in forms for question in part[(number - 1) % len(part)]]
        given = {question["id"]: answer(study.key["questions"][question["id"]]) for question in asked}
        files.append(folder / f"answers_{number}.json")
        record = {"study": study.key["study"], "participant": number, "answers": given}
        files[-1].write_text(json.dumps(record))
    return files


def test_a_participant_with_a_favorite(tmp_path):
    """One who always names the class that is shown, and trusts xgrad_cam clearly, whatever the side."""
    study = study_of()

    def answer(entry):
        if entry["kind"] == "class":
            return entry["target"] if entry["source"] != "grad_cam" else "cat"
        return -2 if entry["left"] == "xgrad_cam" else 2 if entry["right"] == "xgrad_cam" else 0

    answers = preferences.read(write_answers(tmp_path, study, [answer] * 6), study.key)
    assert (len(answers.classes), len(answers.trusts), answers.chance) == (42, 42, 0.5)
    summary = preferences.summarize(answers)
    assert {source: share.mean for source, share in summary.right.items()} == {
        "grad_cam": 0.5, "layer_cam": 1, "xgrad_cam": 1,
    }  # fmt: skip
    pair = summary.pairs["layer_cam", "xgrad_cam"]
    assert (pair.first.mean, pair.equal.mean, pair.second.mean, pair.score.mean) == (0, 0, 1, -2)
    assert summary.pairs["grad_cam", "layer_cam"].equal.mean == 1
    assert summary.trust_agreement == 1 and summary.participants == 6
    assert "| grad_cam | layer_cam | 14 |" in str(summary)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no file of answers"),
        ("[" * 100_000, "is no file of answers"),
        ("[1]", "is no file of answers"),
        ('{"study": "another", "participant": 1, "answers": {}}', "has answers to the study another"),
        ('{"study": STUDY, "participant": "1", "answers": {}}', "is no file of answers"),
        ('{"study": STUDY, "participant": 1, "answers": {"q999": 1}}', "no question 'q999' in the key"),
        ('{"study": STUDY, "participant": 1, "answers": {CLASS: "cow"}}', "expected one of cat, dog, got 'cow'"),
        ('{"study": STUDY, "participant": 1, "answers": {TRUST: 3}}', r"expected an integer in -2\.\.2, got 3"),
        ('{"study": STUDY, "participant": 1, "answers": {TRUST: true}}', r"expected an integer in -2\.\.2, got True"),
    ],
)
def test_a_file_that_is_not_of_this_study(tmp_path, text, says):
    key = study_of().key
    by_kind = {entry["kind"]: name for name, entry in key["questions"].items()}
    for word, value in {"STUDY": key["study"], "CLASS": by_kind["class"], "TRUST": by_kind["trust"]}.items():
        text = text.replace(word, json.dumps(value))
    file = tmp_path / "answers.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=says):
        preferences.read([file], key)


def test_a_participant_counts_once(tmp_path):
    study = study_of()
    [file] = write_answers(tmp_path, study, [lambda entry: "cat" if entry["kind"] == "class" else 0])
    copy = tmp_path / "copy.json"
    copy.write_text(file.read_text())
    with pytest.raises(ValueError, match="participant 1 is in"):
        preferences.read([file, copy], study.key)
    with pytest.raises(ValueError, match="at least one answer"):
        preferences.summarize(preferences.read([], study.key))


# Krippendorff, "Computing Krippendorff's alpha-reliability", 2011, section C: four observers, twelve units.
OBSERVERS = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("interval", 0.849)])
def test_alpha_is_the_published_one(level, alpha):
    rows = [line.split() for line in OBSERVERS.split("\n") if line]
    units = [[int(value) for value in unit if value != "."] for unit in zip(*rows, strict=True)]
    assert krippendorff_alpha(units, level=level) == pytest.approx(alpha, abs=5e-4)


def test_alpha_is_undefined_without_two_judgments_that_could_differ():
    assert krippendorff_alpha([[1], [2]]) is None and krippendorff_alpha([[1, 1], [1, 1]]) is None
    with pytest.raises(ValueError, match="choose one of nominal, interval"):
        krippendorff_alpha([[1, 2]], level="ratio")
    with pytest.raises(ValueError, match="got NaN: leave out what a person did not judge"):
        krippendorff_alpha([[1.0, float("nan")]])
    with pytest.raises(ValueError, match=r"expected numbers with the level 'interval', got \['cat', 'dog'\]"):
        krippendorff_alpha([["cat", "dog"]], level="interval")


def wilson(count, successes, quantile):
    """Wilson's interval from its definition: the shares p with |share - p| = quantile sqrt(p (1 - p) / count)."""
    share, grid = successes / count, np.linspace(0, 1, 200_001)
    inside = grid[np.abs(share - grid) <= quantile * np.sqrt(grid * (1 - grid) / count)]
    return inside.min(), inside.max()


def test_independent_answers_have_wilsons_interval():
    """Every answer has its own person and its own picture, so that nothing goes together."""
    values = [1] * 26 + [0] * 14
    share = clustered_share(values, range(40), range(40))
    expected = wilson(39, 39 * 26 / 40, 2.0227)  # t with 39 degrees of freedom; n - 1 as in the unbiased variance
    np.testing.assert_allclose(share[1:3], expected, atol=1e-4)


@pytest.mark.parametrize("way", ["people", "pictures"])
def test_copies_of_an_answer_add_nothing(way):
    values = [1, 0, 0, 1, 1, 0, 1, 1]
    clusters, copies = list(range(8)) * 5, list(range(5)) * 8
    ways = {"people": clusters, "pictures": [0] * 40} if way == "people" else {"people": [0] * 40, "pictures": clusters}
    assert len(copies) == 40
    once = clustered_share(values, range(8), [0] * 8)
    repeated = clustered_share(values * 5, **ways)
    np.testing.assert_allclose(repeated[:3], once[:3], rtol=1e-9)


def test_the_interval_covers_the_share_of_other_people_and_pictures():
    """People and pictures differ: the interval of independent answers covers the mean far too rarely."""
    rng = np.random.default_rng(0)
    covered = naive = 0
    for _ in range(300):
        people, pictures = rng.normal(size=[12, 1]), rng.normal(size=[1, 15])
        values = (people + pictures + rng.normal(size=[12, 15]) > 0).astype(float)
        who, what = np.indices(values.shape)
        share = clustered_share(values.ravel(), who.ravel().tolist(), what.ravel().tolist())
        covered += share.low <= 0.5 <= share.high
        naive += abs(values.mean() - 0.5) <= 1.96 * np.sqrt(values.mean() * (1 - values.mean()) / values.size)
    assert 0.93 <= covered / 300 <= 1 and naive / 300 < 0.7


def test_unanimous_answers_leave_a_doubt():
    share = clustered_share([1.0] * 60, list(range(6)) * 10, [i // 6 for i in range(60)])
    assert share.mean == share.high == 1 and share.low < 0.6
    assert clustered_share([1.0], ["a"], ["b"]) == (1, 0, 1, 1)
    with pytest.raises(ValueError, match="got none"):
        clustered_share([], [], [])
    with pytest.raises(ValueError, match="expected 2 people and pictures, as many as values, got 1 and 2"):
        clustered_share([0, 1], ["a"], [1, 2])
    for values in ([0, 2], [0, float("nan")]):
        with pytest.raises(ValueError, match=r"expected values in 0\.\.1, got"):
            clustered_share(values, ["a", "b"], [1, 2])


@pytest.mark.parametrize(
    "change",
    [
        {"questions": []},
        {"questions": {"q1": {}}},
        {"questions": {"q1": {"kind": "class", "picture": "none.png", "source": "a", "target": "b"}}},
        {"choices": {}},
        {"choices": None},
        {"sources": 3},
    ],
)
def test_a_key_that_was_changed_is_one_line(change):
    key = study_of().key
    for broken in ({**key, **change}, {}):
        with pytest.raises(ValueError, match="expected the key of a study, .*, got one that was changed") as refused:
            preferences.read([], broken)
        assert "\n" not in str(refused.value)
