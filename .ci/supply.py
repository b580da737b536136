"""Checks of a built distribution: what it contains, and that importing it opens no connection.

python supply.py contents FILE    a wheel or an sdist has its type information and its licenses
python supply.py import           jaxcam imports, computes a map and reads weights with sockets blocked
"""

import pathlib
import sys
import tarfile
import zipfile
from collections.abc import Collection

NEEDED = (
    "jaxcam/py.typed", "jaxcam/pretrained/digits/weights.npz", "jaxcam/datasets/photographs/chelsea.jpg", "LICENSE",
    "NOTICE",
)  # fmt: skip
DATA = (".npz", ".png", ".jpg", ".txt", ".json")
IN_NOTICE = "jaxcam/datasets/photographs/"  # which NOTICE names; other folders of data have a NOTICE.md of their own


def data_without_notice(names: Collection[str]) -> list[str]:
    """The files of data among these beside which there is no notice that says where they are from."""
    data = [name for name in names if name.startswith("jaxcam/") and name.endswith(DATA)]
    return [
        name for name in data if not name.startswith(IN_NOTICE) and f"{name.rpartition('/')[0]}/NOTICE.md" not in names
    ]


def check_contents(path: pathlib.Path) -> None:
    """Exits with the name of a file that is missing, or of data whose license is in no notice."""
    if path.suffix == ".whl":
        names = zipfile.ZipFile(path).namelist()
    else:
        names = [name.partition("/")[2] for name in tarfile.open(path).getnames()]
    for needed in NEEDED:
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
