"""The names of classes."""

import pytest

import jaxcam
from jaxcam import pretrained
from tests.pretrained.refusal import refusal


def test_names_of_classes():
    names = pretrained.imagenet_classes()
    assert len(names) == 1000
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")
    find = pretrained.find_class
    assert (find("TABBY", names), find("281", names), find(" tabby ", names)) == (281, 281, 281)
    assert refusal(find, "cardigan", names) == "'cardigan' is the name of classes 264 and 474: give the number"
    assert refusal(find, "tigre cat", names).startswith("no class 'tigre cat': did you mean 'tiger cat', ")
    assert "'great white shark'" in refusal(find, "white shark", names)
    assert refusal(find, "1000", names) == "no class 1000: choose a number in 0..999 or a name"
    assert "choose a number in 0..999 or a name: 'tench', 'goldfish'" in refusal(find, "zzzz", names)
    assert "choose a number in 0..2 or a name: 'a', 'b', 'c'" in refusal(find, "", ("a", "b", "c"))


def test_a_file_of_class_names(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("Katze\nHündin \n", encoding="utf-8")
    assert pretrained.class_names(path) == ("Katze", "Hündin")
    path.write_text("cat\n\ndog\n")
    message = "classes.txt: expected a class name in line 2, got an empty line"
    assert refusal(pretrained.class_names, path).endswith(message)
    path.write_text("")
    assert refusal(pretrained.class_names, path).endswith("classes.txt: expected class names, got an empty file")
    path.write_bytes(b"\xff\xfe")
    assert "expected a text file with one class name per line" in refusal(pretrained.class_names, path)
    with pytest.raises(FileNotFoundError):
        pretrained.class_names(tmp_path / "nowhere")


def test_the_digits_have_names(digits):
    assert digits.class_names == tuple("0123456789")
    with pytest.raises(ValueError, match="expected 10 class_names, one for each class, got 1"):
        jaxcam.vgg_digits(class_names=["cat"])
