"""Small files of every format that jaxcam reads, and pickles that want to run something.

A seed is a reader's name, a suffix, and the content. A seed of parts is content that lies inside another file: it is
mutated before it is packed, so that checksums and tables of contents are right and the mutation reaches the reader.
"""

import functools
import io
import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

import h5py
import numpy as np
import safetensors.numpy
from PIL import Image

from tests.pretrained.torch_writer import ORDERED, Call, Global, pickled, tensor, write_legacy

ARRAYS = {"fc/kernel": np.arange(12, dtype=np.float32).reshape(4, 3), "fc/bias": np.ones(3, np.float16)}
GRAY = np.arange(30 * 20, dtype=np.uint8).reshape(30, 20)
RGB = np.dstack([GRAY, GRAY.T.reshape(30, 20), 255 - GRAY])
CANARY = "CANARY"  # the file in the current folder that a payload makes


class Seed(NamedTuple):
    """A file to mutate.

    Attributes:
      reader: a name of `readers.READERS`.
      suffix: of the file.
      content: what is mutated.
      pack: from the mutated content to the file's.
    """

    reader: str
    suffix: str
    content: bytes
    pack: Callable[[bytes], bytes] = bytes


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def h5(arrays, attributes=None, **options) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **options)
        file.attrs.update(attributes or {})
    return buffer.getvalue()


def npy(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def torch_zip(data_pickle: bytes) -> bytes:
    values = np.arange(6, dtype=np.float32).tobytes()
    return zipped({"archive/data.pkl": data_pickle, "archive/byteorder": b"little", "archive/data/0": values})


def torch_legacy(content: object) -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        write_legacy(file.name, content, {0: np.arange(6, dtype=np.float32).tobytes()})
        return file.read()


def state_dict():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    return {"state_dict": {"a.weight": tensor(0, values), "a.bias": tensor(0, values[0])}, "epoch": 3, "b": ORDERED}


def safetensors_of(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + np.arange(6, dtype=np.float32).tobytes()


KERAS_CONFIG = {
    "module": "keras", "class_name": "Sequential", "registered_name": None, "config": {
        "name": "s", "layers": [
            {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, 4], "name": "i"}},
            {"module": "keras.layers", "class_name": "Dense", "config": {"name": "fc", "units": 3}},
        ]}}  # fmt: skip


def keras(config: bytes, weights: bytes | None = None, compression: int = zipfile.ZIP_STORED) -> bytes:
    weights = h5(ARRAYS) if weights is None else weights
    return zipped({"metadata.json": b"{}", "config.json": config, "model.weights.h5": weights}, compression)


