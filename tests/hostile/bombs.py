"""Files that ask for too much, one for each way that is known; `python -m tests.hostile.bombs FOLDER` reads them all.

They are made for the limits in force: with lower ones, in JAXCAM_LIMITS, they are smaller and read sooner.
The process has a gigabyte beyond what it has after its imports, and a minute of computing. It prints, for each bomb,
what its reader answered, the seconds that it took, and the process's peak memory so far in MiB.
"""

import io
import json
import os
import pathlib
import resource
import struct
import sys
import time
import zipfile
import zlib

import h5py
import numpy as np
from PIL import Image

from jaxcam import limits
from tests.hostile import corpus
from tests.hostile.child import MEMORY, limit_memory, peak_memory, read_one
from tests.pretrained.torch_writer import ORDERED, Call, Global, pickled, tensor

SECONDS = 60
MIB = 2**20


def doubled(levels: int) -> bytes:
    """A pickle of a tuple that holds a tuple twice, which holds a tuple twice, and so on."""
    return b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(levels))


def stride_of(value: bytes) -> bytes:
    """A state dict with a tensor whose stride is the value of a pickle."""
    whole = pickled({"a": tensor(0, np.arange(6, dtype=np.float32))})
    place = b"(\x8a\x01\x01t"  # the stride (1,)
    assert whole.count(place) == 1
    return whole.replace(place, b"(" + value + b"t")


def many_dicts(count: int) -> bytes:
    """A list of a thousand pairs, and a dict of it `count` times."""
    pairs = b"](" + b"".join(b"K" + bytes([i % 256]) + b"K\x01\x86" for i in range(1000)) + b"eq\x00"
    ordered = b"ccollections\nOrderedDict\nq\x01"
    return b"\x80\x02" + pairs + ordered + b"(" + b"h\x01h\x00\x85R" * count + b"t."


