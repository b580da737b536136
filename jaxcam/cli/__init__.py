"""The command line: a file for each command, and the report that `jaxcam evaluate` writes."""

from jaxcam.cli._main import main as main
from jaxcam.cli._method_texts import parse_methods as parse_methods
from jaxcam.cli._method_texts import parse_metrics as parse_metrics
from jaxcam.cli._report import estimates_of as estimates_of
from jaxcam.cli._report import write_report as write_report
