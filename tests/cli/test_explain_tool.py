"""`jaxcam explain` and `jaxcam compare` as tools: what is explained, what is written, and what is refused at once."""

import io
import json
import pathlib
import sys
import tempfile

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcam.cli import main
from tests.cli.test_command_line import fails
from tests.explaining.small_networks import NAMES, SIZE, Small, grad_cam, probabilities

MODULE = """
import pathlib
from tests.explaining.small_networks import Small

def net():
    pathlib.Path("ran").touch()
    return Small()

def other():
    return Small(seed=5)
"""
MODEL = ["--model", "small_nets:net", "--preprocess", "0..1"]


@pytest.fixture(autouse=True)
def in_a_folder_with_a_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("small_nets.py").write_text(MODULE)
    draw("photo.png", 0)
    yield
    sys.modules.pop("small_nets", None)


def draw(path, seed):
    """A picture of the network's size, whose pixels are returned as the network gets them."""
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels / np.float32(255)


def explained(capsys, *words):
    """The records of `jaxcam explain`, which succeeds."""
    assert main(["explain", *words, *MODEL, "--json", *([] if "--methods" in words else ["--method", "grad_cam"])]) == 0
    return json.loads(capsys.readouterr().out)


def written():
    return sorted(path.name for path in pathlib.Path().iterdir() if path.name not in ("small_nets.py", "ran"))


def test_classes_layers_and_methods_with_all_their_files(capsys):
    picture = draw("photo.png", 0)
    words = ["--methods", "grad_cam,layer_cam", "--top", "2", "--layers", "fine,coarse", "--save-maps", "npy,npz,csv"]
    (record,) = explained(capsys, "photo.png", *words)
    assert sorted(record["files"]) == [name for name in written() if name not in ("photo.png", "__pycache__")]
    order = np.argsort(-probabilities(Small(), picture))[:2]
    assert [e["target"] for e in record["explanations"]] == [order[0], order[0], order[1], order[1]]
    assert [c["class"] for c in record["top"]] == [NAMES[i] for i in order]
    for rank, target in enumerate(order, 1):
        for layer in ("fine", "coarse"):
            label = f"grad_cam.{layer}.{rank}of2"
            saved = np.load(f"photo.{label}.npy")
            expected = grad_cam(Small(), layer, jnp.asarray(picture), int(target))
            np.testing.assert_allclose(saved, expected, rtol=1e-4, atol=1e-6)
            np.testing.assert_array_equal(np.loadtxt(f"photo.{label}.csv", np.float32, delimiter=","), saved)
            with np.load("photo.explained.npz") as all_maps:
                np.testing.assert_array_equal(all_maps[label], saved)
            described = record["maps"][label]
            assert described["highest"] == saved.max() and described["shape"] == list(saved.shape)
            assert described["files"] == [f"photo.{label}.npy", "photo.explained.npz", f"photo.{label}.csv"]
    assert record["output"] == "photo.explained.png" and record["method"] == ["grad_cam", "layer_cam"]
    assert record["networks"]["small_nets:net"]["preprocess"] == "0..1"


@pytest.mark.long
def test_the_text_says_what_the_record_says(capsys):
    assert main(["explain", "photo.png", *MODEL, "--method", "grad_cam", "--top", "2", "--save-maps", "npz"]) == 0
    printed = capsys.readouterr().out
    (record,) = explained(capsys, "photo.png", "--top", "2", "--save-maps", "npz", "--force")
    for explanation in record["explanations"]:
        assert f"layer coarse: class {explanation['class']!r}, probability {explanation['probability']:.4f}" in printed
    assert all(path in printed for path in record["files"]) and len(record["top"]) == 2


@pytest.mark.long
def test_fused_layers_are_one_map(capsys):
    (record,) = explained(capsys, "photo.png", "--layers", "fine,coarse", "--fuse", "max", "--save-maps", "npy")
    saved = np.load("photo.grad_cam.npy")
    assert saved.shape == (SIZE, SIZE) and saved.max() == 1 and record["layers"] == ["fine", "coarse"]


def test_standard_input_is_explained_as_the_file(capsys, monkeypatch):
    (expected,) = explained(capsys, "photo.png")
    content = io.TextIOWrapper(io.BytesIO(pathlib.Path("photo.png").read_bytes()))
    monkeypatch.setattr(sys, "stdin", content)
    (record,) = explained(capsys, "-")
    assert record["probability"] == expected["probability"] and record["output"] == "stdin.grad_cam.png"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"not a picture")))
    fails(capsys, "explain", "-", *MODEL, "--force", says="standard input is not a picture that can be read")