def payloads() -> dict[str, bytes]:
    """Pickles that make the file `CANARY`, by every instruction that runs something, when they are unpickled."""
    run = f"open('{CANARY}', 'w')"
    arguments = b"(X" + struct.pack("<I", len(CANARY)) + CANARY.encode() + b"X\x01\x00\x00\x00wt"
    code = b"(X" + struct.pack("<I", len(run)) + run.encode() + b"t"
    short = [bytes([0x8C, len(word)]) + word for word in (b"builtins", b"open", b"eval")]
    mark_open = b"(X" + struct.pack("<I", len(CANARY)) + CANARY.encode() + b"X\x01\x00\x00\x00w"
    return {
        "REDUCE": b"cbuiltins\nopen\n" + arguments + b"R.",
        "REDUCE of eval": b"cbuiltins\neval\n" + code + b"R.",
        "REDUCE of exec": b"cbuiltins\nexec\n" + code + b"R.",
        "REDUCE of os.system": b"cposix\nsystem\n(X" + struct.pack("<I", 12) + b"touch CANARYtR.",
        "STACK_GLOBAL": short[0] + short[1] + b"\x93" + arguments + b"R.",
        "INST": mark_open + b"ibuiltins\nopen\n.",
        "OBJ": b"(cbuiltins\nopen\n" + mark_open[1:] + b"o.",
        "NEWOBJ": b"c_io\nFileIO\n" + arguments + b"\x81.",
        "NEWOBJ_EX": b"c_io\nFileIO\n" + arguments + b"}\x92.",
        "BUILD": b"ccollections\nOrderedDict\n)R}X\x0c\x00\x00\x00__setstate__cbuiltins\neval\nsb"
        + b"X"
        + struct.pack("<I", len(run))
        + run.encode()
        + b"b.",
        "EXT1": b"\x82\x01.",
        "EXT4": b"\x84\x01\x00\x00\x00" + arguments + b"R.",
        "PERSID": f"P{run}\n.".encode(),
        "BINPERSID": b"X" + struct.pack("<I", len(run)) + run.encode() + b"Q.",
        "getattr": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\nX\x08\x00\x00\x00__call__tR(X\x02\x00\x00\x00ostR.",
        "a dotted name": b"ccollections\nOrderedDict.__init__.__globals__\n.",
        "numpy's": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR.",
        "torch.load": b"ctorch\nload\n" + arguments + b"R.",
    }


def _saved(array, image_format, **options):
    buffer = io.BytesIO()
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    picture.save(buffer, image_format, **options)
    return buffer.getvalue()


def _exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def repaired_png(content: bytes) -> bytes:
    """A PNG file with the checksums of its chunks made right, so that what the chunks hold is decoded."""
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        end = min(at + 8 + length, len(content) - 4)
        body = content[at + 4 : end]
        parts += [content[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at = end + 4
    return b"".join([*parts, content[at:]])


def _pictures() -> dict[str, Seed]:
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB), Image.fromarray(RGB // 2)]
    animated = {"save_all": True, "append_images": frames[1:], "duration": 100}
    palette = Image.fromarray(GRAY).convert("P")
    seeds = {
        "png": ("picture", ".png", _saved(RGB, "PNG", exif=_exif()), repaired_png),
        "png, palette": ("mask", ".png", _saved(palette, "PNG", transparency=3), repaired_png),
        "png, 16 bits": ("picture", ".png", _saved(GRAY.astype(np.uint16) * 257, "PNG"), repaired_png),
        "png, alpha": ("picture", ".png", _saved(np.dstack([RGB, GRAY]), "PNG")),
        "jpeg": ("picture", ".jpg", _saved(RGB, "JPEG", exif=_exif())),
        "jpeg, progressive": ("picture", ".jpg", _saved(RGB, "JPEG", progressive=True)),
        "jpeg, cmyk": ("picture", ".jpg", _saved(Image.fromarray(RGB).convert("CMYK"), "JPEG")),
        "tiff": ("picture", ".tif", _saved(RGB, "TIFF")),
        "tiff, lzw": ("picture", ".tif", _saved(RGB, "TIFF", compression="tiff_lzw")),
        "tiff, jpeg": ("picture", ".tif", _saved(RGB, "TIFF", compression="jpeg")),
        "tiff, deflate": ("picture", ".tif", _saved(GRAY.astype(np.float32) / 255, "TIFF", compression="tiff_deflate")),
        "tiff, one bit": ("mask", ".tif", _saved(Image.fromarray(GRAY > 9), "TIFF", compression="group4")),
        "bmp": ("picture", ".bmp", _saved(RGB, "BMP")),
        "bmp, palette": ("mask", ".bmp", _saved(palette, "BMP")),
        "webp": ("picture", ".webp", _saved(RGB, "WEBP", lossless=True)),
        "webp, lossy": ("picture", ".webp", _saved(np.dstack([RGB, GRAY]), "WEBP")),
        "avif": ("picture", ".avif", _saved(RGB, "AVIF")),
        "jpeg 2000": ("picture", ".jp2", _saved(RGB, "JPEG2000")),
        "ico": ("picture", ".ico", _saved(Image.fromarray(RGB).resize((16, 16)), "ICO")),
        "tga": ("picture", ".tga", _saved(RGB, "TGA", compression="tga_rle")),
        "qoi": ("picture", ".qoi", _saved(RGB, "QOI")),
        "pcx": ("picture", ".pcx", _saved(RGB, "PCX")),
        "sgi": ("picture", ".sgi", _saved(RGB, "SGI")),
        "ppm": ("picture", ".ppm", _saved(RGB, "PPM")),
        "ppm, text": ("picture", ".ppm", b"P3\n# text\n3 2\n255\n" + b" ".join(b"%d" % i for i in range(18))),
        "gif": ("clip", ".gif", _saved(frames[0], "GIF", **animated)),
        "apng": ("clip", ".png", _saved(frames[0], "PNG", **animated), repaired_png),
        "webp, animated": ("clip", ".webp", _saved(frames[0], "WEBP", **animated)),
        "tiff, pages": ("clip", ".tif", _saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])),
    }
    return {f"picture: {name}": Seed(*seed) for name, seed in seeds.items()}


def _weights() -> dict[str, Seed]:
    config, pickle = json.dumps(KERAS_CONFIG).encode(), pickled(state_dict())
    header = safetensors.numpy.save({"a": np.zeros(2, np.float32), "b": np.ones([2, 2], np.float32)})
    (length,) = struct.unpack_from("<Q", header)
    compressed = functools.partial(h5, chunks=True, compression="gzip", shuffle=True)
    squares = {"a": np.ones([8, 8], np.float32)}
    seeds = {
        "safetensors": ("weights", ".safetensors", header),
        "safetensors, header": ("weights", ".safetensors", header[8 : 8 + length], safetensors_of),
        "h5": ("weights", ".h5", h5(ARRAYS)),
        "h5, compressed": ("weights", ".h5", compressed(squares)),
        "h5, of Keras": ("keras", ".h5", h5(ARRAYS, {"model_config": config.decode()})),
        "h5, new format": ("weights", ".h5", _h5_latest()),
        "npz": ("weights", ".npz", zipped({f"{name}.npy": npy(array) for name, array in ARRAYS.items()})),
        "npz, an array": ("weights", ".npz", npy(ARRAYS["fc/kernel"]), lambda data: zipped({"a.npy": data})),
        "npz, deflated": (
            "weights", ".npz", npy(np.zeros([40, 40])), lambda data: zipped({"a.npy": data}, zipfile.ZIP_DEFLATED)
        ),
        "keras": ("keras", ".keras", keras(config)),
        "keras, config": ("keras", ".keras", config, keras),
        "keras, weights": ("keras", ".keras", h5(ARRAYS), lambda data: keras(config, data)),
        "torch": ("weights", ".pth", torch_zip(pickle)),
        "torch, pickle": ("weights", ".pth", pickle, torch_zip),
        "torch, legacy": ("weights", ".pth", torch_legacy(_legacy_state_dict())),
        **{f"payload {name}": ("weights", ".pth", b"\x80\x02" + content) for name, content in payloads().items()},
        **{
            f"payload {name}, zip": ("weights", ".pth", b"\x80\x04" + content, torch_zip)
            for name, content in payloads().items()
        },
        "npz, payload": (
            "weights", ".npz",
            npy(np.zeros(3)).replace(b"'<f8'", b"'|O'  ")[:128] + b"\x80\x04" + payloads()["REDUCE"],
            lambda data: zipped({"a.npy": data}),
        ),
    }  # fmt: skip
    return {f"weights: {name}": Seed(*seed) for name, seed in seeds.items()}


def _legacy_state_dict():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    rebuild = tensor(0, values, None)
    return {"a": rebuild, "b": Call(Global("collections", "OrderedDict"), ([("c", 1)],))}


def _h5_latest() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", libver="latest") as file:
        file.create_dataset("a", data=np.ones([5, 3], np.float32), chunks=(2, 3), maxshape=(None, 3))
        file.create_dataset("g/h/b", data=np.ones(4, np.int32))
        file["soft"] = h5py.SoftLink("/a")
        file["outside"] = h5py.ExternalLink("other.h5", "/a")
        file["hard"] = file["g"]
    return buffer.getvalue()


def _texts() -> dict[str, Seed]:
    annotation = (
        b"<annotation><size><width>20</width><height>30</height></size><object><name>cat</name>"
        b"<difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
        b"</annotation>"
    )
    entities = b'<!DOCTYPE a [<!ENTITY x "' + b"y" * 50 + b'"><!ENTITY z "' + b"&x;" * 20 + b'">]><annotation>&z;'
    run = {"jaxcam": "0.1.0", "layer": "a", "model": [[4, 4, 3], "float32", "00"], "params": "00",
           "method": {"name": "a"}, "images": {"0": "00"}, "load": None, "targets": None, "key": None}  # fmt: skip
    record = {"example": "0" * 32, "label": 3, "rows": {"Grad-CAM": {"of the map": {"area": 0.5}, "drop": {"drop": 1}}}}
    csv = b'image,label,mask,xmin,ymin,xmax,ymax\ncsv,cat,,1,2,3,4\ncsv,dog,,,,,\n"csv",cat,,5,6,7,8\n'
    seeds = {
        "csv": ("csv", ".csv", csv),
        "annotation": ("annotation", ".xml", annotation),
        "annotation, entities": ("annotation", ".xml", entities + b"</annotation>"),
        "labels, Kaggle": (
            "labels", ".csv", b"ImageId,PredictionString\nILSVRC2012_val_00000001,n01440764 1 2 3 4 n01440764 1 2 3 4\n"
        ),
        "labels": ("labels", ".txt", b"ILSVRC2012_val_00000001.JPEG 65\n"),
        "names": ("names", ".txt", "cat\ndog\nμ\n".encode()),
        "synsets": ("synsets", ".txt", b"n01440764 tench\nn01443537 goldfish\n"),
        "run": ("run", ".json", json.dumps(run).encode()),
        "record": ("record", ".json", json.dumps(record).encode()),
    }  # fmt: skip
    return {f"text: {name}": Seed(*seed) for name, seed in seeds.items()}


@functools.cache
def seeds() -> dict[str, Seed]:
    """All seeds by name."""
    return {**_weights(), **_pictures(), **_texts()}
