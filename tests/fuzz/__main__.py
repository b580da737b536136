"""`python -m tests.fuzz --calls 10000`: fuzzed calls, their counts, and how to repeat those that went wrong."""

import argparse
import os
import sys

# Compiling takes most of the time: unoptimized, it takes half.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")


def print_wrong(number, outcome):
    if outcome.verdict == "WRONG":
        print(f"call {number}: {outcome.detail}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--call", type=int, help="the number of one call to repeat")
    parser.add_argument("--part", default="1/1", help="2/4: the second quarter of the signatures")
    arguments = parser.parse_args()

    from tests.fuzz import calls, signatures

    if arguments.call is not None:
        call, outcome = calls.run(arguments.seed, arguments.call)
        print(call, outcome.verdict, outcome.detail, sep="\n")
        return outcome.verdict == "WRONG"
    part, parts = map(int, arguments.part.split("/"))
    count = len(signatures.SIGNATURES)
    chosen = {i for i in range(count) if i * parts // count == part - 1}
    numbers = [number for number in range(arguments.calls) if number % count in chosen]
    numbers.sort(key=lambda number: number % count)  # one signature after another
    report = calls.run_many(numbers, seed=arguments.seed, progress=print_wrong)
    print(report)
    if report.wrong:
        print(f"repeat one with: python -m tests.fuzz --seed {arguments.seed} --call NUMBER", file=sys.stderr)
    return bool(report.wrong)


if __name__ == "__main__":
    sys.exit(main())
