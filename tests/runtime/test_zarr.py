"""Maps in a Zarr store: equal to those in memory, whole or absent, gone on with, readable while it grows."""

import json
import os
from collections.abc import Sequence

import jax
import numpy as np
import pytest

import jaxcam
from tests.runtime.specimen import KEY, SMALL, by_hand, check, weighted

zarr = pytest.importorskip("zarr", reason="the extra zarr is not installed")


def run(tiny, out, images=SMALL, **options):
    return jaxcam.explain_batch(weighted, tiny, images, options.pop("targets", None), KEY, out=out, **options)


def in_order(maps):
    """The maps in the order of their numbers; a store has them in the order in which they were written."""
    return jaxcam.runtime.Explained({name: maps[name] for name in sorted(maps)}, {})


def test_maps_equal_those_by_hand_and_any_reader_of_zarr_finds_them(tiny, tmp_path):
    explained = run(tiny, tmp_path / "a.zarr", batch_size=4)
    check(explained, tiny, SMALL)
    assert list(explained.maps) == list("0123456789") and "5" in explained.maps and "x" not in explained.maps
    array = zarr.open_group(tmp_path / "a.zarr", mode="r")["6x5.float32"]
    index = json.loads((tmp_path / "a.zarr/index/6x5.float32.000000.json").read_text())
    np.testing.assert_array_equal(array[index["names"].index("7")], explained.maps["7"])
    assert np.isnan(array[10:]).all(), "rows without a map"
    with pytest.raises(KeyError, match="none"):
        explained.maps["none"]


def test_maps_of_several_shapes(tiny, tmp_path):
    images = [SMALL[0], SMALL[1, :4], SMALL[2]]
    check(in_order(run(tiny, tmp_path / "a.zarr", images).maps), tiny, images)
    assert {file.name for file in (tmp_path / "a.zarr").glob("*.float32")} == {"6x5.float32", "4x5.float32"}


@pytest.mark.parametrize(("stored", "error"), [("float16", 1 / 2048), ("uint8", 1 / 500)])
def test_fewer_bytes(tiny, tmp_path, stored, error):
    images = SMALL * np.float32(1e9)  # float16 ends at 65504
    maps = run(tiny, tmp_path / "a.zarr", images, stored=stored).maps
    for i, image in enumerate(images):
        expected = by_hand(tiny, image, None, jax.random.fold_in(KEY, i))
        np.testing.assert_allclose(maps[str(i)], expected, atol=error * expected.max())
    with pytest.raises(ValueError, match="holds another run, with stored"):
        run(tiny, tmp_path / "a.zarr", images)
    with pytest.raises(ValueError, match=r"keeps a scale beside each map: expected out='NAME.zarr'"):
        run(tiny, tmp_path / "files", stored=stored)
    with pytest.raises(ValueError, match="expected stored=None, 'float16' or 'uint8', got 'int4'"):
        run(tiny, tmp_path / "b.zarr", stored="int4")


def test_negative_values_in_uint8():
    from jaxcam.runtime._zarr import _scaled, unscaled

    for values in (np.linspace(-3, 1, 9), np.zeros(4), np.full(3, -2.0)):
        stored, scale = _scaled(values.astype(np.float32), "uint8")
        np.testing.assert_allclose(unscaled(stored, scale), values, atol=4 / 500)


def test_it_goes_on_and_computes_nothing_twice(tiny, tmp_path, monkeypatch):
    from jaxcam.runtime import _zarr

    monkeypatch.setattr(_zarr, "MOST_MAPS", 4)
    out, loaded = tmp_path / "a.zarr", []

    def load(i):
        loaded.append(i)
        if i == 6 and loaded.count(6) == 1:
            raise KeyboardInterrupt
        return SMALL[i]

    with pytest.raises(KeyboardInterrupt):
        run(tiny, out, range(10), load=load, batch_size=2)
    before = {file: file.read_bytes() for file in out.rglob("c/*/0/0")}
    partly = jaxcam.runtime.open_maps(out)
    assert 4 <= len(partly) < 10
    done = set(map(int, partly))
    before_it = len(loaded)
    explained = run(tiny, out, range(10), load=load, batch_size=2)
    assert set(loaded[before_it:]) == set(range(10)) - done
    check(in_order(explained.maps), tiny, SMALL)
    assert {file: file.read_bytes() for file in before} == before, "a shard is never changed"
    assert partly["9"].shape == (6, 5), "a reader that was open sees new maps"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_run_that_ends_with_an_error_writes_the_maps_that_wait(tiny, tmp_path, error):
    def images():
        yield from SMALL
        raise error("the disk of the images is gone")

    with pytest.raises(error):
        run(tiny, tmp_path / "a.zarr", images(), batch_size=2)
    assert len(jaxcam.runtime.open_maps(tmp_path / "a.zarr")) >= 8


