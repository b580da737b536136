"""Files that Hypothesis draws and shrinks: whatever they hold, a reader returns, or says in one line what is wrong."""

import json
import pathlib
import struct
import tempfile

import numpy as np
import pytest

from tests.hostile.child import read_one
from tests.hostile.readers import READERS

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402

NUMBERS = st.integers(-(2**70), 2**70) | st.floats() | st.booleans() | st.none()
NAMES = st.sampled_from(
    ["rows", "", "example", "target", "label", "predicted", "probability", "rank", "sample", "shape", "dtype", "params",
     "methods", "metrics", "image", "mask", "xmin", "ymin", "xmax", "ymax", "cat", "dog", "n01440764", "float32", "F16"]
)  # fmt: skip
TEXTS = NAMES | st.text(max_size=12)
JSON = st.recursive(
    NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=6),
    max_leaves=25,
)
TABLES = st.lists(st.lists(TEXTS | NUMBERS.map(str), max_size=7), max_size=6)
ELEMENTS = st.sampled_from(["annotation", "object", "name", "bndbox", "xmin", "ymin", "xmax", "ymax", "difficult"])
DTYPES = st.sampled_from(["F32", "F16", "BF16", "F64", "I64", "I32", "U8", "BOOL"]) | st.text(max_size=4)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": DTYPES,
        "shape": st.lists(st.integers(-2, 2**40), max_size=4),
        "data_offsets": st.lists(st.integers(-8, 2**40) | st.integers(0, 64), min_size=0, max_size=3),
    }
)


def as_csv(rows):
    return "\n".join(",".join(row) for row in rows).encode(errors="replace")


def as_xml(tree):
    tag, children = tree
    inside = children if isinstance(children, str) else "".join(as_xml(child).decode() for child in children)
    return f"<{tag}>{inside}</{tag}>".encode(errors="replace")


def as_safetensors(parts):
    header, content = parts
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def as_npy(parts):
    header, content = parts
    text = (repr(header) + "\n").encode(errors="replace")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) % 2**16) + text + content


XML = st.recursive(
    st.tuples(ELEMENTS, NUMBERS.map(str)), lambda inner: st.tuples(ELEMENTS, st.lists(inner, max_size=5)), max_leaves=20
)
NPY_HEADERS = st.fixed_dictionaries(
    {
        "descr": st.sampled_from(["<f4", "|O", "<U9", "|V8", "<f2"]) | st.text(max_size=4),
        "fortran_order": st.booleans() | st.integers(),
        "shape": st.lists(st.integers(-1, 2**40), max_size=4).map(tuple),
    }
)
FILES = {
    "run": JSON.map(lambda value: json.dumps(value).encode()),
    "record": JSON.map(lambda value: json.dumps(value).encode()),
    "csv": TABLES.map(as_csv),
    "labels": TABLES.map(as_csv),
    "names": TABLES.map(as_csv) | JSON.map(lambda value: json.dumps(value).encode()),
    "synsets": TABLES.map(as_csv),
    "annotation": XML.map(as_xml) | st.binary(max_size=60),
    "weights, safetensors": st.tuples(st.dictionaries(TEXTS, ENTRIES, max_size=3), st.binary(max_size=64)).map(
        as_safetensors
    ),
    "weights, npy": st.tuples(NPY_HEADERS, st.binary(max_size=64)).map(as_npy),
    "weights, pt": st.binary(max_size=120).map(lambda content: b"\x80\x02" + content),
}
SUFFIXES = {"run": ".json", "record": ".json", "csv": ".csv", "annotation": ".xml"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FILES)
def test_a_generated_file_is_read_or_refused(kind):
    name, _, suffix = kind.partition(", ")
    read = READERS[name]

    @hypothesis.settings(max_examples=120, deadline=5000, derandomize=True, database=None)
    @hypothesis.given(FILES[kind])
    def check(content):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / f"file{f'.{suffix}' if suffix else SUFFIXES.get(name, '.txt')}"
            path.write_bytes(content)
            verdict, why = read_one(read, str(path))
            assert verdict in ("read", "refused"), why

    with np.errstate(all="ignore"):
        check()
