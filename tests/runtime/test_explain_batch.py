"""Many images: one by one or together, in files, killed and gone on with."""

import errno
import functools
import json
import logging
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxcam
from jaxcam.cli import main
from jaxcam.runtime import _fingerprint, _runner, _store

KEY = jax.random.key(2)
CANVASES = pathlib.Path(jaxcam.__file__).parent / "pretrained" / "digits"
RNG = np.random.default_rng(0)
SMALL = RNG.uniform(0, 1, (10, 6, 5, 3)).astype(np.float32)


@pytest.fixture
def tiny():
    """Two linear layers; the second also wants images of 3 channels, of any size."""
    params = {"kernel": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4), "dense": jnp.linspace(-1.0, 2.0, 8).reshape(4, 2)}

    def features(params, x):
        return jnp.maximum(x @ params["kernel"], 0)

    return jaxcam.Cut(params, features, lambda params, A, x: A.mean((0, 1)) @ params["dense"], layer="hidden")


def weighted(cut, image, target, key, *, std=0.1):
    """A method that is not one of ours: Grad-CAM in one line, with noise on the image."""
    if target is None:
        target = cut.head(cut.params, cut.features(cut.params, image), image).argmax()
    A = cut.features(cut.params, image + std * jax.random.normal(key, image.shape))
    return jnp.maximum(A @ cut.params["dense"][:, target], 0)


def by_hand(cut, image, target, key, std=0.1):
    """The same in NumPy."""
    kernel, dense = (np.asarray(cut.params[name]) for name in ("kernel", "dense"))
    if target is None:
        target = (np.maximum(image @ kernel, 0).mean((0, 1)) @ dense).argmax()
    noisy = image + std * np.asarray(jax.random.normal(key, image.shape))
    return np.maximum(np.maximum(noisy @ kernel, 0) @ dense[:, target], 0)


def check(found, cut, images, targets=None):
    assert len(found.maps) == len(images) and not found.failed
    for i, (image_map, image) in enumerate(zip(found.maps.values(), images, strict=True)):
        image_map = image_map if isinstance(image_map, np.ndarray) else np.load(image_map)
        wanted = by_hand(cut, image, None if targets is None else targets[i], jax.random.fold_in(KEY, i))
        np.testing.assert_allclose(image_map, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("batch_size", "targets"), [(None, None), (1, None), (4, [0, 1, 1, 1, 1, 0, 0, 0, 1, 0]), (100, 1)]
)
def test_each_as_if_by_itself(tiny, batch_size, targets):
    found = jaxcam.explain_batch(weighted, tiny, SMALL, targets, KEY, batch_size=batch_size)
    assert list(found.maps) == list("0123456789")
    check(found, tiny, SMALL, [targets] * 10 if isinstance(targets, int) else targets)


@pytest.mark.parametrize("shape", [(8,), (2, 2)])
def test_over_devices(tiny, shape):
    devices = np.array(jax.devices()[: np.prod(shape)]).reshape(shape)
    mesh = jax.sharding.Mesh(devices, ("a", "b")[: len(shape)])
    check(jaxcam.explain_batch(weighted, tiny, SMALL, None, KEY, mesh=mesh, batch_size=3), tiny, SMALL)


