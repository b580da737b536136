"""What is read of a study: its key, and the files of answers."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxcam.analysis._study_forms import QUESTIONS

CHANGED_KEY = "expected the key of a study, as jaxcam study wrote it, got one that was changed"


def check_key(key: Mapping[str, Any]) -> None:
    """Raises a ValueError if a key is not one that `jaxcam.analysis.preferences.make_study` made."""
    try:
        choices, sources, _ = key["choices"], key["sources"], key["study"]
        is_key = bool(choices) and all(choices.values())
        for question in key["questions"].values():
            sides = [question["source"]] if question["kind"] == "class" else [question["left"], question["right"]]
            is_known = question["kind"] in QUESTIONS and question["picture"] in choices and "target" in question
            is_key = is_key and is_known and all(side in sources for side in sides)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(CHANGED_KEY) from error
    if not is_key:
        raise ValueError(CHANGED_KEY)


def record_in(path: pathlib.Path, key: Mapping[str, Any]) -> dict[str, Any]:
    """The participant and the answers in a file that the page of this study saved.

    Raises:
      OSError: the file cannot be read.
      ValueError: it is no file of answers, or belongs to another study.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        study, participant, answers = record["study"], record["participant"], record["answers"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no file of answers that a page of jaxcam saved") from error
    if study != key["study"]:
        raise ValueError(f"{path} has answers to the study {study}, and the key is that of {key['study']}")
    if isinstance(participant, bool) or not isinstance(participant, int) or not isinstance(answers, dict):
        raise ValueError(f"{path} is no file of answers that a page of jaxcam saved")
    return record
