"""A folder of pictures for each class."""

import pytest

from jaxcam import datasets
from tests.datasets.files import picture_file


def test_a_folder_for_each_class(tmp_path):
    for name in ["cat/1.png", "cat/2.jpg", "Dog/1.png", ".hidden/3.png", "cat/.4.png"]:
        picture_file(tmp_path / name)
    (tmp_path / "cat" / "notes.txt").write_text("")
    examples = datasets.folder(tmp_path)
    assert [(example.name, example.label) for example in examples] == [("Dog-1", 0), ("cat-1", 1), ("cat-2", 1)]
    assert examples[0].image == tmp_path / "Dog" / "1.png"
    by_name = datasets.folder(tmp_path, classes=("bird", "cat", "dog"))
    assert [example.label for example in by_name] == [2, 1, 1]
    assert [example.label for example in datasets.folder(tmp_path, classes={"cat": 281, "Dog": 207})] == [207, 281, 281]
    with pytest.raises(ValueError, match="cat: no class 'cat' in classes: is it 'cats', 'Dog'|no class 'cat'"):
        datasets.folder(tmp_path, classes={"cats": 0, "Dog": 1})
    with pytest.raises(ValueError, match="cat: no class 'cat': did you mean 'cats'"):
        datasets.folder(tmp_path, classes=["cats", "dog"])
    with pytest.raises(TypeError, match="expected classes to be names in the order .* got 'cat,dog'"):
        datasets.folder(tmp_path, classes="cat,dog")


def test_synset_folders_want_all_1000(tmp_path):
    ids = [f"n{i:08d}" for i in range(0, 5000, 5)]
    for synset in ids:
        (tmp_path / synset).mkdir()
    picture_file(tmp_path / ids[999] / "a.png")
    assert [example.label for example in datasets.folder(tmp_path)] == [999]
    (tmp_path / ids[3]).rmdir()
    with pytest.raises(ValueError, match="names 999 of ImageNet's synsets, and only all 1000"):
        datasets.folder(tmp_path)
    (tmp_path / "mapping.txt").write_text("".join(f"{synset} some, words\n" for synset in ids))
    order = datasets.synsets(tmp_path / "mapping.txt")
    assert [example.label for example in datasets.folder(tmp_path, classes=order)] == [999]


def test_folders_called_by_numbers_want_classes_where_sorting_would_change_them(tmp_path):
    for i in range(10):
        picture_file(tmp_path / str(i) / f"{i}.png")
    assert [example.label for example in datasets.folder(tmp_path)] == list(range(10))
    picture_file(tmp_path / "10" / "10.png")
    with pytest.raises(ValueError, match="folders called by numbers, 0, 1, 10, 2, .* give classes="):
        datasets.folder(tmp_path)
    examples = datasets.folder(tmp_path, classes=[*map(str, range(11))])
    assert {example.name: example.label for example in examples} == {str(i): i for i in range(11)}


def test_what_folder_refuses(tmp_path):
    picture_file(tmp_path / "flat" / "a.png")
    with pytest.raises(ValueError, match="flat has no folders: expected one for each class"):
        datasets.folder(tmp_path / "flat")
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match="empty has folders, and none has pictures"):
        datasets.folder(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="none"):
        datasets.folder(tmp_path / "none")
