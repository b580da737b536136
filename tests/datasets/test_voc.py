"""PASCAL VOC's images."""

import numpy as np
import pytest

from jaxcam import datasets
from jaxcam.datasets import MaskFile, load
from tests.datasets.files import annotation_file, gray_file, picture_file


@pytest.fixture
def year(tmp_path):
    root = tmp_path / "VOC2007"
    for image in ("000001", "000002"):
        picture_file(root / "JPEGImages" / f"{image}.jpg")
    annotation_file(
        root / "Annotations/000001.xml", ("dog", 0, 1, 1, 20, 12), ("person", 0, 3, 2, 9, 8), ("dog", 0, 5, 5, 6, 7),
        ("cat", 1, 1, 1, 4, 4),
    )  # fmt: skip
    annotation_file(root / "Annotations/000002.xml", ("cat", 0, 2, 2, 4, 4))
    for part in ("Main", "Segmentation"):
        (root / "ImageSets" / part).mkdir(parents=True)
    (root / "ImageSets/Main/test.txt").write_text("000001\n000002\n")
    (root / "ImageSets/Segmentation/test.txt").write_text("000001\n")
    values = np.zeros([12, 20], np.uint8)
    values[:, :2], values[0], values[6:8, 5:9] = 12, 255, 15  # dog, outline, person
    gray_file(root / "SegmentationClass/000001.png", values)
    return root


def test_an_example_for_each_class_in_each_image(year):
    examples = datasets.voc(year)
    assert [(example.name, example.label) for example in examples] == [
        ("000001-dog", 11),
        ("000001-person", 14),
        ("000002-cat", 7),
    ]
    assert examples[0].boxes.tolist() == [[0, 0, 12, 20], [4, 4, 7, 6]]
    assert examples[1].boxes.tolist() == [[1, 2, 8, 9]]
    assert load(examples[0], (12, 20)).boxes.tolist() == examples[0].boxes.tolist()
    assert [example.name for example in datasets.voc(year, difficult=True)][:2] == ["000001-cat", "000001-dog"]
    names = {"dog": 207, "cat": 281, "person": 999}
    assert [example.label for example in datasets.voc(year, classes=names)] == [207, 999, 281]


def test_vocs_masks(year):
    dog, person = datasets.voc(year, masks=True)
    assert dog.mask == MaskFile(year / "SegmentationClass/000001.png", (12,), (255,))
    loaded = load(dog, (12, 20)).mask
    assert loaded[0].tolist() == [-1] * 20 and (loaded[1:, :2] == 1).all() and (loaded[1:, 2:] == 0).all()
    assert (load(person, (12, 20)).mask == 1).sum() == 8


def test_what_voc_refuses(year):
    with pytest.raises(ValueError, match="has no folder JPEGImages: did you mean .*VOC2007"):
        datasets.voc(year.parent)
    with pytest.raises(FileNotFoundError, match="no such file: .*val.txt"):
        datasets.voc(year, split="val")
    with pytest.raises(ValueError, match="000001.xml: no class 'dog': did you mean 'dogs'"):
        datasets.voc(year, classes=("dogs", "person", "cat"))
    (year / "ImageSets/Main/test.txt").write_text("000003\n")
    with pytest.raises(FileNotFoundError, match="no such file: .*000003.jpg"):
        datasets.voc(year)
    annotation_file(year / "Annotations/000002.xml", ("cat", 1, 2, 2, 4, 4))
    (year / "ImageSets/Main/hard.txt").write_text("000002\n")
    with pytest.raises(ValueError, match="split 'hard' has no objects"):
        datasets.voc(year, split="hard")
