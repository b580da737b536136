"""The command line as its user sees it: what it writes, prints and answers, and with which exit code."""

import json
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import jaxcam
import jaxcam.datasets.images
from jaxcam.cli import main

DIGITS = ["--model", "digits"]
CANVASES = [pathlib.Path(jaxcam.__file__).parent / "pretrained" / "digits" / f"canvas{i}.png" for i in range(3)]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def picture(tmp_path):
    """A photograph of another size and form than the network's."""
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8)).save(path)
    return str(path)


def fails(capsys, *arguments, says):
    try:
        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and says in lines[0], captured.err
    assert "Traceback" not in captured.err


def test_the_demo_of_digits(capsys):
    assert main(["--digits"]) == 0
    printed = capsys.readouterr().out
    for word in ("class '", "probability 0.", "layer block3_conv2", "Smooth Grad-CAM++", "jaxcam_demo.png"):
        assert word in printed
    with Image.open("jaxcam_demo.png") as drawn:
        assert drawn.width > drawn.height > 200
    assert [file.name for file in pathlib.Path().iterdir()] == ["jaxcam_demo.png"], "nothing is left beside it"


def test_the_demo_as_a_process():
    done = subprocess.run(
        [sys.executable, "-m", "jaxcam", "--digits", "--json"], capture_output=True, text=True, check=True
    )
    record = json.loads(done.stdout)
    assert record["map_shape"] == [16, 16] and record["probability"] > 0.5


def test_nothing_is_overwritten_without_force(capsys):
    assert main(["--digits"]) == 0
    before = pathlib.Path("jaxcam_demo.png").read_bytes()
    capsys.readouterr()
    fails(capsys, "--digits", says="jaxcam_demo.png exists already; --force overwrites it")
    assert pathlib.Path("jaxcam_demo.png").read_bytes() == before
    assert main(["--digits", "--force"]) == 0


def test_several_pictures(capsys, picture):
    pathlib.Path("maps").mkdir()
    arguments = [
        "explain",
        *DIGITS,
        str(CANVASES[0]),
        str(CANVASES[1]),
        picture,
        "--out",
        "maps",
        "--method",
        "grad_cam",
        "--json",
    ]
    assert main(arguments) == 0
    records = json.loads(capsys.readouterr().out)
    names = [f"{stem}.grad_cam.png" for stem in ("canvas0", "canvas1", "photo")]
    assert [pathlib.Path(record["output"]).name for record in records] == names
    assert sorted(file.name for file in pathlib.Path("maps").iterdir()) == names
    assert all(0 <= record["probability"] <= 1 and record["layer"] == "block3_conv2" for record in records)


