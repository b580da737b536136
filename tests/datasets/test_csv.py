"""A csv file of pictures."""

import importlib.resources
import pathlib

import numpy as np
import pytest

from jaxcam import datasets
from jaxcam.datasets import Example, MaskFile, images, load
from tests.datasets.files import gray_file, picture_file


def table(tmp_path, text, **options):
    (tmp_path / "a.csv").write_text(text)
    return datasets.csv(tmp_path / "a.csv", **options)


def test_a_csv_with_masks_and_boxes(tmp_path):
    for name in ("a.png", "sub/b.png", "c.png"):
        picture_file(tmp_path / name)
    gray_file(tmp_path / "masks" / "a.png", np.ones([12, 20]))
    text = (
        "image,label,mask,xmin,ymin,xmax,ymax,split\n"
        "a.png,1,masks/a.png,2,1,10,5,test\na.png,1,masks/a.png,11,6,20,12,test\n"
        "sub/b.png,0,,,,,,test\na.png,0,,0,0,3.5,3,test\nc.png,2,,,,,,train\n"
    )
    examples = table(tmp_path, text, where={"split": "test"})
    assert [(example.name, example.label) for example in examples] == [("a-0", 0), ("a-1", 1), ("b", 0)]
    assert examples[0].boxes.tolist() == [[0, 0, 3, 3.5]] and examples[0].mask is None
    assert examples[1].boxes.tolist() == [[1, 2, 5, 10], [6, 11, 12, 20]]
    assert examples[1].mask == MaskFile(tmp_path / "masks" / "a.png", None, (255,))
    assert examples[2].boxes is None and examples[2].image == tmp_path / "sub" / "b.png"
    assert load(examples[1], (12, 20)).boxes.tolist() == examples[1].boxes.tolist()
    assert table(tmp_path, "image\nc.png\n") == [Example(tmp_path / "c.png", name="c")]
    assert table(tmp_path, "\ufeffimage\nb.png\n", root=tmp_path / "sub")[0].image == tmp_path / "sub" / "b.png"


def test_what_csv_refuses(tmp_path):
    picture_file(tmp_path / "a.png")
    for text, options, wrong in [
        ("file,label\na.png,1\n", {}, "has no column 'image': it has file, label"),
        ("image,label\na.png,1\n", {"columns": {"label": "class"}}, "has no column 'class'"),
        ("image,label\na.png,1\n", {"columns": {"picture": "image"}}, "columns has 'picture': choose from image, "),
        ("image,label\na.png,1\n", {"where": {"split": "test"}}, "has no column 'split'"),
        ("image,split\na.png,train\n", {"where": {"split": "test"}}, "has no row with split = test"),
        ("image,label\n", {}, "a.csv has no row$"),
        ("", {}, "has no column 'image': it has none"),
        ("image,label\na.png,cat\n", {}, "a.csv, line 2: label 'cat' is a name: give classes="),
        ("image,label\na.png,cta\n", {"classes": ["dog", "cat"]}, "line 2: no class 'cta': did you mean 'cat'"),
        ("image,label\na.png,2\n", {"classes": ["dog", "cat"]}, "line 2: no class 2: choose a number in 0..1"),
        ("image,xmin\na.png,2\n", {}, "expected all four or none"),
        ("image,xmin,ymin,xmax,ymax\na.png,2,1,x,4\n", {}, "line 2: expected a number of pixels for xmax, got 'x'"),
        ("image,xmin,ymin,xmax,ymax\na.png,2,1,,4\n", {}, "line 2: expected a number of pixels for xmax, got ''"),
        ("image,mask\na.png,a.png\na.png,b.png\n", {}, "line 3: mask 'b.png', and 'a.png'"),
        ("image,label\n,1\n", {}, "line 2: no image"),
        ("image\na.png,1\n", {}, "line 2: more cells than columns"),
    ]:
        with pytest.raises(ValueError, match=wrong):
            table(tmp_path, text, **options)
    for text, options in [
        ("image\nmissing.png\n", {}),
        ("image,mask\na.png,missing.png\n", {}),
        ("image\na.png\n", {"masks": tmp_path / "missing.png"}),
    ]:
        with pytest.raises(FileNotFoundError, match="no such file: .*missing.png"):
            table(tmp_path, text, **options)
    (tmp_path / "b.csv").write_bytes(b"image\n\xff\xfe\n")
    with pytest.raises(ValueError, match="b.csv is not a csv file"):
        datasets.csv(tmp_path / "b.csv")


def test_the_pets_as_their_csv_has_them(assets):
    pets = assets / "pets"
    examples = datasets.csv(
        pets / "index.csv", root=pets / "images", masks=pets / "trimaps", inside=(1,), ignore=(3,),
        columns={"image": "file", "xmin": "head_xmin", "ymin": "head_ymin", "xmax": "head_xmax", "ymax": "head_ymax"},
        classes=("Abyssinian", "Bengal", "american_bulldog"), where={"split": "test"},
    )  # fmt: skip
    assert len(examples) == 150 and sum(example.boxes is not None for example in examples) == 72
    lines = (pets / "index.csv").read_text().splitlines()
    for label, name in enumerate(("Abyssinian", "Bengal", "american_bulldog")):
        assert (
            sum(example.label == label for example in examples) == sum(f",{name},test," in line for line in lines) > 0
        )
    heads = [example for example in examples if example.boxes is not None][:4]
    for example in heads:
        loaded = load(example, (224, 224))
        assert set(np.unique(loaded.mask)) == {-1, 0, 1}
        row0, column0, row1, column1 = loaded.boxes[0].astype(int)
        # A head's box lies on its animal.
        assert (loaded.mask[row0:row1, column0:column1] != 0).mean() > 0.6
    empty = Example(pets / "images/Abyssinian_34.jpg", mask=MaskFile(pets / "trimaps/Abyssinian_34.png", (1,), (3,)))
    with pytest.raises(ValueError, match="Abyssinian_34.png has no pixel of the object: its values are 2;"):
        load(empty, (224, 224))  # as it is in the dataset


def test_names_that_recur_take_their_path_in(tmp_path):
    for name in ("x/1.png", "y/1.png", "y/1.jpg"):
        picture_file(tmp_path / name)
    assert [example.name for example in table(tmp_path, "image\nx/1.png\ny/1.png\n")] == ["x-1", "y-1"]
    assert [example.name for example in table(tmp_path, "image\nx/1.png\ny/1.png\ny/1.jpg\n")] == [
        "x-1.png", "y-1.jpg", "y-1.png",
    ]  # fmt: skip
    picture_file(tmp_path / "y-1.png")
    with pytest.raises(ValueError, match="are both called 'y-1.png'"):
        table(tmp_path, "image\ny/1.png\ny/1.jpg\ny-1.png\n")


def test_the_digits_canvas_is_found_by_its_own_boxes(tmp_path):
    digits = pathlib.Path(str(importlib.resources.files("jaxcam.pretrained") / "digits"))
    [example] = table(tmp_path, "image,label\ncanvas1.png,3\n", root=digits)
    assert (load(example, (64, 64)).image == images.read(digits / "canvas1.png")).all()
