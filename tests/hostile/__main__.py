"""`python -m tests.hostile --files 100000`: mutated files, their counts, and how to repeat those that went wrong."""

import argparse
import pathlib
import sys

from tests.hostile import run
from tests.hostile.mutations import mutated


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=pathlib.Path, default=pathlib.Path("build/hostile.json"), metavar="FILE")
    parser.add_argument("--file", type=int, metavar="NUMBER", help="write one mutated file to the current folder")
    arguments = parser.parse_args()
    if arguments.file is not None:
        name, chosen, data = mutated(arguments.file, arguments.seed)
        path = pathlib.Path(f"file{arguments.file}{chosen.suffix}")
        path.write_bytes(data)
        print(f"{path}: {name}, for the reader {chosen.reader}")
        return 0

    def show(counts):
        print({name: value for name, value in counts.items() if name != "bad"}, file=sys.stderr, flush=True)

    counts = run.run(arguments.files, seed=arguments.seed, state=arguments.state, progress=show)
    for number, name, verdict, why in counts.pop("bad"):
        last = (why.strip().splitlines() or [""])[-1]
        print(f"file {number}: {name}: {verdict}: {last:.200}", file=sys.stderr)
    print(", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                    for name, value in counts.items()))  # fmt: skip
    return any(counts[verdict] for verdict in run.BAD)


if __name__ == "__main__":
    sys.exit(main())
