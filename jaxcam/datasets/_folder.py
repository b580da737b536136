"""Labelled images as they lie on disks, each as an `Example`: its picture, its class, where the object is.

`folder`, `csv`, `imagenet` and `voc` list examples without reading a pixel; `load` reads one when its turn comes.

>>> import importlib.resources, tempfile
>>> digits = importlib.resources.files("jaxcam.pretrained") / "digits"
>>> with tempfile.TemporaryDirectory() as path:
...     table = pathlib.Path(path) / "labels.csv"
...     _ = table.write_text("image,label,xmin,ymin,xmax,ymax\ncanvas1.png,3,2,4,8,12\n")
...     [example] = csv(table, root=digits)
>>> loaded = load(example, (32, 32))
>>> loaded.image.shape, loaded.label, loaded.boxes.tolist()
((32, 32, 3), 3, [[2.0, 1.0, 6.0, 4.0]])

Class numbers are those of the model's outputs, from 0. Where a folder or file does not say them beyond doubt, `classes`
is asked for: a number that is off by one raises no error anywhere, and only makes the figures bad.
"""

import pathlib

from jaxcam.datasets._classes import SYNSET, Classes, checked_classes, synset_order
from jaxcam.datasets._classes import number as number_of
from jaxcam.datasets._example import Example, Path, in_order, names_of, pictures_in


def folder(path: Path, *, classes: Classes | None = None) -> list[Example]:
    """The pictures of a folder for each class, as ImageNet's validation images are usually kept.

        path/
          n01440764/ILSVRC2012_val_00000293.JPEG
          n01443537/...

    Args:
      path: of the folder of folders.
      classes: the folders' names in the order of the model's outputs, or a mapping from name to number. Where absent,
        the folders' names are numbered in sorted order, as torchvision and Keras do; give it where a class may have
        no folder here. Folders of ImageNet's synsets that are not all 1000, and folders called by numbers that sorting
        would put in another order (10 before 2), are refused without it.

    Returns:
      An example for each picture, sorted by name: the file's without its suffix, after its class where names recur.

    Raises:
      ValueError: no folders, no pictures, numbers that are in doubt, a folder that is no class.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as path:
      ...     for name in ("cat", "dog"):
      ...         (pathlib.Path(path) / name).mkdir()
      ...         (pathlib.Path(path) / name / "1.png").touch()
      ...     [(each.name, each.label) for each in folder(path)]
      [('cat-1', 0), ('dog-1', 1)]
    """
    root = pathlib.Path(path)
    folders = sorted(each for each in root.iterdir() if each.is_dir() and not each.name.startswith("."))
    if not folders:
        raise ValueError(f"{root} has no folders: one for each class is wanted; see csv and imagenet for a flat folder")
    if classes is None:
        names = [each.name for each in folders]
        if all(map(str.isdecimal, names)) and names != list(map(str, range(len(names)))):
            raise ValueError(
                f"{root} has folders called by numbers, {', '.join(names[:4])}, ..., and it is not clear whether those "
                "are the model's: give classes=, [*map(str, range(1000))] if so, the names in its order if not"
            )
        classes = synset_order(names, root) if all(map(SYNSET.fullmatch, names)) else names
    classes = checked_classes(classes)
    number = {each: number_of(each.name, classes, each) for each in folders}
    pictures = [picture for each in folders for picture in pictures_in(each)]
    if not pictures:
        raise ValueError(f"{root} has folders, and none has pictures in it")
    names = names_of([picture.relative_to(root) for picture in pictures])
    return in_order(Example(p, number[p.parent], name=name) for p, name in zip(pictures, names, strict=True))


def of_synsets(path: Path) -> bool:
    """Whether a folder's folders are called by ImageNet's synsets, as in n01440764."""
    folders = [each.name for each in pathlib.Path(path).iterdir() if each.is_dir() and not each.name.startswith(".")]
    return bool(folders) and all(map(SYNSET.fullmatch, folders))