def test_a_bad_picture_does_not_stop_the_others(capsys):
    pathlib.Path("torn.png").write_bytes(CANVASES[0].read_bytes()[:3000])
    pathlib.Path("notes.txt").write_text("not a picture")
    fails_with = main(["explain", *DIGITS, "torn.png", str(CANVASES[0]), "notes.txt", "absent.png", "--json"])
    captured = capsys.readouterr()
    records = json.loads(captured.out)
    assert fails_with == 2
    assert ["error" in record for record in records] == [True, False, True, True]
    lines = captured.err.strip().splitlines()
    assert len(lines) == 3 and all(line.startswith("jaxcam: ") for line in lines)
    assert pathlib.Path("canvas0.smooth_grad_cam_pp.png").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--method", "smooth_grad_cam_pp", "--samples", "3", "--std", "0.1", "--seed", "4", "--score", "log_softmax"],
        ["--method", "grad_cam_pp", "--filters", "3,7", "--target", "3"],
        ["--method", "grad_cam", "--subset", "0,0 5,5", "--region", "--link", "exp"],
        ["--layer", "block2_conv2", "--subset", "4,4 9,9"],
    ],
)
def test_options(capsys, options):
    assert main(["explain", *DIGITS, str(CANVASES[1]), *options]) == 0
    assert "probability" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--layer", "conv9"], "no layer 'conv9': choose one of block1_conv1"),
        (["--layer", "fc1"], "layer 'fc1' of digits has no map, it returns (128,)"),
        (["--target", "cat"], "no class 'cat': choose a number in 0..9 or a name: '0', '1'"),
        (["--method", "lime"], "invalid choice: 'lime'"),
        (["--method", "cam"], "CAM needs a head that is global average pooling"),
        (["--samples", "-1"], "for n_samples, got -1"),
        (["--samples", "many"], "invalid int value: 'many'"),
        (["--std", "-0.5"], "std of at least 0, got -0.5"),
        (["--method", "cam", "--samples", "3"], "--samples does not go with --method cam"),
        (["--method", "grad_cam", "--alpha", "bounded"], "--alpha does not go with --method grad_cam"),
        (["--derivatives", "sampled"], "--derivatives sampled and --n-locations go together: give both, or neither"),
        (["--method", "grad_cam", "--std", "0.1"], "--std goes with --samples: --method grad_cam draws no noise"),
        (["--filters", "a,b"], "'a,b' is not a list of integers"),
        (["--filters", "64"], "filter 64 is outside the layer: it has 64, 0..63"),
        (["--subset", "1,2,3"], "is not a list of points"),
        (["--subset", "99,0"], "is outside the layer: coordinates are 0..15 x 0..15"),
        (["--region"], "a region is two opposite corners"),
        (["--link", "identity"], "alpha is 0/0 and the map is zero"),
        (["--out", "nowhere"], "--out nowhere does not exist: make the folder first"),
    ],
)
def test_mistakes_get_one_line(capsys, options, says):
    fails(capsys, "explain", *DIGITS, str(CANVASES[0]), *options, says=says)
    assert not list(pathlib.Path().iterdir())


NUMERALS = "zero one two three four five six seven eight nine".split()


@pytest.fixture
def weights_and_names(digits):
    """The digits network as a user's own file, and a file of names for its classes."""
    np.savez("mine.npz", **jaxcam.pretrained.to_arrays(digits))
    pathlib.Path("names.txt").write_text("\n".join(NUMERALS) + "\n")
    return ["--weights", "mine.npz", "--classes", "names.txt"]


