"""`jaxcam study`: the page and the key of real maps, and what answers say."""

import base64
import importlib.resources
import io
import json
import pathlib
import re

import numpy as np
import pytest

import jaxcam
from jaxcam.cli import main
from jaxcam.datasets import images

CANVASES = importlib.resources.files("jaxcam.pretrained") / "digits"


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (0, 1):
        pathlib.Path(f"{number}.png").write_bytes((CANVASES / f"canvas{number}.png").read_bytes())
    return ["0.png", "1.png"]


def data_of(page):
    [text] = re.findall(r'<script type="application/json" id="study">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(text)


def test_the_page_and_the_key(pictures, capsys):
    words = ["study", *pictures, "--model", "digits", "--methods", "grad_cam,hires_cam", "--choices", "3", "--json"]
    assert main(words) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == {"page": "study.html", "key": "study_key.json", "pictures": 2, "forms": 6}
    key, data = json.loads(pathlib.Path("study_key.json").read_text()), data_of(pathlib.Path("study.html"))
    assert key["sources"] == ["grad_cam", "hires_cam"] and list(key["choices"]) == pictures
    opened = jaxcam.open_model("digits")
    assert key["choices"]["1.png"] == [entry.name for entry in jaxcam.explain(opened, "1.png").top[:3]]

    # A question of Grad-CAM shows that map: the drawing is the picture and the map in color, half and half.
    [(name, entry)] = [
        (name, entry)
        for name, entry in key["questions"].items()
        if entry == {"kind": "class", "picture": "1.png", "source": "grad_cam", "target": key["choices"]["1.png"][1]}
    ]
    [question] = [q for form in data["forms"][0] for q in form if q["id"] == name]
    address = data["images"][question["image"]]
    drawn = images.read(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
    explanation = jaxcam.explain(opened, "1.png", entry["target"], methods="grad_cam")
    saliency = np.asarray(jaxcam.normalize(explanation.on_image("grad_cam").filled(0)))
    expected = 0.5 * explanation.image + 0.5 * jaxcam.plots.colors(saliency)
    assert drawn.shape == (420, 420, 3)
    assert np.abs(images.fit(drawn, (64, 64)) - expected).mean() < 0.02

    assert main(words) == 2 and "study.html exists already" in capsys.readouterr().err


@pytest.mark.long
def test_answers_are_read(pictures, capsys):
    assert (
        main(["study", *pictures, "--model", "digits", "--methods", "grad_cam,hires_cam", "--questions", "trust"]) == 0
    )
    assert "multiples of 2 are balanced exactly" in capsys.readouterr().out
    data = data_of(pathlib.Path("study.html"))
    key = json.loads(pathlib.Path("study_key.json").read_text())
    for number in (1, 2):
        answers = {
            question["id"]: 1 if key["questions"][question["id"]]["right"] == "hires_cam" else -1
            for question in data["forms"][0][number - 1]
        }
        record = {"study": data["id"], "participant": number, "answers": answers}
        pathlib.Path(f"answers_{number}.json").write_text(json.dumps(record))
    assert main(["study", "--read", "answers_1.json", "answers_2.json"]) == 0
    printed = capsys.readouterr().out
    assert "| grad_cam | hires_cam | 4 | 0.000 [0.000, " in printed and "| -1.00 [" in printed
    assert main(["study", "--read", "answers_1.json", "--json"]) == 0
    [pair] = json.loads(capsys.readouterr().out)["pairs"]
    assert pair["sources"] == ["grad_cam", "hires_cam"]
    assert (pair["score"]["mean"], pair["second"]["mean"]) == (-1, 1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "expected pictures to make a study of, or --read with files of answers"),
        (["--read", "answers.json"], "study_key.json: No such file or directory"),
        (["a.png", "--read", "answers.json"], "--read takes files of answers, and no pictures go with it"),
        (["--read", "answers.json", "--key", "other.json"], "other.json is no key of a study: give the study_key.json"),
        (
            ["--read", "answers.json", "--key", "number.json"],
            "number.json is no key of a study: give the study_key.json",
        ),
        (["--read", "answers.json", "--key", "deep.json"], "deep.json is no key of a study: it is no JSON"),
        (["0.png", "0.png", "--model", "digits"], "two pictures have the name 0.png"),
        (["0.png", "--model", "digits", "--out", "nowhere"], "--out nowhere does not exist"),
    ],
)
def test_a_mistake_is_one_line(pictures, words, says, capsys):
    for name, text in {"other": "[]", "number": "3", "deep": "[" * 100_000}.items():
        pathlib.Path(f"{name}.json").write_text(text)
    assert main(["study", *words]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
