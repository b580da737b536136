"""What users keep images in: what they mean by it, or one line."""

import functools
import os
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxcam
from tests.runtime.specimen import KEY, SMALL, check, weighted


@pytest.fixture
def explain(tiny):
    return functools.partial(jaxcam.explain_batch, weighted, tiny, key=KEY)


@pytest.fixture
def paths(tmp_path):
    for i in range(3):
        Image.fromarray(np.round(255 * SMALL[i]).astype(np.uint8)).save(tmp_path / f"{i}.png")
    return sorted(tmp_path.iterdir())


@pytest.fixture
def of_paths(paths):
    return [np.asarray(np.round(255 * SMALL[i]), np.float32) / 255 for i in range(3)]


def test_a_dictionary_is_images_by_name(tiny, explain, tmp_path):
    explained = explain({"cat": SMALL[0], 7: SMALL[1], "dog": SMALL[2]})
    assert list(explained.maps) == ["cat", "7", "dog"]
    check(explained, tiny, SMALL[:3])
    explained = explain(dict(zip("abc", SMALL[:3], strict=True)), [1, 0, 1], out=tmp_path)
    assert explained.maps["b"] == tmp_path / "b.npy"
    check(explained, tiny, SMALL[:3], [1, 0, 1])
    loaded = explain({"x": 3, "y": 4}, load=lambda i: SMALL[i - 3])
    assert list(loaded.maps) == ["x", "y"]
    check(loaded, tiny, SMALL[:2])


@pytest.mark.parametrize(
    "container",
    [
        lambda paths: np.array(list(map(str, paths))),
        lambda paths: np.array(paths, object),
        lambda paths: np.array([os.fsencode(path) for path in paths]),
        lambda paths: {path.stem: path for path in paths},
        lambda paths: tuple(paths),
        lambda paths: dict(enumerate(paths)).values(),
    ],
)
def test_paths_in_any_container(tiny, explain, paths, of_paths, container):
    explained = explain(container(paths))
    assert list(explained.maps) == ["0", "1", "2"]
    check(explained, tiny, of_paths)


def test_images_of_several_shapes_in_an_array_of_objects(tiny, explain):
    images = np.empty(2, object)
    images[:] = [SMALL[0], SMALL[1, :4]]
    check(explain(images), tiny, list(images))
    check(explain(jnp.asarray(SMALL[:2])), tiny, SMALL[:2])


class Loader:
    """As a data loader: it has a length and yields batches."""

    def __len__(self):
        return 5

    def __iter__(self):
        return iter(np.split(SMALL, 5))


class Pairs:
    """As a data set: it has a length and gives images with their labels."""

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return SMALL[i], i


REFUSED = {
    "one image": (SMALL[0], ValueError, r"got one image \[6, 5, 3\]: give images\[None\]"),
    "batches in an array": (SMALL.reshape(5, 2, 6, 5, 3), ValueError, r"got an array \[5, 2, 6, 5, 3\], while the"),
    "batches": (np.split(SMALL, 5), ValueError, r"got a sequence of arrays \[2, 6, 5, 3\], while the model takes an"),
    "a batch in a dictionary": ({"image": SMALL}, ValueError, r"got a sequence of arrays \[10, 6, 5, 3\]"),
    "a batch with labels": ({"image": SMALL, "label": np.arange(10)}, TypeError, r"got 'label' of shape \[10\]: of a"),
    "pairs": ([(SMALL[0], 1), (SMALL[1], 0)], TypeError, "got a tuple of 2: give images="),
    "pairs in lists": ([[SMALL[0], np.int32(1)]], TypeError, "got a list of 2: give images="),
    "pairs of paths": ([["a.png", 3]], TypeError, "got a list of 2: give images="),
    "a data set of pairs": (Pairs(), TypeError, "got a tuple of 2: give images="),
    "dictionaries": ([{"image": SMALL[0], "label": 1}], TypeError, "a dictionary with 'image', 'label': give load="),
    "examples": ([jaxcam.Example(SMALL[0], 1)], TypeError, "an example of a data set: give load=lambda example: "),
    "a loader": (Loader(), ValueError, r"got a sequence of arrays \[2, 6, 5, 3\], while the model takes an image"),
    "a set": ({"a.png"}, TypeError, "expected a sequence or an iterable of images in order, got a set"),
    "a path": (pathlib.Path("pictures"), TypeError, "got 'pictures'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_sequence_of_images_is_one_line(explain, kind):
    images, error, message = REFUSED[kind]
    with pytest.raises(error, match=message) as raised:
        explain(images)
    assert "\n" not in str(raised.value)


def test_names_come_once(explain):
    with pytest.raises(ValueError, match="names= or a dictionary of images by name, got both"):
        explain({"a": SMALL[0]}, names=["b"])


def test_what_load_returns_is_an_image(explain):
    maps, failed = explain([0, 1], load=lambda i: (SMALL[i], i))
    assert not maps and all("got a tuple of 2: give images=" in message for message in failed.values())


def test_empty_and_strange_images_fail_alone(explain):
    images = [SMALL[0], SMALL[1][:0], np.full_like(SMALL[2], np.nan), SMALL[3]]
    maps, failed = explain(images)
    assert list(maps) == ["0", "3"]
    assert "it has no elements" in failed["1"] and "90 values that are NaN" in failed["2"]
    assert explain([]).maps == {} and explain({}).maps == {}