def test_several_at_once_on_an_accelerator(tiny, monkeypatch):
    """vmap in the place of a loop."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    check(jaxcam.explain_batch(weighted, tiny, SMALL, None, KEY, batch_size=4), tiny, SMALL)


def test_images_of_several_shapes_compile_once_each(tiny):
    images = [SMALL[0], SMALL[1], SMALL[2, :4], SMALL[3, :4], SMALL[4]]
    traced = []

    def method(cut, image, target, key):
        traced.append(image.shape)
        return weighted(cut, image, target, key)

    check(jaxcam.explain_batch(method, tiny, images, None, KEY, batch_size=2), tiny, images)
    assert sorted(traced) == [(4, 5, 3), (6, 5, 3)]


def test_loading_is_lazy(tiny):
    """No more is loaded than the chunk that is computed and the next."""
    events = []

    def load(i):
        events.append(i)
        return SMALL[i]

    def method(cut, image, target, key):
        jax.debug.callback(lambda _: events.append("computed"), image[0, 0, 0])
        return weighted(cut, image, target, key)

    found = jaxcam.explain_batch(method, tiny, range(10), None, KEY, load=load, batch_size=2)
    jax.effects_barrier()
    check(found, tiny, SMALL)
    for i in range(10):
        assert events[: events.index(i)].count("computed") >= 2 * (i // 2 - 1)


def test_failures_are_one_line_each_and_the_others_go_on(tiny, tmp_path, caplog):
    Image.fromarray((255 * SMALL[0]).astype(np.uint8)).save(tmp_path / "good.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    nan = SMALL[1].copy()
    nan[0, 0] = np.nan
    images = [SMALL[0], tmp_path / "good.png", tmp_path / "torn.png", nan, SMALL[2, ..., :2], SMALL[3], SMALL[4] * 1e30]
    images += [SMALL[5].astype(np.int32), tmp_path / "none.png", SMALL[6]]
    targets = [0, 1, 0, 1, 0, 2, 0, 0, 0, 1]
    kernel = tiny.params["kernel"].at[0, 3].set(1e15)  # 1e30 overflows
    tiny = jaxcam.Cut({**tiny.params, "kernel": kernel}, tiny.features, tiny.head)
    with caplog.at_level(logging.WARNING, "jaxcam"):
        maps, failed = jaxcam.explain_batch(weighted, tiny, images, targets, KEY, batch_size=3, out=tmp_path / "out")
    assert list(maps) == ["0", "1", "9"]
    wanted = {"2": "torn.png is not", "3": "3 values that are NaN", "4": "shape", "5": "target 2 is out of range"}
    wanted |= {"6": "not finite", "7": "floats in the model's range, got int32", "8": "none.png"}
    assert set(failed) == set(wanted) and all(text in failed[name] for name, text in wanted.items())
    assert len(caplog.records) == 7 and not any("\n" in record.getMessage() for record in caplog.records)
    for name in maps:
        assert np.isfinite(np.load(maps[name])).all()
    (tmp_path / "none.png").write_bytes((tmp_path / "good.png").read_bytes())
    again = jaxcam.explain_batch(weighted, tiny, images, targets, KEY, out=tmp_path / "out")
    assert set(again.maps) == {"0", "1", "8", "9"} and set(again.failed) == set("234567"), "tried again"


def test_a_mistake_in_the_call_is_no_images_failure(tiny):
    with pytest.raises(ValueError, match="needs a key"):
        jaxcam.explain_batch(jaxcam.smooth_grad_cam_pp, tiny, SMALL)
    with pytest.raises(TypeError, match="is not a Cut"):
        jaxcam.explain_batch(jaxcam.grad_cam, jaxcam.digits(), SMALL)
    with pytest.raises(TypeError, match="floats in the model's range, got uint8"):
        jaxcam.explain_batch(jaxcam.grad_cam, tiny, SMALL.astype(np.uint8))
    with pytest.raises(ValueError, match="one for each of 10 images, got shape"):
        jaxcam.explain_batch(jaxcam.grad_cam, tiny, SMALL, [1, 2])
    with pytest.raises(TypeError, match="jax.random.key"):
        jaxcam.explain_batch(weighted, tiny, SMALL, None, 0)


def test_names(tiny, tmp_path):
    for folder, suffix in (("a", "png"), ("b", "png"), ("b", "jpg")):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray((255 * SMALL[0]).astype(np.uint8)).save(tmp_path / folder / f"x.{suffix}")
    a, b, c = tmp_path / "a/x.png", str(tmp_path / "b/x.png"), tmp_path / "b/x.jpg"
    explain = functools.partial(jaxcam.explain_batch, jaxcam.grad_cam, tiny)
    assert list(explain([a]).maps) == ["x"]
    assert list(explain([b, c]).maps) == ["x.png", "x.jpg"]
    assert list(explain([a, b], names=["one", "two"]).maps) == ["one", "two"]
    with pytest.raises(ValueError, match="two images are called 'x.png'"):
        explain([a, b])
    with pytest.raises(ValueError, match="name '../x' is no name for a file"):
        explain([a], names=["../x"])
    with pytest.raises(ValueError, match="expected one name for each of 2 images, got 1"):
        explain([a, b], names=["one"])


def test_a_folder_of_another_run_is_refused(tiny, tmp_path):
    method = functools.partial(weighted, std=0.1)
    explain = functools.partial(jaxcam.explain_batch, out=tmp_path)
    found = explain(method, tiny, SMALL, None, KEY)
    check(found, tiny, SMALL)
    assert sorted(file.name for file in tmp_path.iterdir()) == [*(f"{i}.npy" for i in range(10)), "run.json"]
    before = [path.stat().st_mtime_ns for path in found.maps.values()]
    # Chunks and devices are not what a run is.
    assert explain(functools.partial(weighted, std=0.1), tiny, SMALL, None, KEY, batch_size=3).maps == found.maps
    assert [path.stat().st_mtime_ns for path in found.maps.values()] == before, "nothing is done twice"
    changed = jaxcam.Cut(tiny.params | {"dense": 2 * tiny.params["dense"]}, tiny.features, tiny.head, "hidden")
    moved = jaxcam.Cut(tiny.params, tiny.features, tiny.head, "another")
    for says, call in {
        "method .*0.1.*, not .*0.2": (functools.partial(weighted, std=0.2), tiny, SMALL, None, KEY),
        "targets null": (method, tiny, SMALL, 1, KEY),
        r"key .*\[0, 2\].*, not .*\[0, 3\]": (method, tiny, SMALL, None, jax.random.key(3)),
        "other params": (method, changed, SMALL, None, KEY),
        'layer "hidden", not "another"': (method, moved, SMALL, None, KEY),
        "other images:": (method, tiny, SMALL[:9], None, KEY),
        "other images .'0' for one": (method, tiny, SMALL + 1, None, KEY),
    }.items():
        with pytest.raises(ValueError, match=f"holds another run, with {says}"):
            explain(*call)
    (tmp_path / "run.json").unlink()
    with pytest.raises(ValueError, match="no run.json"):
        explain(method, tiny, SMALL, None, KEY)


def test_methods_are_told_apart():
    described = lambda value: json.dumps(_fingerprint.describe(value))
    select = functools.partial(jaxcam.select, filters=[1])
    methods = [
        jaxcam.grad_cam,
        jaxcam.grad_cam_pp,
        functools.partial(jaxcam.grad_cam, link="exp"),
        functools.partial(jaxcam.grad_cam, select=jaxcam.select(filters=[1])),
        functools.partial(jaxcam.grad_cam, select=jaxcam.select(filters=[2])),
        lambda cut, image, target: jaxcam.grad_cam(cut, image, target, link="exp"),
        lambda cut, image, target: jaxcam.grad_cam(cut, image, target, link="identity"),
    ]
    assert len({described(method) for method in methods}) == len(methods)
    assert "0x" not in "".join(map(described, methods))
    assert described(methods[3]) == described(functools.partial(jaxcam.grad_cam, select=select()))


def test_a_full_disk_stops_the_run_and_loses_nothing(tiny, tmp_path, monkeypatch):
    replace, left = os.replace, [4]

    def until_full(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", until_full)
    run = functools.partial(jaxcam.explain_batch, weighted, tiny, SMALL, None, KEY, out=tmp_path, batch_size=2)
    with pytest.raises(OSError, match="No space left on device; 3 maps are finished, and the same call goes on"):
        run()
    monkeypatch.undo()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0.npy", "1.npy", "2.npy", "run.json"]
    check(run(), tiny, SMALL)
    with pytest.raises(FileExistsError):
        jaxcam.explain_batch(weighted, tiny, SMALL, None, KEY, out=tmp_path / "run.json")


def test_interrupted_while_writing(tiny, tmp_path, monkeypatch):
    """Half a file is never seen under a map's name, nor left."""
    write, left = pathlib.Path.write_bytes, [5]

    def until_interrupted(path, content):
        left[0] -= 1
        if left[0] < 0:
            write(path, content[: len(content) // 2])
            assert sorted(file.name for file in tmp_path.glob("[!.]*")) == [*(f"{i}.npy" for i in range(4)), "run.json"]
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(pathlib.Path, "write_bytes", until_interrupted)
    run = functools.partial(jaxcam.explain_batch, weighted, tiny, SMALL, None, KEY, out=tmp_path, batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.undo()
    assert sorted(file.name for file in tmp_path.iterdir()) == [*(f"{i}.npy" for i in range(4)), "run.json"]
    check(run(), tiny, SMALL)


def test_a_chunk_fits_the_memory(tiny, monkeypatch):
    """As the compiled program says it; each further image takes as much."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # where a chunk's images are computed together
    image = RNG.uniform(0, 1, (64, 64, 3)).astype(np.float32)
    run = functools.partial(jaxcam.explain_batch, jaxcam.grad_cam, tiny)
    chosen = []
    size = _runner.Runner.chunk_size
    monkeypatch.setattr(
        _runner.Runner, "chunk_size", lambda *given: chosen.append((given[0], size(*given))) or chosen[-1][1]
    )
    for memory in (1e6, 3e6):
        run([image] * 40, memory=memory)
        runner, fits = chosen[-1]
        assert 1 < fits < 40
        example = image, np.int32(0), np.int32(0)
        assert runner._memory_of_chunk(example, fits) <= memory < runner._memory_of_chunk(example, fits + 2)
    run([image] * 100)
    assert chosen[-1][1] == _runner.MOST_EXAMPLES
    with pytest.raises(ValueError, match=r"memory is 0.0009537 MiB: one image \[64, 64, 3\] takes 0\.\d+ MiB"):
        run([image], memory=1000)
    monkeypatch.setattr(_runner.Runner, "_memory_of_chunk", lambda *_: None)
    run([image] * 40)
    assert chosen[-1][1] == _runner.EXAMPLES_WITHOUT_FIGURES


# Forked for each run, before JAX has a thread, from a process that has imported all.
RUNS = """
import os, sys, time, warnings
import jax, jax.numpy as jnp, numpy as np
import jaxcam
warnings.simplefilter("ignore")  # of os.fork

def run(folder):
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)}
    cut = jaxcam.Cut(params, lambda p, x: jnp.maximum(x @ p["kernel"], 0), lambda p, A, x: A.mean((0, 1)), "hidden")
    images = rng.uniform(0, 1, (200, 6, 5, 3)).astype(np.float32)
    def load(i):
        time.sleep(pause)
        return images[i]
    found = jaxcam.explain_batch(jaxcam.grad_cam, cut, range(200), out=folder, load=load, batch_size=8)
    assert len(found.maps) == 200 and not found.failed

for line in sys.stdin:
    folder, pause = line.rsplit(" ", 1)
    pause = float(pause)
    child = os.fork()
    if child == 0:
        run(folder)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.mark.long
def test_killed_at_random_and_gone_on_with(tmp_path):
    """SIGKILL five times: all maps, none torn, and nothing that was finished is touched again."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}

    def start(folder, pause):
        print(folder, pause, file=runs.stdin, flush=True)
        return int(runs.stdout.readline())

    def status():
        return int(runs.stdout.readline())

    def finished():
        return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npy")}

    folder, before, seed = tmp_path / "killed", {}, random.Random(4)
    with subprocess.Popen([sys.executable, "-c", RUNS], env=environment, **pipe) as runs:
        start(tmp_path / "whole", 0)
        assert status() == 0
        for _ in range(5):
            process = start(folder, 0.002)
            enough = len(before) + seed.randint(1, 37)
            while len(finished()) < enough:
                time.sleep(0.0005)
            os.kill(process, signal.SIGKILL)
            assert status() == signal.SIGKILL, "it was killed before its end"
            there = finished()
            assert enough <= len(there) < 200
            assert {name: there[name] for name in before} == before, "nothing is done twice"
            for name in there:
                assert np.load(folder / name).shape == (6, 5), "nothing is torn"
            before = there
        (folder / f".007.npy.{_store.HOST}.{process}.0123abcd.partial").write_bytes(b"torn")
        start(folder, 0)
        assert status() == 0
        runs.stdin.close()
    names = sorted(file.name for file in folder.iterdir())
    assert names == [*(f"{i:03}.npy" for i in range(200)), "run.json"]
    assert {name: mtime for name, mtime in finished().items() if name in before} == before
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_command_line(tmp_path, capsys, caplog):
    folder, out = tmp_path / "pictures", tmp_path / "maps"
    folder.mkdir()
    for i in range(2):
        (folder / f"canvas{i}.png").write_bytes((CANVASES / f"canvas{i}.png").read_bytes())
    (folder / "notes.txt").write_text("not a picture")
    arguments = ["batch", str(folder), "--out", str(out), "--method", "grad_cam", "--target", "3", "--json"]
    assert main(arguments) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["maps"] == 2 and record["failed"] == {}
    cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    image, _ = jaxcam.pretrained.digits_canvas(1)
    np.testing.assert_allclose(np.load(out / "canvas1.npy"), jaxcam.grad_cam(cut, image, 3), atol=1e-5)
    assert main([*arguments[:-2], "5"]) == 2
    assert "holds another run, with targets" in capsys.readouterr().err
    (folder / "torn.png").write_bytes(b"no picture")
    assert main(["batch", str(folder), "--out", str(tmp_path / "more"), "--method", "grad_cam"]) == 2
    assert "2 maps" in capsys.readouterr().out and "torn" in caplog.text
    assert main(["batch", str(tmp_path / "none"), "--out", str(out)]) == 2


def test_a_rule_of_ones_own_that_changed_is_another_run(tiny, tmp_path):
    of = lambda weigh: functools.partial(jaxcam.gradient_cam, weigh=weigh, order=1)
    run = functools.partial(jaxcam.explain_batch, cut=tiny, images=SMALL, targets=1)
    run(of(lambda A, Y1: Y1.max((0, 1))), out=tmp_path / "a")
    with pytest.raises(ValueError, match="holds another run, with method"):
        run(of(lambda A, Y1: Y1.min((0, 1))), out=tmp_path / "a")


def test_other_images_are_another_run(tiny, tmp_path):
    """In an array, in a list, and in files that were written anew."""
    run = functools.partial(jaxcam.explain_batch, jaxcam.grad_cam, tiny, targets=1)
    run(list(SMALL), out=tmp_path / "list")
    with pytest.raises(ValueError, match="holds another run, with other images .'0' for one.: choose another folder"):
        run([*SMALL[1:], SMALL[0]], out=tmp_path / "list")
    files = [tmp_path / f"{i}.txt" for i in range(2)]
    for file in files:
        file.write_text("0")
    load = lambda path: SMALL[int(path.read_text())]
    run(files, load=load, out=tmp_path / "files")
    run(files, load=load, out=tmp_path / "files")
    more = [*files, tmp_path / "2.txt"]
    more[2].write_text("2")
    assert len(run(more, load=load, out=tmp_path / "files").maps) == 3
    files[1].write_text(" 1")
    with pytest.raises(ValueError, match="holds another run, with other images"):
        run(files, load=load, out=tmp_path / "files")


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ("pics", {}, "expected a sequence of images, .* got 'pics'"),
        ((image for image in ()), {}, "expected a sequence of images, .* got a generator"),
        ([], {"memory": "4GB"}, "expected a number of bytes for memory, .* got '4GB'"),
    ],
)
def test_what_is_no_sequence_of_images(tiny, images, options, message):
    with pytest.raises(TypeError, match=message):
        jaxcam.explain_batch(jaxcam.grad_cam, tiny, images, **options)


def test_another_model_with_the_same_parameters_is_another_run(tmp_path, image):
    cuts = [jaxcam.cut(jaxcam.digits(activation=f), "block3_conv2") for f in (jax.nn.relu, jax.nn.gelu)]
    jaxcam.explain_batch(jaxcam.grad_cam, cuts[0], [image], 3, out=tmp_path)
    with pytest.raises(ValueError, match="holds another run, with other model"):
        jaxcam.explain_batch(jaxcam.grad_cam, cuts[1], [image], 3, out=tmp_path)


def test_a_call_that_was_wrong_does_not_lock_the_folder(tiny, tmp_path):
    with pytest.raises(ValueError, match="CAM needs a head"):
        jaxcam.explain_batch(jaxcam.cam, jaxcam.Cut(
            tiny.params, tiny.features, lambda p, A, x: jnp.tanh(tiny.head(p, A, x)), "hidden"
        ), SMALL, 1, out=tmp_path)  # fmt: skip
    assert len(jaxcam.explain_batch(jaxcam.grad_cam, tiny, SMALL, 1, out=tmp_path).maps) == 10


def test_two_writers_of_one_folder_share_no_file(tmp_path, monkeypatch):
    seen = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda one, other: seen.append(str(one)) or replace(one, other))
    for _ in range(2):
        _store.MapFolder(tmp_path).write("x", np.ones(3), 0)
    assert len(set(seen)) == 2 and np.load(tmp_path / "x.npy").shape == (3,)
    theirs = tmp_path / f".y.npy.{_store.HOST}.{os.getppid()}.0123abcd.partial"
    theirs.write_bytes(b"half")
    jaxcam.explain_batch(jaxcam.grad_cam, jaxcam.Cut((), lambda p, x: x, lambda p, A, x: A.mean((0, 1))), SMALL, 1,
                         out=tmp_path / "run")  # fmt: skip
    assert theirs.exists(), "a living process may still write it"


def test_portraits_among_landscapes_go_together(tiny):
    images = [SMALL[i] if i % 2 else SMALL[i, :4] for i in range(10)]
    sizes = []
    watched = lambda x: jax.debug.callback(lambda: sizes.append(1)) or x
    method = lambda cut, image, target: jaxcam.grad_cam(cut, watched(image), target)
    found = jaxcam.explain_batch(method, tiny, images, 1, batch_size=5)
    jax.effects_barrier()
    assert len(found.maps) == 10 and len(sizes) == 10, "and none is padded"


def test_a_class_that_int32_does_not_hold(tiny):
    found = jaxcam.explain_batch(jaxcam.grad_cam, tiny, SMALL[:3], [2**32 + 1, 1, 2**31 + 5])
    assert list(found.maps) == ["1"] and set(found.failed) == {"0", "2"}


SCALE = 2.0


def recursive(cut, image, target, depth=1):
    """A method that calls itself, a library and a number of its module."""
    return recursive(cut, image, target, 0) if depth else SCALE * activity(image, cut)


def activity(image, cut):
    return cut.features(cut.params, image).sum(-1)


def test_methods_that_call_themselves_and_hold_keys_are_described(tiny, tmp_path, monkeypatch):
    assert len(jaxcam.explain_batch(recursive, tiny, SMALL, 1, out=tmp_path / "a").maps) == 10
    monkeypatch.setitem(recursive.__globals__, "SCALE", 3.0)
    with pytest.raises(ValueError, match="holds another run, with method"):
        jaxcam.explain_batch(recursive, tiny, SMALL, 1, out=tmp_path / "a")
    keyed = [functools.partial(jaxcam.smooth_grad_cam_pp, key=jax.random.key(seed), n_samples=1) for seed in (0, 1)]
    jaxcam.explain_batch(keyed[0], tiny, SMALL, 1, out=tmp_path / "b")
    with pytest.raises(ValueError, match="holds another run, with method"):
        jaxcam.explain_batch(keyed[1], tiny, SMALL, 1, out=tmp_path / "b")