def test_an_image_that_changed_is_refused(tiny, tmp_path):
    run(tiny, tmp_path / "a.zarr")
    with pytest.raises(ValueError, match="holds another run, with other images .'0' for one"):
        run(tiny, tmp_path / "a.zarr", SMALL + 1)
    with pytest.raises(ValueError, match="other images"):
        run(tiny, tmp_path / "a.zarr", SMALL[::-1].copy())
    with pytest.raises(ValueError, match="holds another run, with method"):
        jaxcam.explain_batch(jaxcam.grad_cam, tiny, SMALL, None, KEY, out=tmp_path / "a.zarr")


@pytest.mark.parametrize("how", ["bytes", "shorter", "gone"])
def test_a_damaged_shard_is_refused_and_computed_again(tiny, tmp_path, how):
    out = tmp_path / "a.zarr"
    maps = run(tiny, out).maps
    shard = out / "6x5.float32/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[20] ^= 255
    if how == "gone":
        shard.unlink()
    else:
        shard.write_bytes(content if how == "bytes" else content[:-1])
    with pytest.raises(ValueError, match="is damaged .* remove .*6x5.float32.000000.json, and the same call") as raised:
        maps["0"]
    assert "\n" not in str(raised.value)
    (out / "index/6x5.float32.000000.json").unlink()
    check(run(tiny, out), tiny, SMALL)


def test_what_the_checksums_of_zarr_do_not_cover_is_refused_too(tiny, tmp_path):
    """A description of the array that points elsewhere, where Zarr reads fill values, and another name in the index."""
    out = tmp_path / "a.zarr"
    run(tiny, out, stored="uint8")
    (array,) = out.glob("*.uint8")
    metadata, index = array / "zarr.json", out / "index" / f"{array.name}.000000.json"
    described, indexed = metadata.read_text(), index.read_text()
    moved = json.loads(described)
    moved["chunk_key_encoding"]["configuration"]["separator"] = "."
    metadata.write_text(json.dumps(moved))
    with pytest.raises(ValueError, match="the map has another checksum"):
        jaxcam.runtime.open_maps(out)["3"]
    metadata.write_text(described)
    index.write_text(indexed.replace('"3"', '"x"'))
    with pytest.raises(ValueError, match=f"{index.name} is damaged: remove it, and the same call computes its maps"):
        jaxcam.runtime.open_maps(out)


def test_a_damaged_description_of_an_array_is_written_again(tiny, tmp_path):
    out = tmp_path / "a.zarr"
    run(tiny, out)
    metadata = out / "6x5.float32/zarr.json"
    whole = metadata.read_text()
    for damaged in (whole[:100], whole.replace("float32", "float99"), whole.replace("[1024, 6, 5]", "[0, 6, 5]")):
        assert damaged != whole
        metadata.write_text(damaged)
        with pytest.raises(
            ValueError, match="6x5.float32/zarr.json .*: start the same call again, which writes it again"
        ):
            jaxcam.runtime.open_maps(out)["3"]
        check(in_order(run(tiny, out).maps), tiny, SMALL)


def test_shares_make_the_same_maps_and_may_change_their_number(tiny, tmp_path):
    out = tmp_path / "a.zarr"
    assert run(tiny, out, share=(1, 3)).failed == {} and sorted(jaxcam.runtime.open_maps(out)) == list("147")
    run(tiny, out, share=(0, 2))
    check(in_order(run(tiny, out, share=(1, 2)).maps), tiny, SMALL)
    names = [name for file in (out / "index").iterdir() for name in json.loads(file.read_text())["names"]]
    assert sorted(names) == list("0123456789"), "no map is computed twice"


def test_any_iterable(tiny, tmp_path):
    """A generator of a data set's examples: nothing is listed, and few are read ahead."""
    read, finished = [], []

    def examples():
        for i in range(10):
            read.append(i)
            yield {"pixels": SMALL[i], "label": i % 2, "id": f"picture {i}"}

    def load(example):
        finished.append(max(read))
        return example["pixels"]

    options = {"load": load, "names": lambda e: e["id"], "batch_size": 2, "targets": lambda e: e["label"]}
    explained = run(tiny, tmp_path / "a.zarr", examples(), **options)
    assert finished[:3] == [7, 7, 7] and max(finished) == 9, "eight are read for the shape of an image"
    maps = {name.split()[1]: explained.maps[name] for name in explained.maps}
    check(in_order(maps), tiny, SMALL, [0, 1] * 5)
    read.clear(), finished.clear()
    run(tiny, tmp_path / "a.zarr", examples(), **options)
    assert len(read) == 10 and not finished, "all are named, and none is loaded"
    with pytest.raises(ValueError, match="two images are called 'x': give names=, a function"):
        run(tiny, tmp_path / "b.zarr", iter(SMALL), names=lambda image: "x")
    with pytest.raises(ValueError, match="expected out='NAME.zarr' for an iterable"):
        run(tiny, tmp_path / "files", iter(SMALL))
    with pytest.raises(TypeError, match="expected targets= as a function from an element to its target"):
        run(tiny, tmp_path / "c.zarr", iter(SMALL), targets=[0] * 10)


