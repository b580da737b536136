"""On seven networks jaxcam's maps take at most 0.8 to 1.05 of the time of the fastest other library's.

VGG-16, ResNet-50, DenseNet-121, MobileNetV2, EfficientNet-B0, ConvNeXt-T and ViT-B/16 with random weights at 224 x 224:
Keras applications on JAX (VGG and ViT: jaxcam's) against torchvision's models under torch-cam,
pytorch-grad-cam and captum, for one image and for eight. Each library runs in a process of its own (`one_library`),
with PyTorch's idle threads asleep, and the processes are asked in turn. A ratio is the median over the rounds of
jaxcam's time over that of the fastest other library; the table also has each library's map over its own forward pass.

    python -m benchmarks.networks_beside_the_peers --networks MobileNetV2 ConvNeXtTiny --batches 1

runs some of it.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence

from benchmarks import peers, timing
from benchmarks.one_library import LIBRARIES, NETWORKS

METHODS = ("grad_cam", "grad_cam_pp", "smooth_grad_cam_pp")
MISSING = 3  # exit code of a process whose library cannot be imported


class Library:
    """A process that computes maps of one network with one library."""

    def __init__(self, name: str, network: str, side: int):
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "KERAS_BACKEND": "jax"}
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.one_library", name, network, str(side)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.methods = tuple(json.loads(self._answer().removeprefix("ready ")))

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise peers.Missing(f"{self.name} ended with exit code {self.process.wait()}; its last lines are above")
        return line

    def seconds(self, method: str, batch: int) -> float:
        """The time that the maps of one batch take."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{method} {batch}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def libraries(network: str, side: int) -> Iterator[list[Library]]:
    """A process for each library, jaxcam's first."""
    with contextlib.ExitStack() as stack:
        started = []
        for name in LIBRARIES:
            library = Library(name, network, side)
            stack.callback(library.close)
            started.append(library)
        yield started


def times_of(network: str, *, side: int, batch: int, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by method and library, taken in turn; the first round compiles and is not counted."""
    with libraries(network, side) as running:
        times: dict[str, dict[str, list[float]]] = {}
        for method in ("forward", *METHODS):
            able = [library for library in running if method in library.methods]
            times[method] = {library.name: [] for library in able}
            for round_ in range(repeats + 1):
                for library in able:
                    seconds = library.seconds(method, batch)
                    if round_ > 0:
                        times[method][library.name].append(seconds)
        return times


def bound_of(network: str, method: str) -> float:
    """What the ratio may be."""
    if network in ("MobileNetV2", "EfficientNetB0", "ConvNeXtTiny"):
        return 0.8
    return 1.05 if (network, method) == ("VGG16", "grad_cam") else 1.0


def measure(*, small: bool = False, networks: Sequence[str] = tuple(NETWORKS), batches: Sequence[int] = (1, 8)) -> dict:
    """Ratios of jaxcam's time over the fastest other library's."""
    if small:
        networks, batches = ("MobileNetV2",), (1,)
    side, repeats = (64, 1) if small else (224, 9)
    ratios, bounds, rows, seconds = {}, {}, [], {}
    for network in networks:
        for batch in batches:
            times = times_of(network, side=side, batch=batch, repeats=repeats if batch == 1 else max(repeats // 2, 1))
            for method in METHODS:
                rivals = times[method].keys() - {"jaxcam"}
                if rivals:
                    fastest = timing.fastest(times[method], sorted(rivals))
                    name = f"{network}, {method}, batch {batch}"
                    ratios[name] = timing.median_ratio(times[method], "jaxcam", fastest)
                    bounds[name] = bound_of(network, method)
            rows += _rows(network, batch, times)
            seconds[f"{network}, batch {batch}"] = {method: timing.summary(times[method]) for method in times}
    header = "| network | batch | library | forward, ms | Grad-CAM | Grad-CAM++ | Smooth Grad-CAM++ |\n" + "|---" * 7
    return {"ratios": ratios, "bounds": bounds, "table": "\n".join([header + "|", *rows]), "seconds": seconds}


def _rows(network: str, batch: int, times: dict[str, dict[str, list[float]]]) -> list[str]:
    """A row for each library: milliseconds of a method, and how many of its own forward passes that is."""
    rows = []
    for library in times["forward"]:
        forward = statistics.median(times["forward"][library])
        cells = [f"{1000 * forward:.1f}"]
        for method in METHODS:
            taken = times[method].get(library)
            median = statistics.median(taken) if taken else 0.0
            cells.append(f"{1000 * median:.1f} ({median / forward:.2f})" if taken else "-")
        rows.append(f"| {network} | {batch} | {library} | " + " | ".join(cells) + " |")
    return rows


def main() -> None:
    """Some networks and batches, printed as they come."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks_beside_the_peers")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    arguments = parser.parse_args()
    for network in arguments.networks:
        measured = measure(networks=[network], batches=arguments.batches)
        print(*(f"{value:8.3f}  {name}" for name, value in measured["ratios"].items()), sep="\n")
        print(measured["table"], flush=True)


if __name__ == "__main__":
    main()
