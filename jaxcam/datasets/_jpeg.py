"""How many scans a JPEG file has.

A progressive file refines its pixels scan by scan. A scan that refines nothing takes a few hundred bytes and a pass
over all pixels, so that a file of a megabyte can take hours.
"""

from typing import BinaryIO

from jaxcam._base import limits

START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
# Markers without a length: TEM, RST0 to RST7, SOI, and a stuffed 0xFF among the data.
WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xD9), 0xFF}
PIECE = 2**20


def check_scans(file: BinaryIO, name: str) -> None:
    """Raises a ValueError if a JPEG file has more scans than the limit; the file stays where it is read.

    Args:
      file: binary.
      name: of the file, for the message.
    """
    place = file.tell()
    file.seek(0)
    most = limits.current().scans
    if _count_scans(file, most) > most:
        raise ValueError(f"{name} has more than {most} scans (jaxcam.limits: scans)")
    file.seek(place)


def _count_scans(file, most):
    """The number of scans, counted up to one more than `most`."""
    count, before = 0, b""
    while count <= most:
        piece = file.read(PIECE)
        if not piece:
            return count
        content, at = before + piece, 0
        while count <= most:
            at = content.find(b"\xff", at)
            if at < 0 or at + 4 > len(content):
                before = content[at:] if at >= 0 else b""
                break
            marker = content[at + 1]
            if marker == END_OF_IMAGE:
                return count
            count += marker == START_OF_SCAN
            if marker in WITHOUT_LENGTH:
                at += 1 if marker == 0xFF else 2
                continue
            at += 2 + int.from_bytes(content[at + 2 : at + 4])
            if at > len(content):
                file.seek(at - len(content), 1)
                before = b""
                break
        else:
            return count
    return count
