"""The training of the networks that caption and answer, at a small size, and the parts that it is made of."""

import json

import numpy as np
import pytest

from tests.examples.test_examples import run

pytest.importorskip("mlxtend")
pytest.importorskip("skimage")


@pytest.mark.long
def test_training_of_captioner_and_answerer(tmp_path):
    options = ("--scenes", 256, "--steps", 25, "--batch", 8, "--test", 20, "--work", tmp_path / "work")
    first = run("examples.captions.train", "--out", tmp_path / "out", *options)
    assert "step 25: loss" in first
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["training_scenes"] == 256 and 0 <= scores["answer_accuracy"] <= 1
    with np.load(tmp_path / "out" / "answerer.npz") as arrays:
        assert {arrays[name].dtype for name in arrays.files} == {np.dtype(np.float16)}
    # The scenes and the checkpoint are taken up again, so nothing is left to train.
    again = run("examples.captions.train", "--out", tmp_path / "out", *options)
    assert "goes on from step 25" in again and "step 25: loss" not in again
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == scores


def test_centers_are_at_their_locations():
    from examples.captions import scenes, train

    for scene in scenes.draw_many(5, "train", 20):
        digits, colors = train.centers_of(scene)
        assert sorted(digits[digits != train.NO_DIGIT]) == sorted(scene.digits)
        for digit, (row0, column0, row1, column1) in zip(scene.digits, scene.boxes, strict=True):
            assert digits[(row0 + row1) // 16, (column0 + column1) // 16] == digit
        named = scene.colors or ()
        assert sorted(colors[colors != train.NO_COLOR]) == sorted(scenes.COLORS.index(name) for name in named)


@pytest.mark.long
def test_easy_vqa(tmp_path):
    pytest.importorskip("easy_vqa")
    options = ("--steps", 25, "--batch", 8, "--test", 200, "--maps", 4)
    printed = run("examples.questions.easy_vqa", "--out", tmp_path, *options)
    assert '"accuracy, teal"' in printed and "| Grad-CAM++, exact | " in printed


def test_attributes_are_those_of_the_questions_about_an_image():
    pytest.importorskip("easy_vqa")
    from examples.questions import easy_vqa

    answers = easy_vqa.network().answers
    numbers = np.array([answers.index(name) for name in ("circle", "yes", "teal", "no")])
    data = easy_vqa.Questions(np.zeros([3, 1, 1, 3]), np.zeros([4, 1]), numbers, np.array([0, 0, 1, 2]), [""] * 4)
    circle, teal, neither = easy_vqa.attributes_of(data)
    assert [answers[i] for i in np.flatnonzero(circle == 1)] == ["circle"]
    assert {answers[i] for i in np.flatnonzero(circle == 0)} == {"rectangle", "triangle"}
    assert [answers[i] for i in np.flatnonzero(teal == 1)] == ["teal"]
    assert not np.isfinite(teal[[answers.index(name) for name in (*easy_vqa.SHAPES, "yes", "no")]]).any()
    assert np.isnan(neither).all()


def test_captions_of_photographs_are_scored():
    pytest.importorskip("pycocoevalcap")
    from examples.captions import photographs

    references = [[["a", "dog", "runs", "over", "grass"]] * 5, [["two", "men", "sit", "on", "a", "bench"]] * 5]
    same = photographs.scores_of(["a dog runs over grass", "two men sit on a bench"], references)
    other = photographs.scores_of(["two men sit on a bench", "a dog runs over grass"], references)
    assert same["BLEU-4"] > 99.9 and same["CIDEr"] > 500 and other["BLEU-4"] < 1 and other["CIDEr"] < 1


def test_words_of_captions():
    from examples.captions import photographs

    captions = [[["a", "dog"]] * photographs.LEAST_COUNT, [["a", "cat"]]]
    words = photographs.vocabulary_of(captions)
    assert words == (".", "<unknown>", "a", "dog")
    numbers = {word: number for number, word in enumerate(words)}
    tokens = photographs.tokens_of(["a", "cat", *["a"] * 30], numbers)
    assert tokens.tolist() == [2, 1, *[2] * 17, 0]


def test_words_name_classes_and_boxes_are_masks():
    from examples.captions import photographs_table

    assert photographs_table.class_of("women", ["person"]) == "person"
    mask = photographs_table.mask_of({"boxes": [[1, 0.5, 0.5, 0.5, 0.25], [0, 0.1, 0.1, 0.1, 0.1]]}, 1)
    assert mask[84:140, 56:168].all() and mask.sum() == 56 * 112
