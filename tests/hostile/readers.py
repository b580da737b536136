"""What jaxcam does with each kind of file, as users reach it: a function from a path to whatever it returns."""

import pathlib

import numpy as np

from jaxcam import datasets
from jaxcam.datasets import images
from jaxcam.evaluation import _store as evaluation_store
from jaxcam.opening import _keras_files
from jaxcam.pretrained import checkpoints
from jaxcam.runtime import _store, recorded_sample


def read_weights(path):
    """The arrays, every value of which is read."""
    return {name: np.array(array).sum() for name, array in checkpoints.read(path).items()}


def read_keras(path):
    return _keras_files.checked_description(path), read_weights(path)


def read_picture(path):
    pixels = images.read(path)
    assert pixels.ndim == 3 and pixels.shape[2] == 3 and np.isfinite(pixels).all(), "a picture that is none"
    images.read(path, at_least=(8, 8))
    images.orientation(path)
    return pixels.shape


def read_clip(path):
    """The first and the last frame of an animated picture."""
    count = images.frame_count(path)
    return count, images.read(path).shape, images.read(datasets.Frame(path, count - 1)).shape


def read_mask(path):
    return images.values(path).shape


def read_csv(path):
    return datasets.csv(path, classes=("cat", "dog"))


def read_annotation(path):
    from jaxcam.datasets._voc import annotated_objects

    return annotated_objects(pathlib.Path(path), first=1)


def read_labels(path):
    """ImageNet's labels for a folder that has one picture."""
    folder = pathlib.Path(path).parent / "pictures"
    folder.mkdir(exist_ok=True)
    (folder / "ILSVRC2012_val_00000001.JPEG").touch()
    return datasets.imagenet(folder, path, classes=("n01440764", "n01443537"))


def _in_folder(path, name, read):
    """Reads a file under a name that a folder has it by."""
    folder = pathlib.Path(path).parent / "folder"
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pathlib.Path(path).read_bytes())
    return read(folder)


def read_run(path):
    def read(folder):
        recorded_sample(folder)
        try:
            _store.read_run(folder / "run.json")
        except (ValueError, TypeError, KeyError) as error:  # what callers turn into one line, without the reason
            raise ValueError(f"{path}: {type(error).__name__}") from error

    return _in_folder(path, "run.json", read)


def read_record(path):
    def read(folder):
        store = object.__new__(evaluation_store.RecordFolder)
        store.out = folder
        return store.read(pathlib.Path(path).name, "0" * 32)

    return _in_folder(path, f"images/{pathlib.Path(path).name}.json", read)


READERS = {
    "weights": read_weights,
    "keras": read_keras,
    "picture": read_picture,
    "clip": read_clip,
    "mask": read_mask,
    "csv": read_csv,
    "annotation": read_annotation,
    "labels": read_labels,
    "names": datasets.class_names,
    "synsets": datasets.synsets,
    "run": read_run,
    "record": read_record,
}
