"""A folder of pictures for each class."""

import pathlib

from jaxcam.datasets._classes import SYNSET, Classes, checked_classes, class_number, sorted_synsets
from jaxcam.datasets._example import Example
from jaxcam.datasets._files import Path, distinct_names, folders_in, pictures_in, sorted_by_name


def folder(path: Path, *, classes: Classes | None = None) -> list[Example]:
    """Lists the pictures of one folder per class, the usual layout of ImageNet's validation images.

        path/
          n01440764/ILSVRC2012_val_00000293.JPEG
          n01443537/...

    Args:
      path: the folder of folders.
      classes: the folders' names in the order of the model's outputs, or a mapping from name to number. By default the
        folders' names are numbered in sorted order, as in torchvision and Keras. Give it if a class may have no folder.
        It is required for folders of ImageNet's synsets that are not all 1000, and for folders that are named by
        numbers whose sorted order differs (10 before 2).

    Returns:
      An example for each picture, sorted by name. The name is that of the file without its suffix, with its class in
      front if names recur.

    Raises:
      ValueError: there are no folders or no pictures, the numbers are ambiguous, or a folder is not a class.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as path:
      ...     for name in ("cat", "dog"):
      ...         (pathlib.Path(path) / name).mkdir()
      ...         (pathlib.Path(path) / name / "1.png").touch()
      ...     [(example.name, example.label) for example in folder(path)]
      [('cat-1', 0), ('dog-1', 1)]
    """
    root = pathlib.Path(path)
    folders = folders_in(root)
    if not folders:
        raise ValueError(f"{root} has no folders: expected one for each class; csv and imagenet read a flat folder")
    if classes is None:
        names = [class_folder.name for class_folder in folders]
        if all(map(str.isdecimal, names)) and names != list(map(str, range(len(names)))):
            raise ValueError(
                f"{root} has folders called by numbers, {', '.join(names[:4])}, ..., and it is not clear whether those "
                "are the model's: give classes=, [*map(str, range(1000))] if so, the names in its order if not"
            )
        classes = sorted_synsets(names, root) if all(map(SYNSET.fullmatch, names)) else names
    classes = checked_classes(classes)
    numbers = {class_folder: class_number(class_folder.name, classes, class_folder) for class_folder in folders}
    pictures = [picture for class_folder in folders for picture in pictures_in(class_folder)]
    if not pictures:
        raise ValueError(f"{root} has folders, and none has pictures in it")
    names = distinct_names([picture.relative_to(root) for picture in pictures])
    return sorted_by_name(
        Example(picture, numbers[picture.parent], name=name) for picture, name in zip(pictures, names, strict=True)
    )


def of_synsets(path: Path) -> bool:
    """Whether the folders of a folder are named by ImageNet's synsets, such as n01440764."""
    names = [class_folder.name for class_folder in folders_in(pathlib.Path(path))]
    return bool(names) and all(map(SYNSET.fullmatch, names))