def test_the_maps_of_a_rare_shape_do_not_wait_for_the_next_one(tmp_path, monkeypatch):
    from jaxcam.runtime import _zarr

    store = _zarr.ZarrMaps(tmp_path / "a.zarr")
    store.open({})
    store.write("rare", "", np.ones((2, 2), np.float32))
    assert not len(jaxcam.runtime.open_maps(tmp_path / "a.zarr"))
    monkeypatch.setattr(_zarr, "SECONDS", -1)
    store.write("another", "", np.ones((3, 3), np.float32))
    assert sorted(jaxcam.runtime.open_maps(tmp_path / "a.zarr")) == ["another", "rare"]


def test_data_of_another_kind_is_left_as_it_is(tiny, tmp_path):
    pictures = zarr.create_group(tmp_path / "pictures.zarr", attributes={"license": "mine"})
    pictures.create_array("x", data=np.ones(3))
    with pytest.raises(ValueError, match="pictures.zarr holds other data, and no run.json: choose another folder"):
        run(tiny, tmp_path / "pictures.zarr")
    assert zarr.open_group(tmp_path / "pictures.zarr").attrs["license"] == "mine"
    maps = run(tiny, tmp_path / "a.zarr").maps
    (tmp_path / "a.zarr").rename(tmp_path / "renamed")
    np.testing.assert_array_equal(jaxcam.runtime.open_maps(tmp_path / "renamed")["3"].shape, (6, 5))
    with pytest.raises(ValueError, match="renamed holds a Zarr store: give it a name that ends in .zarr"):
        run(tiny, tmp_path / "renamed")
    assert 3 not in maps and repr(maps).startswith("<10 maps in ")


def test_half_written_shards_of_a_killed_run_are_removed(tiny, tmp_path):
    run(tiny, tmp_path / "a.zarr")
    (partial,) = (tmp_path / "a.zarr").glob("*/c/*/*")
    partial = partial / f".0.another-machine.{2**22 + 1}.abcd.partial"
    partial.write_bytes(b"half a shard")
    os.utime(partial, (0, 0))
    run(tiny, tmp_path / "a.zarr")
    assert not partial.exists()


def test_an_element_or_target_that_changed_is_refused(tiny, tmp_path):
    """Elements that a loader turns into images are identified by their values; targets of a function, too."""
    load, first = (lambda pair: SMALL[pair[0]]), [(i, "a") for i in range(4)]
    run(tiny, tmp_path / "a.zarr", first, load=load)
    assert len(run(tiny, tmp_path / "a.zarr", first, load=load).maps) == 4
    for other in ([(3 - i, "a") for i in range(4)], iter([(1, "a")])):
        with pytest.raises(ValueError, match="with other images .'0' for one"):
            run(tiny, tmp_path / "a.zarr", other, load=load)
    labels = dict.fromkeys(range(4), 0)
    for out in (tmp_path / "b.zarr", tmp_path / "files"):
        labels[2] = 0
        options = {"load": lambda i: SMALL[i], "targets": lambda i: labels[i]}
        run(tiny, out, [0, 1, 2, 3], **options)
        run(tiny, out, [0, 1, 2, 3], **options)
        labels[2] = 1
        with pytest.raises(ValueError, match="with other images .'2' for one"):
            run(tiny, out, [0, 1, 2, 3], **options)


def test_a_loader_may_change_its_element(tiny, tmp_path):
    def change(element):
        return element.setdefault("decoded", element["pixels"])

    for _ in range(2):
        elements = [{"pixels": SMALL[i]} for i in range(4)]
        explained = run(tiny, tmp_path / "a.zarr", elements, load=change)
        assert len(explained.maps) == 4 and not explained.failed


def test_an_element_is_decoded_once_for_its_image_and_its_target(tiny, tmp_path):
    class Decoded(Sequence):
        def __init__(self):
            self.asked = []

        def __len__(self):
            return 3

        def __getitem__(self, i):
            self.asked.append(i)
            return {"pixels": SMALL[i], "label": 1}

    images = Decoded()
    run(tiny, None, images, load=lambda e: e["pixels"], targets=lambda e: e["label"])
    assert images.asked == [0, 0, 1, 2], "the first one also tells whether the images are paths"


def test_a_million_names_take_little_memory():
    from jaxcam.runtime._index import SeenNames

    seen = SeenNames()
    names = [f"train/n{i:08}" for i in range(70_000)]
    assert all(map(seen.add, names)) and not any(map(seen.add, names[::1000]))
    assert len(seen._sorted) == 2**16 and len(seen._waiting) == 70_000 - 2**16
