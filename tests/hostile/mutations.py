"""Mutations of a file's bytes, drawn from a seed: the same number gives the same file."""

import random
import struct

from tests.hostile import corpus

# Numbers at the edges of what formats hold.
EDGES = [0, 1, 2, 3, 7, 8, 16, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**24, 2**31 - 1, 2**31, 2**32 - 1]
WIDE = [*EDGES, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
WORDS = [
    b"", b"\0", b"\xff", b"\n", b'"', b"{", b"[", b"}", b"]", b",", b"-1", b"1e999", b"NaN", b"null", b"9" * 30,
    b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"((((" * 500, b"../../../etc/passwd", b"/dev/zero", b"\xed\xa0\x80",
    b"os\nsystem\n", b"cposix\nsystem\n", b"R", b"b", b"\x81", b"\x92", b"\x93", b"o", b"i", b"Q", b"t", b"u", b"e",
    b"IDAT", b"IEND", b"tRNS", b"PLTE", b"zTXt", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"\xff\xd8", b"\xff\xd9",
    b"\xff\xda", b"\xff\xc2", b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"OHDR", b"TREE", b"SNOD", b"FRHP",
    b"GCOL", b"\x89HDF",
    b"&z;", b"<a>" * 300, b"<!ENTITY q SYSTEM 'file:///etc/passwd'>", b"F64", b"shape", b"descr", b"|O", b"V9999999999",
    b"Lambda", b"__lambda__", b"class_name", b"module",
]  # fmt: skip


def mutated(number: int, seed: int) -> tuple[str, corpus.Seed, bytes]:
    """The name of a file of the corpus, the file, and its mutated content."""
    names = list(corpus.seeds())
    draw = random.Random(f"{seed}:{number}")
    name = names[number % len(names)]
    chosen = corpus.seeds()[name]
    content = bytearray(chosen.content)
    if number >= len(names):  # the first files are those of the corpus as they are
        for _ in range(draw.choice([1, 1, 1, 2, 3, 6, 20])):
            content = draw.choice(MUTATIONS)(content, draw)[: 2**20]
    data = chosen.pack(bytes(content))
    if number >= len(names) and draw.random() < 0.1:  # the file around the parts
        data = bytes(draw.choice(MUTATIONS)(bytearray(data), draw)[: 2**20])
    return name, chosen, data


def _place(content, draw):
    # Headers decide most: half of the places are among the first bytes.
    most = len(content) if draw.random() < 0.5 else min(len(content), 128)
    return draw.randrange(most) if most else 0


def flip_a_bit(content, draw):
    if content:
        content[_place(content, draw)] ^= 1 << draw.randrange(8)
    return content


def set_a_byte(content, draw):
    if content:
        content[_place(content, draw)] = draw.randrange(256)
    return content


def set_a_number(content, draw):
    size = draw.choice([1, 2, 4, 8])
    value = draw.choice(WIDE) if draw.random() < 0.7 else draw.getrandbits(64)
    code = draw.choice("<>") + {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
    at = _place(content, draw)
    content[at : at + size] = struct.pack(code, value % 2 ** (8 * size))
    return content


def cut_short(content, draw):
    return content[: _place(content, draw)] if draw.random() < 0.5 else content[: -1 - draw.randrange(16)]


def remove(content, draw):
    at = _place(content, draw)
    del content[at : at + draw.choice([1, 2, 4, 16, 100])]
    return content


def insert(content, draw):
    at = _place(content, draw)
    content[at:at] = draw.choice(WORDS)
    return content


def overwrite(content, draw):
    word = draw.choice(WORDS)
    at = _place(content, draw)
    content[at : at + len(word)] = word
    return content


def repeat(content, draw):
    at = _place(content, draw)
    piece = content[at : at + draw.choice([1, 4, 16, 64, 1000])]
    content[at:at] = piece * min(draw.choice([1, 2, 10, 1000]), 2**19 // (len(piece) + 1))
    return content


def move(content, draw):
    start, at = _place(content, draw), _place(content, draw)
    piece = content[start : start + draw.choice([2, 8, 32, 200])]
    content[at : at + len(piece)] = piece
    return content


def splice(content, draw):
    """The beginning of this file and the end of another one of the corpus."""
    other = draw.choice(list(corpus.seeds().values())).content
    return content[: _place(content, draw)] + other[draw.randrange(len(other)) :]


def change_a_number_in_text(content, draw):
    """Another number in the place of one that is written in digits, as in JSON, csv and headers."""
    places = [at for at, byte in enumerate(content) if 48 <= byte <= 57]
    if not places:
        return set_a_number(content, draw)
    at = end = draw.choice(places)
    while end < len(content) and 48 <= content[end] <= 57:
        end += 1
    content[at:end] = draw.choice([b"-1", b"1e400", b"0.5", b"null", *(str(edge).encode() for edge in WIDE)])
    return content


MUTATIONS = [
    flip_a_bit, flip_a_bit, set_a_byte, set_a_byte, set_a_number, set_a_number, set_a_number, cut_short, remove, insert,
    overwrite, repeat, move, splice, change_a_number_in_text,
]  # fmt: skip
