"""List the benchmarks, or run those that are named, or all.

python -m benchmarks                                       lists them with the claim of each
python -m benchmarks smoothing_costs_its_forward_passes    runs one
python -m benchmarks all --json benchmarks/results         runs all, and keeps the results
python -m benchmarks table                                 prints the kept results, claim by claim, as Markdown
"""

import argparse
import importlib
import json
import pathlib
import sys

from benchmarks import peers, table, timing

HERE = pathlib.Path(__file__).parent
NOT_BENCHMARKS = (
    "__init__", "__main__", "fault_kinds", "faulted", "many_canvases", "one_library", "peers", "resnets", "table",
    "timing", "torch_vgg",
)  # fmt: skip
NAMES = sorted(file.stem for file in HERE.glob("*.py") if file.stem not in NOT_BENCHMARKS)


def main():
    """Parse, run, print ratios first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Each script proves one claim.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="all, table, or any of those listed without a name")
    parser.add_argument("--small", action="store_true", help="small sizes: that it runs, not what it shows")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FOLDER", help="print JSON, or write FOLDER/NAME.json for each"
    )
    arguments = parser.parse_args()
    if not arguments.names:
        for name in NAMES:
            print(f"{name}\n    {(importlib.import_module(f'benchmarks.{name}').__doc__ or '').splitlines()[0]}")
        return
    if arguments.names == ["table"]:
        print(table.markdown(table.kept()))
        return
    unknown = set(arguments.names) - {*NAMES, "all"}
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: choose all, or of {', '.join(NAMES)}")
    missing = []
    for name in NAMES if "all" in arguments.names else arguments.names:
        script = importlib.import_module(f"benchmarks.{name}")
        try:
            measured = script.measure(small=arguments.small)
        except peers.Missing as error:
            missing.append(f"{name}: {error}")
            continue
        found = {"claim": (script.__doc__ or "").splitlines()[0], **measured, "machine": timing.machine()}
        report(name, found, arguments.json)
    if missing:
        sys.exit("\n".join(missing))


def report(name, found, where):
    """As text, as JSON, or into a file that is moved to its place when whole."""
    if where == "-":
        print(json.dumps({"benchmark": name, **found}))
        return
    print(f"{name}\n  {found['claim']}")
    for ratio, value in found["ratios"].items():
        print(f"  {value:8.3f}  {ratio}")
    if "table" in found:
        print("\n" + found["table"])
    if where is not None:
        folder = pathlib.Path(where)
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f".{name}.json"
        beside.write_text(json.dumps(found, indent=2) + "\n")
        beside.replace(folder / f"{name}.json")


if __name__ == "__main__":
    main()
