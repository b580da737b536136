"""`jaxcam batch`: the maps of a folder of pictures, what it counts before it starts, and what it refuses."""

import json
import os
import pathlib
import sys

import numpy as np
import pytest

import jaxcam
from jaxcam.cli import main
from tests.cli.test_command_line import CANVASES, DIGITS, fails


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_batch_resumes_a_folder_of_the_flat_layout(capsys):
    pathlib.Path("pictures").mkdir()
    (pathlib.Path("pictures") / "a.png").write_bytes(CANVASES[0].read_bytes())
    arguments = ["batch", "pictures", *DIGITS, "--out", "maps", "--method", "grad_cam", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == {"out": "maps", "layer": "block3_conv2", "maps": 1, "failed": {}}
    recorded = json.loads(pathlib.Path("maps/run.json").read_text())
    assert recorded["load"]["name"] == "jaxcam.opening.read_fitted"
    recorded["load"]["name"] = "jaxcam.__main__._fitted"
    pathlib.Path("maps/run.json").write_text(json.dumps(recorded))
    np.save("maps/a.npy", np.full((16, 16), 7, np.float32))
    assert main(arguments) == 0
    assert (np.load("maps/a.npy") == 7).all()


def test_batch_without_writing_anything(capsys):
    pathlib.Path("pictures").mkdir()
    (pathlib.Path("pictures") / "a.png").write_bytes(CANVASES[0].read_bytes())
    arguments = ["batch", "pictures", *DIGITS, "--out", "maps", "--method", "grad_cam", "--dry-run"]
    assert main(arguments) == 0
    assert "to compute  1\n" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["inputs"] == record["lacking"] == record["batch"] == 1 and record["bytes_of_result"] == 1152
    assert not pathlib.Path("maps").exists()
    fails(capsys, *arguments, "--stored", "uint8", says="expected out='NAME.zarr'")


def test_batch_over_ray_is_refused_before_a_network_is_built(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    batch = ["batch", "pictures", "--model", "none", "--out", "maps.zarr"]
    fails(capsys, *batch, "--actors", "2", says="--actors goes with --ray ADDRESS alone")
    fails(capsys, *batch, "--ray", "local", "--share", "0/2", says="--share does not go with --ray")
    fails(capsys, *batch, "--ray", "local", "--dry-run", says="--dry-run does not go with --ray")
    fails(capsys, *batch, "--ray", "local", "--actors", "0", says="expected --actors of at least 1")
    fails(capsys, *batch[:-1], "maps", "--ray", "local", says="expected --out NAME.zarr with --ray, got maps")
    fails(capsys, *batch, "--ray", "local", says="pip install 'jaxcam-saliency[ray]'")


@pytest.mark.ray
def test_batch_over_ray_makes_the_maps_of_batch(capsys):
    pathlib.Path("pictures").mkdir()
    for i, canvas in enumerate(CANVASES):
        (pathlib.Path("pictures") / f"{i}.png").write_bytes(canvas.read_bytes())
    (pathlib.Path("pictures") / "torn.png").write_bytes(b"no picture")
    batch = ["batch", "pictures", *DIGITS, "--samples", "2", "--std", "0.1", "--json"]
    assert main([*batch, "--out", "alone.zarr"]) == 2
    expected = json.loads(capsys.readouterr().out)
    assert main([*batch, "--out", "maps.zarr", "--ray", "auto" if "RAY_ADDRESS" in os.environ else "local"]) == 2
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["maps"] == expected["maps"] == len(CANVASES) and list(record["failed"]) == ["torn"]
    alone, maps = (jaxcam.runtime.open_maps(out) for out in ("alone.zarr", "maps.zarr"))
    for name in alone:
        # The batches have other sizes, so that the last digits may differ.
        np.testing.assert_allclose(maps[name], alone[name], rtol=1e-5, atol=1e-6)


def test_batch_without_pictures(capsys):
    pathlib.Path("pictures").mkdir()
    fails(capsys, "batch", "pictures", "--out", "maps", says="pictures has no pictures")
    pathlib.Path("pictures/a.pdf").touch()
    fails(
        capsys,
        "batch",
        "pictures",
        "--out",
        "maps",
        says="pictures has no pictures: skipped 1 file of other kinds (a.pd",
    )


def test_batch_takes_the_pictures_of_a_mixed_folder(capsys):
    folder = pathlib.Path("pictures")
    folder.mkdir()
    content = CANVASES[0].read_bytes()
    for name in ("a.png", "B.PNG", ".hidden.png", "._a.png", ".DS_Store"):
        (folder / name).write_bytes(content)
    for name in ("weights.h5", "report.pdf", "clip.mpg", "page.ps", "notes.txt", "field.grib", "without"):
        (folder / name).write_bytes(b"no picture")
    (folder / "folder.png").mkdir()
    assert main(["batch", "pictures", *DIGITS, "--out", "maps", "--method", "grad_cam"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "maps: 2 maps at layer block3_conv2 of digits\n"
    assert captured.err.strip() == (  # a version of rich ends the progress bar with an empty line
        "jaxcam: pictures: skipped 7 files of other kinds (clip.mpg, field.grib, notes.txt, ...) and 3 hidden files"
    )
    assert sorted(path.name for path in pathlib.Path("maps").iterdir()) == ["B.npy", "a.npy", "run.json"]
    (folder / "notes.txt").rename("notes.txt")
    assert main(["batch", "pictures", *DIGITS, "--out", "maps", "--method", "grad_cam", "--json"]) == 0
    captured = capsys.readouterr()
    assert (
        json.loads(captured.out) == {"out": "maps", "layer": "block3_conv2", "maps": 2, "failed": {}}
        and "skipped 6 files" in captured.err
    )