def test_folders_and_globs_and_a_broken_file(capsys):
    folder = pathlib.Path("photos")
    folder.mkdir()
    for i, name in enumerate(("a.png", "b.png", "c.png")):
        draw(folder / name, i)
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:200])
    (folder / "notes.txt").write_text("no picture")
    assert main(["explain", "photos", *MODEL, "--method", "grad_cam", "--out", "photos", "--json"]) == 2
    captured = capsys.readouterr()
    records = json.loads(captured.out)
    assert [pathlib.Path(r["image"]).name for r in records] == ["a.png", "b.png", "c.png"]
    assert ["error" in r for r in records] == [False, True, False] and "b.png" in captured.err
    (folder / "b.png").unlink()
    by_glob = explained(capsys, "photos/*.png", "--out", "photos", "--force")
    assert [r["image"] for r in by_glob] == ["photos/a.png", "photos/c.png"], "and not what was drawn before"
    assert [r["probability"] for r in by_glob] == [r["probability"] for r in records if "error" not in r]


def animated(path, seeds):
    frames = [np.full((SIZE, SIZE, 3), 40 * seed, np.uint8) for seed in seeds]
    first, *others = [Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=True, append_images=others, duration=50)


@pytest.mark.long
def test_the_frames_of_a_clip(capsys):
    animated("clip.gif", [0, 2, 4, 6])
    records = explained(capsys, "clip.gif", "--frames", "all")
    assert [r["output"] for r in records] == [f"clip.{i:04d}.grad_cam.png" for i in range(4)]
    gray = np.full((SIZE, SIZE, 3), 160 / 255, np.float32)
    own = probabilities(Small(), gray)
    assert records[2]["target"] == own.argmax() and records[2]["probability"] == pytest.approx(own.max(), rel=1e-4)
    chosen = explained(capsys, "clip.gif", "--frames", "2", "--force")
    assert [r["image"] for r in chosen] == ["clip.gif, frame 0", "clip.gif, frame 2"]
    (first,) = explained(capsys, "clip.gif")
    assert first["probability"] == records[0]["probability"], "without --frames the first one"


@pytest.mark.long
def test_animations(capsys):
    animated("clip.gif", [0, 3, 6])
    records = explained(capsys, "clip.gif", "--gif", "frames")
    assert {r["output"] for r in records} == {"clip.grad_cam.gif"} and len(records) == 3
    pathlib.Path("frames").mkdir()
    for i in range(2):
        draw(f"frames/{i}.png", i)
    explained(capsys, "frames", "--gif", "frames")
    explained(capsys, "photo.png", "--gif", "layers", "--layers", "fine,coarse")
    noisy = ["--gif", "noise", "--levels", "0,0.2,0.4", "--samples", "2", "--save-maps", "npz"]
    (record,) = explained(capsys, "photo.png", *noisy, "--force")
    counts = {}
    for name in ("clip.grad_cam.gif", "frames.grad_cam.gif", "photo.grad_cam.gif"):
        with Image.open(name) as opened:
            counts[name] = opened.n_frames
    assert counts == {"clip.grad_cam.gif": 3, "frames.grad_cam.gif": 2, "photo.grad_cam.gif": 3}
    with np.load("photo.grad_cam.npz") as maps:
        quiet, *noisy_maps = (maps[f"Grad-CAM-std-{level}"] for level in ("0", "0.2", "0.4"))
    np.testing.assert_allclose(quiet, grad_cam(Small(), "coarse", jnp.asarray(draw("photo.png", 0)), record["target"]),
                               rtol=1e-4, atol=1e-6)  # fmt: skip
    assert all(np.abs(saliency - quiet).max() > 1e-3 * quiet.max() for saliency in noisy_maps)


@pytest.mark.long
def test_styles_draw_different_pictures(capsys):
    drawn = set()
    for words in ([], ["--mask"], ["--mask", "--threshold", "0.9"], ["--contour"], ["--colormap", "cividis"],
                  ["--opacity", "0.9"]):  # fmt: skip
        explained(capsys, "photo.png", "--force", *words)
        drawn.add(pathlib.Path("photo.grad_cam.png").read_bytes())
    assert len(drawn) == 6


