"""Records as files hold them: columns by their text, and in folders of earlier runs the rows by earlier names."""

from collections.abc import Mapping
from typing import Any

from jaxcam.evaluation._naming import ColumnKey

# Names of controls in folders of earlier runs, and today's. No method can have one of them.
EARLIER_CONTROLS = {"centre Gaussian": "center Gaussian"}


def rows_as_json(rows: Mapping[str, Mapping[str, Mapping[ColumnKey, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """The rows of a record with columns by their text."""
    return {
        method: {label: {str(column): value for column, value in columns.items()} for label, columns in row.items()}
        for method, row in rows.items()
    }


def rows_from_json(rows: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, dict[ColumnKey, Any]]]:
    """The rows of a record that a file holds, controls by today's names.

    Example:
      >>> rows = rows_from_json({"centre Gaussian": {"drop": {"average_drop": 0.5}}})
      >>> rows["center Gaussian"]["drop"]["average_drop"]
      0.5
    """
    return {
        EARLIER_CONTROLS.get(method, method): {
            label: {ColumnKey.parse(column): value for column, value in columns.items()}
            for label, columns in row.items()
        }
        for method, row in rows.items()
    }


def methods_from_json(methods: Mapping[str, Any], run_methods: Mapping[str, Any]) -> dict[str, Any]:
    """The described methods that a run.json records, controls by today's names and descriptions.

    Args:
      methods: by name, as they are recorded.
      run_methods: by name, those of the current run, which always has the controls.
    """
    return {
        EARLIER_CONTROLS.get(name, name): run_methods[EARLIER_CONTROLS[name]] if name in EARLIER_CONTROLS else method
        for name, method in methods.items()
    }