def repeated(count: int, size: int) -> bytes:
    """Tensors that repeat a value with a stride of 0."""
    storage = tensor(0, np.arange(6, dtype=np.float32)).arguments[0]
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    return pickled({f"a{i}": Call(rebuild, (storage, 0, (size,), (0,), False, ORDERED)) for i in range(count)})


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG file whose last scan comes `count` times."""
    content = corpus.seeds()["picture: jpeg, progressive"].content
    last = content.rindex(b"\xff\xda")
    return content[:last] + (content[last:-2]) * count + b"\xff\xd9"


def h5_of(make) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        make(file)
    return buffer.getvalue()


def unpacking_chunk(file):
    """A chunk of a kilobyte that unpacks to 8 MiB."""
    data = file.create_dataset("a", (256,), "f4", chunks=(256,), compression="gzip")
    data.id.write_direct_chunk((0,), zlib.compress(bytes(8 * MIB), 1))


def cyclic(file):
    file.create_dataset("a/b/x", data=np.ones(3))
    file["a/b/c"] = file["a"]


def nested(file):
    group = file
    for _ in range(300):
        group = group.create_group("a")
    group["x"] = np.ones(3)


def safetensors_of(count: int) -> bytes:
    entries = {f"a{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(count)}
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header


def deep_json(levels: int) -> bytes:
    return b'{"config":' * levels + b"1" + b"}" * levels


def bombs():
    """By name: the reader, the suffix, the content, and words of the answer."""
    most = limits.current()
    arrays, rows, unpacked = most.arrays, most.rows, most.unpacked_bytes(0)
    npz = {f"a{i}.npy": corpus.npy(np.zeros(unpacked // 16, np.uint8)) for i in range(17)}
    yield (
        "an npz that unpacks to more",
        ("weights", ".npz", lambda: corpus.zipped(npz, zipfile.ZIP_DEFLATED), "expansion"),
    )
    yield (
        "an npz with a header that is no header",
        (
            "weights",
            ".npz",
            lambda: corpus.zipped({"a.npy": corpus.npy(np.zeros(3)).replace(b"(3,), }", b"((((((")}),
            "zip",
        ),
    )
    yield (
        "an npz of 8 TB",
        (
            "weights",
            ".npz",
            lambda: corpus.zipped(
                {"a.npy": corpus.npy(np.zeros(3)).replace(b"(3,), }           ", b"(1000000000000,), }")}
            ),
            "larger than what is stored",
        ),
    )
    yield "zip, a million members", ("weights", ".npz", many_members, "its table of contents has more than")
    yield (
        "HDF5 of 4 TB that are not stored",
        (
            "weights",
            ".h5",
            lambda: h5_of(lambda file: file.create_dataset("a", (2**40,), "f4", chunks=(2**20,))),
            "expansion",
        ),
    )
    yield "HDF5, a chunk that unpacks to more", ("weights", ".h5", lambda: h5_of(unpacking_chunk), "unpacks to more")
    yield "HDF5, a cycle", ("weights", ".h5", lambda: h5_of(cyclic), None)
    yield "HDF5, nested groups", ("weights", ".h5", lambda: h5_of(nested), "nested more than 100 deep")
    yield "HDF5 of plugins", ("weights", ".h5", lambda: h5_of(plugin), "filters")
    yield (
        "safetensors, a header of a terabyte",
        ("weights", ".safetensors", lambda: struct.pack("<Q", 2**40) + b"{", "jaxcam.limits: arrays"),
    )
    yield (
        "safetensors, many arrays",
        ("weights", ".safetensors", lambda: safetensors_of(arrays + 1), "jaxcam.limits: arrays"),
    )
    yield (
        "safetensors, an offset past the end",
        (
            "weights",
            ".safetensors",
            lambda: corpus.safetensors_of(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[4000000000,4000000036]}}'),
            "safetensors",
        ),
    )
    for name, pack in (("zip", corpus.torch_zip), ("legacy", bytes)):
        for what, make, words in (
            ("a stride that doubles", lambda: stride_of(doubled(150)), "a tensor with a tuple for"),
            ("a name that doubles", lambda: b"\x80\x04" + doubled(150) + doubled(150) + b"\x93.", "a str, got a tuple"),
            ("dicts of a list", lambda: many_dicts(arrays), "instructions"),
            ("a list of lists", lambda: b"\x80\x02" + b"]" * (65 * arrays) + b".", "instructions"),
            ("tuples in tuples", lambda: b"\x80\x02)" + b"\x85" * (16 * arrays) + b".", "expected a state dict"),
        ):  # fmt: skip
            if name == "zip" or what != "a stride that doubles":
                yield (
                    f"{name}, {what}",
                    (
                        "weights",
                        ".pth",
                        lambda make=make, pack=pack: pack(make()),
                        words if name == "zip" or words != "expected a state dict" else "cannot be read",
                    ),
                )
    yield (
        "torch, a value repeated",
        ("weights", ".pth", lambda: corpus.torch_zip(repeated(100, unpacked // 100)), "expansion"),
    )
    yield "keras, deep JSON", ("keras", ".keras", lambda: corpus.keras(deep_json(4_000)), "no JSON")
    yield (
        "keras, JSON that is nested",
        ("keras", ".keras", lambda: corpus.keras(deep_json(300)), "nested more than 200"),
    )
    yield (
        "keras, JSON that unpacks",
        (
            "keras",
            ".keras",
            lambda: corpus.keras(b" " * (most.json_bytes + 1), compression=zipfile.ZIP_DEFLATED),
            "json_bytes",
        ),
    )
    yield "a PNG of 10^9 pixels", ("picture", ".png", lambda: png(40_000, 25_000), "megapixels")
    yield "a PNG of 10^18 pixels", ("picture", ".png", lambda: png(2**31 - 1, 2**31 - 1), "megapixels")
    yield (
        "a PNG with text that unpacks",
        (
            "picture",
            ".png",
            lambda: png(
                2, 2, (b"zTXt", b"a\0\0" + zlib.compress(bytes(8 * MIB), 1)), (b"IDAT", zlib.compress(bytes(14)))
            ),
            "can be read",
        ),
    )
    yield (
        "a PNG with a chunk of 2 GB",
        ("picture", ".png", lambda: png(2, 2)[:33] + struct.pack(">I", 2**31 - 1) + b"IDAT", "picture"),
    )
    yield "a JPEG of many scans", ("picture", ".jpg", lambda: jpeg_of_scans(120), "jaxcam.limits: scans")
    yield (
        "PostScript",
        ("picture", ".jpg", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "expected PNG, JPEG"),
    )
    yield "a GIF of many large frames", ("clip", ".gif", many_frames, "clip_pixels")
    yield (
        "csv, a giant cell",
        ("csv", ".csv", lambda: b"image,label\n" + b"a" * (20 * MIB) + b",1\n", "field larger than"),
    )
    yield (
        "csv, many columns",
        ("csv", ".csv", lambda: b"image" + b"," * MIB + b"\n" + b"csv\n" * min(rows, 100_000), None),
    )
    yield "csv, many rows", ("csv", ".csv", lambda: b"image\n" + b"csv\n" * (rows + 2), "jaxcam.limits: rows")
    yield (
        "csv, a class of many digits",
        ("csv", ".csv", lambda: b"image,label\ncsv," + b"9" * 100_000 + b"\n", "no class"),
    )
    yield "names, many lines", ("names", ".txt", lambda: b"a\r" * (rows + 2), "jaxcam.limits: rows")
    yield "XML, entities of entities", ("annotation", ".xml", billion_laughs, "is not an annotation")
    yield "XML, nested", ("annotation", ".xml", lambda: b"<a>" * 200_000 + b"</a>" * 200_000, None)
    yield (
        "XML, an entity of another file",
        (
            "annotation",
            ".xml",
            lambda: b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a><object><name>&x;</name></object></a>',
            "undefined entity",
        ),
    )
    yield "run.json, deep", ("run", ".json", lambda: b"[" * 100_000, "")
    yield "a record, deep", ("record", ".json", lambda: b'{"rows":' * 100_000, "torn")  # fmt: skip


def many_members() -> bytes:
    """A table of contents that is longer than the limit."""
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<HHH", 5, 0, 0) + bytes(12) + b"a.npy"
    contents = entry * (1024 * limits.current().arrays // len(entry) + 1)
    return b"PK\x03\x04" + contents + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, len(contents), 4, 0)


def plugin(file):
    """A filter that HDF5 would load a library for."""
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((4,))
    settings.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(file.id, b"a", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((4,)), settings)


def many_frames() -> bytes:
    buffer = io.BytesIO()
    side = int((limits.current().clip_pixels / 400) ** 0.5) + 1
    frames = [Image.new("P", (side, side), i) for i in range(2)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=100)
    content = buffer.getvalue()
    start = content.rindex(b"\x21\xf9\x04")
    # A frame of one pixel, repeated: each is drawn on the whole canvas.
    tiny = content[start : start + 8] + b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return content[:-1] + tiny * 400 + b";"


def billion_laughs() -> bytes:
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    return f'<!DOCTYPE a [<!ENTITY l0 "lol">{entities}]><a><object><name>&l9;</name></object></a>'.encode()


def main(folder: pathlib.Path) -> None:
    from tests.hostile.readers import READERS

    os.chdir(folder)
    pathlib.Path("csv").touch()
    for name in ("weights: h5", "weights: keras", "picture: png", "picture: gif", "text: csv", "text: record"):
        chosen = corpus.seeds()[name]
        pathlib.Path("warm").write_bytes(chosen.pack(chosen.content))
        read_one(READERS[chosen.reader], "warm")
    paths = {}
    for number, (name, (reader, suffix, make, words)) in enumerate(bombs()):
        paths[name] = (reader, f"bomb{number}{suffix}", words)
        pathlib.Path(f"bomb{number}{suffix}").write_bytes(make())
    limit_memory(MEMORY)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + SECONDS,) * 2)
    for name, (reader, path, words) in paths.items():
        start = time.monotonic()
        verdict, why = read_one(READERS[reader], path)
        seconds = time.monotonic() - start
        print(json.dumps([name, verdict, why, words, seconds, peak_memory(), os.path.getsize(path)]), flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
