"""Checks of a built distribution: what it contains, and that importing it opens no connection.

python supply.py contents FILE    a wheel or an sdist has its type information and its licenses
python supply.py import           jaxcam imports, computes a map and reads weights with sockets blocked
"""

import pathlib
import sys
import tarfile
import zipfile
from collections.abc import Iterable

NEEDED = (
    "jaxcam/py.typed", "jaxcam/pretrained/digits/weights.npz", "jaxcam/datasets/photographs/chelsea.jpg", "LICENSE",
)  # fmt: skip
DATA = (".npz", ".png", ".jpg", ".txt", ".json")
# Each folder of data, and the file that says where the data are from and under which license.
NOTICES = {
    "jaxcam/pretrained/digits/": "jaxcam/pretrained/digits/NOTICE.md",
    "jaxcam/pretrained/clips/": "jaxcam/pretrained/clips/NOTICE.md",
    "jaxcam/pretrained/masks/": "jaxcam/pretrained/clips/NOTICE.md",
    "jaxcam/pretrained/boxes/": "jaxcam/pretrained/clips/NOTICE.md",
    "jaxcam/pretrained/words/": "jaxcam/pretrained/words/NOTICE.md",
    "jaxcam/datasets/imagenet/": "jaxcam/datasets/imagenet/NOTICE.md",
    "jaxcam/datasets/photographs/": "NOTICE",
}


def data_without_notice(names: Iterable[str]) -> list[str]:
    """The files of data among these that are in no folder of `NOTICES`."""
    return [
        name
        for name in names
        if name.startswith("jaxcam/") and name.endswith(DATA) and not name.startswith(tuple(NOTICES))
    ]


def check_contents(path: pathlib.Path) -> None:
    """Exits with the name of a file that is missing, or of data whose license is in no notice."""
    if path.suffix == ".whl":
        names = zipfile.ZipFile(path).namelist()
    else:
        names = [name.partition("/")[2] for name in tarfile.open(path).getnames()]
    for needed in {*NEEDED, *NOTICES.values()}:
        if not any(name == needed or name.endswith(f"/{needed}") for name in names):
            sys.exit(f"{path} has no {needed}")
    for name in data_without_notice(names):
        sys.exit(f"{path} has {name}, whose license no notice says")


def check_import() -> None:
    """Exits if importing and a first map need a connection."""

    def refuse(event, arguments):
        if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
            sys.exit(f"jaxcam asks for a connection: {event} {arguments}")

    sys.addaudithook(refuse)
    import jaxcam

    cut = jaxcam.cut(jaxcam.digits(), "block3_conv2")
    image, _ = jaxcam.pretrained.digits_canvas(0)
    saliency = jaxcam.grad_cam(cut, image)
    if saliency.shape != (16, 16) or not (saliency > 0).any():
        sys.exit("the map is empty")
    if not jaxcam.pretrained.imagenet_classes():
        sys.exit("no class names")


if __name__ == "__main__":
    check_contents(pathlib.Path(sys.argv[2])) if sys.argv[1] == "contents" else check_import()