CONTRADICTIONS = {
    "--top 0": "expected an integer of at least 1 for top, got 0",
    "--top 2 --target bee": "--top does not go with --target",
    "--method grad_cam --methods cam": "argument --methods: not allowed with argument --method",
    "--methods grad_cam --samples 3": "--samples goes with --method: in --methods, give options after a colon",
    "--methods grad_cam,lime": "no method 'lime'",
    "--methods grad_cam,grad_cam": "'grad_cam' is given twice",
    "--layers fine,coarse --layer fine": "--layers does not go with --layer",
    "--layers fine,fine": "'fine,fine' is not a list of names that differ",
    "--layers fine --fuse mean": "--fuse joins the maps of several layers",
    "--fuse mean": "--fuse joins the maps of several layers",
    "--filters 1,2 --layers fine,coarse": "--filters does not go with --layers",
    "--subset 1,1 --top 2": "--subset does not go with --top",
    "--filters 1 --methods cam": "--filters does not go with --methods",
    "--filters 1 --mask": "--filters does not go with --mask",
    "--filters 1 --save-maps csv": "--filters does not go with --save-maps csv",
    "--overlay --mask": "argument --mask: not allowed with argument --overlay",
    "--mask --colormap viridis": "--colormap does not go with --mask",
    "--contour --opacity 0.3": "--opacity does not go with --contour",
    "--threshold 0.3": "--threshold does not go with an overlay: --mask or --contour takes it",
    "--colormap jetset": "no colormap 'jetset'",
    "--opacity 2": "expected alpha in 0..1, got 2",
    "--save-maps npy,txt": "'npy,txt' is not a list of some of npy, npz, csv",
    "--gif noise --method grad_cam": "--gif noise needs --samples: --method grad_cam draws no noise",
    "--gif noise --std 0.2": "--gif noise does not go with --std",
    "--gif noise --top 2": "--gif noise does not go with --top",
    "--gif noise --levels=-1": "expected --levels of at least 0, got -1",
    "--gif noise --method cam": "--gif noise needs --samples: --method cam draws no noise",
    "--gif layers --layers fine": "--gif layers shows one layer after the other",
    "--gif frames": "--gif frames shows an animated picture or a folder of pictures, got photo.png",
    "--levels 0.1": "--levels are those of --gif noise",
    "--frames 0": "'0' is not a number of at least 1, or 'all'",
    "empty": "empty has no pictures",
    "no*.png": "no picture matches 'no*.png'",
    "photo.png": "photo.png and photo.png would both be written to",
}


@pytest.mark.parametrize("words", CONTRADICTIONS)
def test_contradictions_are_one_line_and_build_nothing(capsys, words):
    pathlib.Path("empty").mkdir()
    fails(capsys, "explain", "photo.png", *words.split(), *MODEL, says=CONTRADICTIONS[words])
    assert written() == ["empty", "photo.png"] and not pathlib.Path("ran").exists()


def test_a_folder_that_cannot_be_written_to(capsys, monkeypatch):
    def refused(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    fails(capsys, "explain", "photo.png", *MODEL, says="--out . cannot be written to: Permission denied")
    assert not pathlib.Path("ran").exists()


def test_a_layer_that_is_not_there_is_said_once(capsys):
    draw("second.png", 1)
    fails(capsys, "explain", "photo.png", "second.png", *MODEL, "--layers", "fine,conv", says="no layer 'conv'")
    fails(capsys, "explain", "photo.png", "second.png", *MODEL, "--top", "9", says="expected top of at most 4")


def compared(capsys, *words):
    assert main(["compare", *words, "--method", "grad_cam", "--json", "--force"]) == 0
    return json.loads(capsys.readouterr().out)


def test_compare_layers_and_networks(capsys):
    picture = draw("photo.png", 0)
    (layers,) = compared(capsys, "fine", "coarse", "photo.png", *MODEL, "--save-maps", "npz")
    assert [e["layer"] for e in layers["explanations"]] == ["fine", "coarse"]
    with np.load("photo.compared.npz") as maps:
        assert sorted(maps) == ["grad_cam.coarse", "grad_cam.fine"]
        expected = grad_cam(Small(), "fine", jnp.asarray(picture), layers["target"])
        np.testing.assert_allclose(maps["grad_cam.fine"], expected, rtol=1e-4, atol=1e-6)
    (networks,) = compared(capsys, "small_nets:net", "small_nets:other", "photo.png", "--preprocess", "0..1")
    first, second = networks["explanations"]
    assert first["target"] == second["target"] and sorted(networks["networks"]) == [
        "small_nets:net",
        "small_nets:other",
    ]
    own = probabilities(Small(seed=5), picture)[second["target"]]
    assert second["probability"] == pytest.approx(own, rel=1e-4) and second["network"] == "small_nets:other"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("digits digits", "compare takes two networks or two layers, got digits twice"),
        ("digits resnet51", "no network 'resnet51': choose one of"),
        ("small_nets:net small_nets:other --layer fine", "--layer does not go with two networks"),
        ("fine coarse --layer fine --model small_nets:net", "--layer does not go with two layers"),
        ("fine coarse --model small_nets:net", "the samples do not show the classes of this network: give an IMAGE"),
        ("fine conv photo.png --model small_nets:net --preprocess 0..1", "no layer 'conv'"),
    ],
)
def test_mistakes_of_compare(capsys, words, says):
    fails(capsys, "compare", *words.split(), says=says)
    assert written() in (["photo.png"], ["__pycache__", "photo.png"])
