"""The kept results as Markdown: claim by claim, what was measured, the bound, whether it is met; machine by machine."""

import json
import pathlib
from collections.abc import Mapping

RESULTS = pathlib.Path(__file__).parent / "results"


def kept(folder: pathlib.Path = RESULTS) -> dict[str, dict]:
    """The results in a folder by the benchmark's name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))}


def markdown(results: Mapping[str, dict]) -> str:
    """One table for each machine, under its description; what has no bound stands beside as it is."""
    machines: dict[str, list[str]] = {}
    for name, found in results.items():
        rows = machines.setdefault(described(found["machine"]), [])
        for number, (ratio, value) in enumerate(found["ratios"].items()):
            claim = f"`{name}`: {found['claim']}" if number == 0 else ""
            rows.append(f"| {claim} | {ratio} | {value:.3g} | " + " | ".join(verdict(found, ratio, value)) + " |")
    header = "| claim | ratio | measured | bound | met |\n|---|---|---|---|---|\n"
    return "\n\n".join(f"{machine}:\n\n{header}" + "\n".join(rows) for machine, rows in machines.items())


def verdict(found: Mapping, ratio: str, value: float) -> tuple[str, str]:
    """The bound of a ratio, and whether it is met. A bound is for the ratios whose names end as its own does."""
    for name, bound in found.get("at least", {}).items():
        if ratio.endswith(name):
            return f"at least {bound:g}", "yes" if value >= bound else "**no**"
    for name, bound in {**found.get("bounds", {}), **({"": found["bound"]} if "bound" in found else {})}.items():
        if ratio.endswith(name):
            return f"at most {bound:g}", "yes" if value <= bound else "**no**"
    return "", ""


def described(machine: Mapping) -> str:
    """A machine's description in a line."""
    return ", ".join(f"{name} {value}" for name, value in machine.items())
