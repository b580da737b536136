"""`jaxcam caption` and `jaxcam ask`: what they print, write and refuse."""

import json
import pathlib

import pytest

import jaxcam
from jaxcam.cli import main
from tests.cli.test_command_line import fails


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_caption_has_a_map_of_each_word(capsys):
    assert main(["caption", "--sample", "1", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    image, _ = jaxcam.pretrained.digits_canvas(1)
    caption = jaxcam.pretrained.captioner().caption(image)
    assert record["caption"] == caption.text and record["image"] == "canvas1"
    assert [word["word"] for word in record["words"]] == caption.text.split()
    assert record["log_prob"] == pytest.approx(caption.log_prob, abs=1e-3)
    assert record["files"] == ["canvas1.caption.png"] and pathlib.Path("canvas1.caption.png").exists()
    fails(capsys, "caption", "--sample", "1", says="canvas1.caption.png exists already; --force overwrites it")


def test_a_question_has_its_answers(capsys):
    pathlib.Path("cat.png").write_bytes(
        (pathlib.Path(jaxcam.__file__).parent / "pretrained" / "digits" / "canvas1.png").read_bytes()
    )
    assert main(["ask", "cat.png", "How many 3s are there?", "--top", "2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    expected = jaxcam.pretrained.answerer().ranked_answers(
        jaxcam.pretrained.digits_canvas(1)[0], "how many threes are there"
    )
    assert record["answer"] == expected[0].text and record["question"] == "how many threes are there"
    assert [answer["answer"] for answer in record["answers"]] == [answer.text for answer in expected[:2]]
    assert record["files"] == ["cat.answer.png"] and pathlib.Path("cat.answer.png").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["caption"], "expected a picture: give IMAGE, or --sample N for a sample canvas, and not both"),
        (["caption", "cat.png", "--sample", "0"], "expected a picture: give IMAGE"),
        (["caption", "--sample", "9"], "canvas 9 does not exist: choose one of 0..2"),
        (["caption", "--sample", "0", "--text", "two dogs"], "unknown word 'dogs' in the caption"),
        (["caption", "--sample", "0", "--text", ""], "expected a caption of at least one word, got none"),
        (["caption", "missing.png"], "missing.png"),
        (["ask", "--sample", "0", "how many cats are there?"], "unknown word 'cats' in the question"),
        (["ask", "how many threes are there?"], "expected IMAGE and QUESTION, or --sample N"),
        (["ask", "--sample", "0", "how", "many"], "expected the question alone with --sample"),
        (["ask", "--sample", "0", "is there a one", "--top", "0"], "top"),
        (["ask", "--sample", "0", "is there a one", "--std", "0.1"], "--std goes with --samples"),
    ],
)
def test_what_does_not_fit_gets_one_line(capsys, words, message):
    fails(capsys, *words, says=message)
    assert not list(pathlib.Path().iterdir())
