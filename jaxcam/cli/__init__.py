"""The command line, a file for each command."""

from jaxcam.cli._main import main as main
