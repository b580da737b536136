"""`jaxcam evaluate` as its user sees it: from a csv or a folder to tables and pictures, and what mistakes say."""

import json
import os
import pathlib
import shutil
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import jaxcam
from jaxcam import plots
from jaxcam.cli import main, parse_methods, parse_metrics
from jaxcam.cli._evaluate import layout_of
from jaxcam.evaluation import measures
from jaxcam.evaluation._result import Evaluation
from tests.cli.test_command_line import DIGITS, fails

CANVASES = pathlib.Path(jaxcam.__file__).parent / "pretrained" / "digits"


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The three sample canvases with their boxes, as a csv."""
    monkeypatch.chdir(tmp_path)
    lines = ["image,label,xmin,ymin,xmax,ymax"]
    for canvas in json.loads((CANVASES / "canvases.json").read_text()):
        shutil.copy(CANVASES / canvas["file"], tmp_path)
        for r0, c0, r1, c1 in canvas["boxes"]:
            lines.append(f"{canvas['file']},{canvas['label']},{c0},{r0},{c1},{r1}")
    (tmp_path / "canvases.csv").write_text("\n".join(lines) + "\n")
    return "canvases.csv"


@pytest.mark.long
def test_from_a_csv_to_tables_and_pictures(data, capsys):
    call = [
        "evaluate",
        data,
        *DIGITS,
        "--out",
        "found",
        "--methods",
        "grad_cam,hires_cam",
        "--metrics",
        "drop,deletion,found",
    ]
    assert main(call) == 0
    printed = capsys.readouterr().out
    for words in ("3 images, 100.0% classified rightly", "Grad-CAM ", "HiResCAM", "all ones", "copies found"):
        assert words in printed
    found = pathlib.Path("found")
    names = {"images", "run.json", "table.md", "table.txt", "table.json", "curves.png", "differences.png"}
    assert {file.name for file in found.iterdir()} == names
    kept = json.loads((found / "table.json").read_text())
    assert kept["estimates"]["all ones"]["average_drop"]["mean"] == 0
    assert (found / "table.txt").read_text() in printed
    for picture in ("curves.png", "differences.png"):
        with Image.open(found / picture) as drawn:
            assert drawn.width > 300
    # Again, with a method more, and as JSON; what is there is not computed again.
    times = {file: file.stat().st_mtime_ns for file in (found / "images").iterdir()}
    assert main([*call, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == kept
    assert {file: file.stat().st_mtime_ns for file in (found / "images").iterdir()} == times


@pytest.mark.ray
def test_over_ray_the_table_is_the_same(data, capsys):
    call = ["evaluate", data, *DIGITS, "--methods", "grad_cam", "--metrics", "drop,found", "--json"]
    assert main([*call, "--out", "alone"]) == 0
    expected = json.loads(capsys.readouterr().out)["estimates"]
    assert main([*call, "--out", "found", "--ray", "auto" if "RAY_ADDRESS" in os.environ else "local"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["estimates"]
    assert found.keys() == expected.keys()
    for method, columns in expected.items():
        for column, estimate in columns.items():
            assert found[method][column]["mean"] == pytest.approx(estimate["mean"], abs=1e-5)


def test_over_ray_options_are_checked_before_a_network_is_built(data, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    call = ["evaluate", data, "--model", "none", "--out", "found"]
    fails(capsys, *call, "--gpus", "1", says="--gpus goes with --ray ADDRESS alone")
    fails(capsys, *call, "--ray", "local", "--dry-run", says="--dry-run does not go with --ray")
    fails(capsys, *call, "--ray", "local", says="pip install 'jaxcam-saliency[ray]'")


@pytest.mark.long
def test_without_writing_anything(data, capsys):
    call = ["evaluate", data, *DIGITS, "--out", "found", "--methods", "grad_cam", "--metrics", "pointing"]
    assert main([*call, "--dry-run"]) == 0
    assert "to compute  3\n" in capsys.readouterr().out and not pathlib.Path("found").exists()
    assert main([*call, "--limit", "2"]) == 0
    times = {file: file.stat().st_mtime_ns for file in pathlib.Path("found").rglob("*")}
    capsys.readouterr()
    assert main([*call, "--dry-run", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["inputs"], record["finished"], record["lacking"]) == (3, 2, 1)
    sizes = [file.stat().st_size for file in pathlib.Path("found/images").iterdir()]
    assert 0.8 * min(sizes) < record["bytes_of_result"] < 1.2 * max(sizes)
    fails(capsys, *call, "--dry-run", "--reference", "none", says="reference is 'none'")
    fails(capsys, *call, "--dry-run", "--target", "label", says="holds another run")
    assert {file: file.stat().st_mtime_ns for file in pathlib.Path("found").rglob("*")} == times


def test_a_bad_picture_does_not_stop_the_others(data, capsys):
    pathlib.Path("canvas1.png").write_bytes(b"no picture")
    assert main(["evaluate", data, *DIGITS, "--out", "found", "--methods", "grad_cam", "--metrics", "pointing"]) == 2
    captured = capsys.readouterr()
    assert "2 images" in captured.out and "1 failed" in captured.out
    assert len(list(pathlib.Path("found/images").iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["nowhere.csv", "--out", "found"], "nowhere.csv"),
        (["empty", "--out", "found"], "empty"),
        (
            ["canvases.csv", "--out", "found", "--methods", "gradcam"],
            "no method 'gradcam': choose one of cam, grad_cam",
        ),
        (
            ["canvases.csv", "--out", "found", "--methods", "grad_cam:n_sample=3"],
            "no option 'n_sample=3': choose one of",
        ),
        (["canvases.csv", "--out", "found", "--methods", "grad_cam:score=best"], "no score 'best'"),
        (["canvases.csv", "--out", "found", "--metrics", "drpo"], "no metric 'drpo'"),
        (["canvases.csv", "--out", "found", "--limit", "0"], "expected --limit of at least 1, got 0"),
        (["canvases.csv", "--out", "found", "--columns", "image"], "not a list of pairs"),
        (["canvases.csv", "--out", "found", "--columns", "image=file"], "file"),
        (["canvases.csv", "--out", "found", "--split", "val"], "--split does not go with"),
        (["empty", "--out", "found", "--format", "imagenet"], "needs --labels"),
        (["canvases.csv", "--out", "found", "--reference", "CAM", "--metrics", "drop"], "reference is 'CAM'"),
    ],
)
def test_mistakes_get_one_line(data, capsys, options, says):
    pathlib.Path("empty").mkdir()
    fails(capsys, "evaluate", *DIGITS, *options, says=says)
    assert not list(pathlib.Path().glob("found/images/*"))


def test_a_reference_that_is_a_control_and_how_many(data, capsys):
    call = ["evaluate", data, *DIGITS, "--out", "found", "--methods", "grad_cam", "--metrics", "drop", "--limit", "2"]
    assert main([*call, "--reference", "all ones"]) == 0
    assert "2 images" in capsys.readouterr().out
    assert pathlib.Path("found/differences.png").exists()
    # A table of another choice does not stand beside a picture of this one.
    assert main([*call, "--reference", "Grad-CAM"]) == 0
    assert not pathlib.Path("found/differences.png").exists()


def test_methods_from_their_text():
    found = parse_methods("grad_cam, smooth_grad_cam_pp:n_samples=3:std=0.2,grad_cam_pp:score=log_softmax")
    assert list(found) == ["Grad-CAM", "Smooth Grad-CAM++, n_samples 3, std 0.2", "Grad-CAM++, score log_softmax"]
    assert found["Smooth Grad-CAM++, n_samples 3, std 0.2"].keywords == {"n_samples": 3, "std": 0.2}
    assert found["Grad-CAM++, score log_softmax"].keywords == {"score": jaxcam.scores.log_softmax}
    with pytest.raises(ValueError, match="'layer_cam:std=0.1' draws no noise: give n_samples="):
        parse_methods("layer_cam:std=0.1")
    with pytest.raises(ValueError, match="'grad_cam' is given twice"):
        parse_methods("grad_cam,grad_cam")


def test_metrics_from_their_text():
    drop, pointing, road = parse_metrics("drop, pointing:tolerance=15,road:shares=(0.1,0.5)")
    assert drop is measures.drop
    assert (pointing.func, pointing.keywords) == (measures.pointing, {"tolerance": 15})
    assert (road.func, road.keywords) == (measures.road, {"shares": (0.1, 0.5)})
    assert parse_metrics("mask_iou:threshold=None")[0].keywords == {"threshold": None}
    with pytest.raises(ValueError, match="pointing has no option 'tolerence=3': choose one of tolerance="):
        parse_metrics("pointing:tolerence=3")
    with pytest.raises(ValueError, match="pointing has 'tolerance' twice"):
        parse_metrics("pointing:tolerance=3:tolerance=4")
    with pytest.raises(ValueError, match="'pointing:tolerance=3' is given twice"):
        parse_metrics("pointing:tolerance=3,drop,pointing:tolerance=3")
    with pytest.raises(ValueError, match="energy has no option 'score=logit': it takes none"):
        parse_metrics("energy:score=logit")


def test_layouts_are_known_by_what_they_look_like(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "a.csv").touch()
    assert layout_of(tmp_path) == "voc"
    assert layout_of(tmp_path / "a.csv") == "csv"
    (tmp_path / "JPEGImages").rmdir()
    assert layout_of(tmp_path) == "folder"


def test_pictures_and_their_mistakes():
    row = {"deletion_curve, mode $x_{": [[0, 1], [0.5, 0.1]], "own_curve": [[0, 0.5, 1], [1, 2, 3]]}
    seen = {"label": 0, "target": 0, "predicted": 0, "probability": 0.5, "rank": 0}
    found = Evaluation({"a": {**seen, "rows": {"Grad-CAM": row, "random": row}}}, {}, "Grad-CAM")
    figure = plots.curves(found)
    panels = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_title() for axes in panels] == [r"deletion, mode \$x_{, lower is better", "own_curve"]
    np.testing.assert_allclose(panels[0].lines[0].get_xydata(), [[0, 0.5], [1, 0.1]])
    assert [line.get_marker() for line in panels[0].lines] == [".", "None"]  # the control is a plain line
    assert len(plots.curves(found, methods=["random"]).axes[0].lines) == 1
    with pytest.raises(ValueError, match="no method 'CAM': choose one of Grad-CAM, random"):
        plots.curves(found, methods=["CAM"])
    with pytest.raises(ValueError, match="no curves"):
        plots.curves(Evaluation({}, {}, "Grad-CAM"))
    image = np.zeros((8, 8, 3), np.float32)
    grid = plots.differences([image], {"Grad-CAM": [jax.numpy.ones((2, 2))]}, {"Grad-CAM": ["energy 0.41"]})
    assert "Grad-CAM\nenergy 0.41" in [axes.get_title() for axes in grid.axes]
