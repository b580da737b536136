"""ImageNet's validation images."""

import pytest

from jaxcam import datasets
from tests.datasets.files import annotation_file, picture_file


@pytest.fixture
def validation(tmp_path):
    for i in (1, 2):
        picture_file(tmp_path / "val" / f"ILSVRC2012_val_{i:08d}.JPEG")
    return tmp_path / "val"


def labeled(folder, text, **options):
    path = folder.parent / "labels.txt"
    path.write_text(text)
    return datasets.imagenet(folder, path, **options)


SYNSETS = {"n01440764": 0, "n01443537": 1}


def test_a_blacklist_leaves_images_out(validation, tmp_path):
    (tmp_path / "blacklist.txt").write_text("1\n17\n")
    text = "ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n"
    assert [example.label for example in labeled(validation, text, blacklist=tmp_path / "blacklist.txt")] == [970]
    with pytest.raises(ValueError, match="labels.txt: expected the number of an image on each line"):
        labeled(validation, text, blacklist=tmp_path / "labels.txt")


def test_kaggles_csv_has_labels_and_boxes(validation):
    text = (
        "ImageId,PredictionString\nILSVRC2012_val_00000002,n01440764 0 0 19 11 \n"
        "ILSVRC2012_val_00000001,n01443537 2 3 9 8 n01443537 10 3 18 8 \nILSVRC2012_val_00000003,n01440764 0 0 1 1 \n"
    )
    one, two = labeled(validation, text, classes=SYNSETS)
    assert (one.name, one.label, two.label) == ("ILSVRC2012_val_00000001", 1, 0)
    assert one.boxes.tolist() == [[3, 2, 9, 10], [3, 10, 9, 19]]
    assert two.boxes.tolist() == [[0, 0, 12, 20]]
    with pytest.raises(ValueError, match="names 2 of ImageNet's synsets, and only all 1000"):
        labeled(validation, text)
    lines = [f"ILSVRC2012_val_{i + 4:08d},n{i:08d} 0 0 1 1" for i in range(998)]
    one, two = labeled(validation, text + "\n".join(lines))
    assert (one.label, two.label) == (999, 998)


def test_lists_of_files_and_labels(validation):
    for text in (
        "ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n",
        "val/ILSVRC2012_val_00000002.JPEG\t970\nval/ILSVRC2012_val_00000001.JPEG\t65\n",
        "ILSVRC2012_val_00000001.JPEG,65\nILSVRC2012_val_00000002.JPEG,970\n",
    ):
        assert [(example.label, example.boxes) for example in labeled(validation, text)] == [(65, None), (970, None)]
    text = "ILSVRC2012_val_00000001.JPEG n01443537\nILSVRC2012_val_00000002.JPEG n01440764\n"
    assert [example.label for example in labeled(validation, text, classes=SYNSETS)] == [1, 0]
    assert [example.label for example in labeled(validation, "n01443537\nn01440764\n", classes=SYNSETS)] == [1, 0]


def test_boxes_from_a_folder_of_annotations(validation, tmp_path):
    text = "ILSVRC2012_val_00000001.JPEG n01443537\nILSVRC2012_val_00000002.JPEG n01440764\n"
    annotation_file(
        tmp_path / "xml/ILSVRC2012_val_00000001.xml", ("n01443537", 0, 2, 3, 9, 8), ("n01440764", 0, 0, 0, 1, 1)
    )
    second = annotation_file(tmp_path / "xml/ILSVRC2012_val_00000002.xml", ("n01440764", 0, -3, 0, 25, 12))
    one, two = labeled(validation, text, classes=SYNSETS, boxes=tmp_path / "xml")
    assert one.boxes.tolist() == [[3, 2, 9, 10]]
    assert two.boxes.tolist() == [[0, 0, 12, 20]]  # clipped to the size that the annotation gives
    annotation_file(second, ("n01443537", 0, 0, 0, 5, 5))
    with pytest.raises(ValueError, match="00000002.xml has no box of n01440764"):
        labeled(validation, text, classes=SYNSETS, boxes=tmp_path / "xml")
    second.write_text("<annotation>")
    with pytest.raises(ValueError, match="00000002.xml is not an annotation"):
        labeled(validation, text, classes=SYNSETS, boxes=tmp_path / "xml")
    second.unlink()
    with pytest.raises(FileNotFoundError, match="no such file: .*00000002.xml"):
        labeled(validation, text, classes=SYNSETS, boxes=tmp_path / "xml")


def test_what_imagenet_refuses(validation, tmp_path):
    one, two = "ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"
    for text, wrong in [
        ("490\n361\n", "a number a line, as the devkit's ground truth does"),
        ("n01440764\n", "got 1 labels for 2 pictures"),
        (f"{one} 1\n", "no label for ILSVRC2012_val_00000002.JPEG"),
        (f"{one} 1\n{two} 1000\n", "expected labels 0..999, as outputs count, got labels 1..1000"),
        (
            f"{one} 1\n{two} 2\n" + "".join(f"a{i} {i}\n" for i in range(3, 1000)),
            "expected labels 0..999, as outputs count, got labels 1..999",
        ),
        (f"{one} cat\n{two} 2\n", "ILSVRC2012_val_00000001 has label 'cat'"),
        (f"{one} 1\n{one} 2\n", "has two labels, 1 and 2"),
        (f"{one} 1\n{two} n01440764\n", "synsets and numbers"),
        (f"{one} 1 2\n", "expected a file's name and a label"),
        (f"ImageId,PredictionString\n{one},n01440764 1 2 3\n", "expected 'synset xmin ymin xmax ymax' for each box"),
        (f"ImageId,PredictionString\n{one},n01440764 1 2 3 4 n01443537 1 2 3 4\n", "expected boxes of one synset"),
    ]:
        with pytest.raises(ValueError, match=wrong):
            labeled(validation, text)
    with pytest.raises(ValueError, match="no class 'n01440765' in classes: is it 'n01440764'"):
        labeled(validation, f"{one} n01440764\n{two} n01440765\n", classes=SYNSETS)
    (tmp_path / "sorted" / "n01440764").mkdir(parents=True)
    with pytest.raises(ValueError, match="sorted has no pictures: folder reads"):
        labeled(tmp_path / "sorted", f"{one} 1\n")