def test_weights_of_ones_own(capsys, weights_and_names):
    named = ["explain", str(CANVASES[1]), "--method", "grad_cam", "--json", "--force"]
    assert main([*named, *weights_and_names, "--target", "Three"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["class"], record["target"], record["layer"]) == ("three", 3, "block3_conv2")
    drawn = pathlib.Path(record["output"]).read_bytes()
    assert main([*named, *DIGITS, "--target", "3"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["probability"] == record["probability"]
    assert pathlib.Path(record["output"]).read_bytes() != drawn, "the title has the name"
    assert main([*named, "--weights", "mine.npz"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["class"] == "3", "a number where there are no names"
    fails(capsys, "explain", str(CANVASES[2]), *weights_and_names, "--target", "thre", says="did you mean 'three'")


@pytest.mark.long
def test_the_other_commands_with_weights(capsys, weights_and_names, picture):
    assert main(["layers", "--weights", "mine.npz"]) == 0
    assert "block3_conv2  16 x 16 x 64" in capsys.readouterr().out
    assert main(["validate", picture, *weights_and_names, "--target", "nine", "--locations", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["target"] == 9
    fails(
        capsys,
        "validate",
        "--weights",
        "mine.npz",
        "--force",
        says="the samples do not show the classes of this network: give an IMAGE",
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--weights", "absent.h5"], "absent.h5: No such file or directory"),
        (["--weights", "names.txt"], "names.txt: not a file of weights"),
        (
            ["--weights", "mine.npz", "--classes", "imagenet"],
            "expected a name for each of the network's 10 classes, got 1000 names",
        ),
        (["--classes", "names.txt"], "expected a name for each of the network's 1000 classes, got 10 names"),
        (["--weights", "imagenet", "--target", "tigre cat"], "no class 'tigre cat': did you mean 'tiger cat'"),
        (["--target", "1000"], "no class 1000: choose a number in 0..999"),
        ([*DIGITS, "--weights", "mine.npz"], "digits brings its own weights: give vgg and the file"),
        (["--weights", "mine.npz", "--classes", "absent.txt"], "absent.txt: No such file or directory"),
    ],
)
def test_mistakes_of_weights(capsys, weights_and_names, options, says):
    fails(capsys, "explain", str(CANVASES[0]), *options, says=says)


def test_two_inputs_of_one_name(capsys, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(CANVASES[0].read_bytes())
    fails(
        capsys, "explain", *DIGITS, "a/x.png", "b/x.png", says="a/x.png and b/x.png would both be written to x.smooth"
    )


def test_an_option_before_the_command_counts(capsys):
    assert main(["--json", "layers", *DIGITS]) == 0
    assert json.loads(capsys.readouterr().out)["block3_conv2"] == [16, 16, 64]


def test_layers(capsys):
    assert main(["layers", *DIGITS]) == 0
    assert "block3_conv2  16 x 16 x 64" in capsys.readouterr().out


@pytest.mark.long
def test_validate(capsys):
    assert main(["validate", "--locations", "2"]) == 0
    printed = capsys.readouterr().out
    assert "the closed form is exact here" in printed and "at 2 locations" in printed
    assert pathlib.Path("jaxcam_validate.png").stat().st_size > 10_000
    fails(capsys, "validate", says="jaxcam: jaxcam_validate.png exists already; --force overwrites it")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--layer", "fc1"], "layer 'fc1' of digits has no map, it returns (128,): choose a convolution or a pooling"),
        (["--layer", "conv9"], "no layer 'conv9': choose one of block1_conv1"),
        (["--activation", "swish"], "invalid choice: 'swish'"),
        (["--locations", "0"], "expected an integer of at least 1 for locations, got 0"),
        (["absent.png"], "absent.png"),
    ],
)
def test_mistakes_of_validate(capsys, options, says):
    fails(capsys, "validate", *options, says=says)
    assert not list(pathlib.Path().iterdir())


@pytest.mark.long
def test_validate_as_json(capsys, picture):
    arguments = ["validate", picture, "--activation", "silu", "--target", "3", "--locations", "2", "--json"]
    assert main(arguments) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["activation"] == "silu" and record["target"] == 3 and not record["certificate"]["locally_affine"]
    assert record["comparisons"][1]["errors"]["Y2"] > 0 and record["finite_differences"][0]["kept"] == 2


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16", "1"])
def test_pictures_of_every_form(tmp_path, mode):
    gray = np.linspace(0, 255, 40 * 60).reshape(40, 60)
    if mode == "I;16":
        Image.fromarray((257 * gray).astype(np.uint16)).save("x.tif")
    else:
        Image.fromarray(gray.astype(np.uint8)).convert(mode).save("x.tif")
    found = jaxcam.datasets.images.read("x.tif")
    assert found.shape == (40, 60, 3) and found.dtype == np.float32 and 0 <= found.min() < found.max() <= 1
    if mode != "1":
        np.testing.assert_allclose(found[..., 1], gray / 255, atol=0.02)


def test_diagnose(capsys):
    assert main(["diagnose", *DIGITS, "--target", "3"]) == 0
    report = capsys.readouterr().out
    assert "block3_conv2, class 3: score" in report and "the closed form is exact" in report
    assert main(["diagnose", *DIGITS, "--activation", "gelu", "--score", "log_softmax", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["certificate"]["locally_affine"] is False and record["class"] in "0123456789"


def test_a_network_that_ends_in_a_softmax_is_explained_by_its_logits(capsys, monkeypatch, picture):
    class Probabilities(jaxcam.cutting.SelfCutting):
        """The embedded network with a softmax at its end."""

        def __init__(self):
            self.model = jaxcam.digits()
            self.layers, self.image_shape = self.model.layers, self.model.image_shape
            self.class_names = self.model.class_names

        def cut_at(self, layer):
            cut = self.model.cut_at(layer)

            def head(params, A, x):
                return jax.nn.softmax(cut.head(params, A, x))

            return jaxcam.Cut(cut.params, cut.features, head, layer, reads_input=False)

    def explained():
        assert main(["explain", *DIGITS, picture, "--json", "--force"]) == 0
        captured = capsys.readouterr()
        return json.loads(captured.out), captured.err

    expected, errors = explained()
    assert "softmax" not in errors
    monkeypatch.setitem(jaxcam.opening.NETWORKS, "digits", Probabilities)
    found, errors = explained()
    assert errors.splitlines()[0] == "jaxcam: the network ends in a softmax: the logits in front of it are explained"
    assert found[0]["target"] == expected[0]["target"]
    assert found[0]["probability"] == pytest.approx(expected[0]["probability"], rel=1e-5)


def test_hidden_colors_do_not_change_the_class(capsys):
    """Two pictures that look the same have the same answer."""
    canvas = np.asarray(Image.open(CANVASES[0]).convert("RGB"))
    answers = []
    for name, hidden in (("a.png", (255, 0, 255)), ("b.png", (0, 0, 0))):
        pixels = np.dstack([canvas, np.full(canvas.shape[:2], 255, np.uint8)])
        pixels[:20] = (*hidden, 0)
        Image.fromarray(pixels).save(name)
        assert main(["explain", *DIGITS, name, "--method", "grad_cam", "--json"]) == 0
        answers += json.loads(capsys.readouterr().out)
    assert answers[0]["probability"] == answers[1]["probability"] and answers[0]["target"] == answers[1]["target"]


def test_a_picture_without_a_range_is_one_line(capsys):
    Image.fromarray(np.array([[-5, 70000]], np.int32)).save("x.tif")
    fails(
        capsys,
        "explain",
        *DIGITS,
        "x.tif",
        says="x.tif has integers from -5 to 70000: the file does not say their range; scale",
    )


def test_bounded_alphas(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "canvas.png").write_bytes(CANVASES[1].read_bytes())
    options = ["--method", "grad_cam_pp", "--score", "log_softmax", "--target", "3", "--alpha", "bounded"]
    assert main(["batch", str(folder), *DIGITS, "--out", "maps", *options]) == 0
    cut, image = jaxcam.cut(jaxcam.digits(), "block3_conv2"), jaxcam.datasets.images.read(CANVASES[1])
    defined, bounded = (
        jaxcam.grad_cam_pp(cut, image, 3, score=jaxcam.scores.log_softmax, alpha=alpha)
        for alpha in ("defined", "bounded")
    )
    saved = np.load("maps/canvas.npy")
    np.testing.assert_allclose(saved, bounded, rtol=0, atol=1e-5 * float(bounded.max()))
    assert np.abs(saved - defined).max() > 0.1 * float(bounded.max())


@pytest.mark.long
def test_sampled_locations(tmp_path):
    """The map in the folder is that of the method with the key of the first picture."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "canvas.png").write_bytes(CANVASES[1].read_bytes())
    pathlib.Path("smooth_digits.py").write_text(
        "import jax, jaxcam\n\ndef build():\n    return jaxcam.digits(activation=jax.nn.gelu)\n"
    )
    command = ["batch", str(folder), "--model", "smooth_digits:build", "--out", "maps", "--layer", "block3_conv2"]
    command += ["--method", "grad_cam_pp", "--target", "3", "--alpha", "bounded", "--seed", "2"]
    command += ["--derivatives", "sampled", "--n-locations", "8"]
    assert main(command) == 0
    cut = jaxcam.cut(jaxcam.digits(activation=jax.nn.gelu), "block3_conv2")
    sampled = jaxcam.grad_cam_pp(
        cut, jaxcam.datasets.images.read(CANVASES[1]), 3, jax.random.fold_in(jax.random.key(2), 0),
        alpha="bounded", derivatives="sampled", n_locations=8,
    )  # fmt: skip
    assert sampled.standard_error.any()
    np.testing.assert_allclose(np.load("maps/canvas.npy"), sampled.map, rtol=0, atol=1e-4 * float(sampled.map.max()))
