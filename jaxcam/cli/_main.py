"""The entry point: the parser of all commands, the dispatch to one of them, and the exit codes.

jaxcam                        the demo: explain a photograph of a cat, as a picture; --digits explains a canvas
jaxcam explain IMAGE...       explain your own pictures
jaxcam caption IMAGE          say which digits are where, with a map of each word
jaxcam ask IMAGE QUESTION     answer a question about digits, with a map of each answer
jaxcam compare A B IMAGE...   draw the maps of two networks, or of two layers, beside each other
jaxcam batch FOLDER           save the maps of all pictures in a folder as arrays; a stopped run can be resumed
jaxcam evaluate DATA          compare methods and controls on labeled images: tables, curves, where methods differ
jaxcam diagnose               report what is known about a map before it is drawn
jaxcam validate               compare the closed form with the exact derivatives, as a table and a picture
jaxcam layers                 list the layers at which the network can be cut
jaxcam segment IMAGE          the mask of each digit of a canvas, and a map of each mask
jaxcam detect IMAGE           the boxes of the digits of a canvas, and a map of each box
jaxcam watch CLIP             the motion in a clip, and its map over the frames
jaxcam serve                  a web page on which pictures are explained
jaxcam study IMAGE...         write a page on which people judge maps, and read their answers

The network is EfficientNet-Lite0 with ImageNet weights, and for validate the embedded one for digits. --model takes any
other: one of jaxcam's, an application of Keras, a .keras or .h5 file, or module:function.

>>> options = build_parser().parse_args(["explain", "cat.png", "--subset", "0,0 4,4"])
>>> options.command, options.images, options.subset
('explain', ['cat.png'], [(0, 0), (4, 4)])
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from jaxcam.cli import (
    _ask,
    _batch,
    _caption,
    _compare,
    _demo,
    _detect,
    _diagnose,
    _evaluate,
    _explain,
    _layers,
    _segment,
    _serve,
    _study,
    _validate,
    _watch,
)
from jaxcam.cli._compiled_programs import keep_compiled_programs
from jaxcam.cli._interrupts import ended_by_ctrl_c
from jaxcam.cli._output import FAILURE, one_line, print_error

# In the order of the help text.
COMMANDS = (
    _explain, _caption, _ask, _segment, _detect, _watch, _compare, _batch, _evaluate, _diagnose, _validate, _layers,
    _serve, _study,
)  # fmt: skip
RESUMABLE = ("batch", "evaluate")
USER_ERRORS = (OSError, ValueError, TypeError, OverflowError)

INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that prints an error as one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Print the error and exit."""
        self.exit(FAILURE, f"{self.prog}: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands. The parsed options hold the command's name, `command`, and its function, `run`."""
    parser = OneLineParser(prog="jaxcam", description="Class activation maps: what a network looks at.")
    _demo.add_options(parser)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def _with_signed_values(arguments: Sequence[str]) -> list[str]:
    """The words with `--preprocess -1..1` as one, because argparse takes -1..1 for an option."""
    words: list[str] = []
    for word in arguments:
        if words and words[-1] == "--preprocess" and word.startswith("-1"):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
      arguments: the words of the command line; defaults to those of the process.

    Returns:
      The exit code: 0, 2 for any mistake that the user can correct, or 130 for an interrupt.
    """
    if arguments is None:  # a process of its own: no setting of a caller is changed
        keep_compiled_programs()
    options = build_parser().parse_args(_with_signed_values(sys.argv[1:] if arguments is None else arguments))
    stopped = "stopped; run the same command again to resume" if options.command in RESUMABLE else None
    # The web page's server has a handler of its own.
    has_own = arguments is not None or options.command == "serve"
    watched = contextlib.nullcontext() if has_own else ended_by_ctrl_c(INTERRUPTED, stopped and f"jaxcam: {stopped}")
    try:
        with watched:
            return options.run(options)
    except USER_ERRORS as error:
        print_error(one_line(error))
        return FAILURE
    except KeyboardInterrupt:
        if stopped:
            print_error(stopped)
        return INTERRUPTED
