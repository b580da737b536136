"""Descriptions in a `run.json` that an earlier jaxcam wrote, as this one describes the same functions.

jaxcam was one folder of files once, and a function was described by its file. Most of those names are today's public
names. These are the others.

    >>> in_todays_names({"name": "jaxcam.composition.gradient_cam", "weigh": "jaxcam.weights.xgrad_cam"})
    {'name': 'jaxcam.methods.gradient_cam', 'weigh': 'jaxcam.weights.xgrad_cam'}
"""

from typing import Any

# A file of the flat folder, and the public module that has its functions now.
MOVED_FILES = {
    "averages": "methods",
    "batches": "runtime",
    "challenges": "datasets",
    "composition": "methods",
    "cut": "cutting",
    "diagnosis": "analysis",
    "examples": "datasets",
    "faithfulness": "metrics",
    "growing": "perturbations",
    "imputation": "perturbations",
    "labels": "datasets",
    "linearity": "certificate",
    "localisation": "metrics",
    "measures": "evaluation",
    "pixels": "methods",
    "randomisation": "metrics",
    "removal": "metrics",
    "validation": "analysis",
}
# Functions that did not move with their file, or have another name now.
MOVED_FUNCTIONS = {
    "__main__._fitted": "opening.read_fitted",
    "cli.read_fitted": "opening.read_fitted",
    "controls.centre_gaussian": "controls.center_gaussian",
    "maps.saliency": "maps.weighted_sum",
    "faithfulness.as_mask": "perturbations.as_mask",
    "faithfulness.masked": "perturbations.masked",
    "localisation.found": "metrics.copies_found",
    "randomisation.model_randomisation": "metrics.model_randomization",
    "randomisation.randomised": "metrics.randomized",
}


def in_todays_names(recorded: Any) -> Any:
    """A recorded description, or all of a `run.json`, with the names that functions of jaxcam have now."""
    if isinstance(recorded, str):
        return _todays_name(recorded)
    if isinstance(recorded, dict):
        return {name: in_todays_names(value) for name, value in recorded.items()}
    if isinstance(recorded, list) and recorded and isinstance(recorded[0], str) and recorded[0] in MADE_BY_A_CALL:
        return in_todays_names(MADE_BY_A_CALL[recorded[0]](recorded))
    return [*map(in_todays_names, recorded)] if isinstance(recorded, list) else recorded


def _todays_name(name):
    package, _, path = name.partition(".")
    file, _, function = path.partition(".")
    if package != "jaxcam" or not function:
        return name
    return "jaxcam." + MOVED_FUNCTIONS.get(path, f"{MOVED_FILES.get(file, file)}.{function}")


# Functions that a call makes were described as [name, digest of the code, defaults and closure variables, ...].


def _call_of_select(description):
    _, _, filters, region, subset, *_ = description
    return {"name": "jaxcam.maps.select", "filters": filters, "region": region, "subset": subset}


def _call_of_average_maps(description):
    _, _, _, (_, averaged), *_ = description
    _, _, *defaults_and_variables = averaged
    _, method, statistic = defaults_and_variables[8:11]
    return {"name": "jaxcam.methods.average_maps", "arguments": [method], "statistic": statistic}


MADE_BY_A_CALL = {
    "jaxcam.maps._select.<locals>.choose": _call_of_select,
    "jaxcam.averages._average_maps.<locals>.averaged": _call_of_average_maps,
}
