"""The parser of command lines: its refusals are ours, and it says which name may be meant. What several verbs
share: the types of options, `--set`, and how they print."""

import argparse
import os
import re
import sys

from hpcfilter.base.errors import InputError
from hpcfilter.base.names import meant
from hpcfilter.base.paths import expanded


class Parser(argparse.ArgumentParser):
    """As argparse has it, but a mistake is an InputError of one line, and the examples of a verb keep their
    lines."""

    _words = ()  # that are being parsed

    def __init__(self, **about):  # of the command and of each verb
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **about)
        self.add_argument("--traceback", action="store_true", default=argparse.SUPPRESS,
                          help="show where in the code an error comes from, too")

    def error(self, message):
        """Refuse. An option that nobody knows may be why another is missing."""
        names = [word.partition("=")[0] for word in self._words]
        strange = [name for name in names if name.startswith("--")
                   and not any(known.startswith(name) for known in self._option_string_actions)]
        hint = next(filter(None, (meant(name, self._option_string_actions) for name in strange)), "")
        raise InputError(f"{message}{f' (got {strange[0]})' if hint and strange[0] not in message else ''}"
                         f"{hint}; see: {self.prog} --help")

    def parse_known_args(self, args=None, namespace=None):
        """As argparse has it, but what is left over is refused here, where the options of the verb are
        known."""
        self._words = list(args or ())
        namespace, left = super().parse_known_args(args, namespace)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}")
        return namespace, left

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(
                action, f"invalid choice: {value!r}; known: {', '.join(action.choices)}"
                f"{meant(f'--{value}', self._option_string_actions) or meant(value, action.choices)}")


def add_settings(parser):
    """Add `--set`, of the verbs that read a run config, to a parser."""
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=VALUE",
                        help="override one key of the run config (see: hpcfilter explain --config)")


def shown(show, words):
    """Call `show`, which prints. When nobody reads on, as behind `| head`, what is left goes nowhere, also
    when Python flushes at its end."""
    try:
        show(words)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def path(text):
    """The type of every option that is a path: `~` and variables are expanded, a slash at the end stays. An
    empty one is refused."""
    try:
        if not (text and expanded(text)):
            raise ValueError("expected a path; is a variable in it empty?")
        return expanded(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"got {text!r}, {error}") from None


def number(text, digits=6):
    """A whole number from 1 on."""
    if not re.fullmatch(rf"[1-9][0-9]{{0,{digits - 1}}}", text):
        raise argparse.ArgumentTypeError(f"got '{text}', expected a number from 1 on")
    return int(text)


def numbers(text):
    """Several of them, with commas between, each once."""
    found = [number(part) for part in text.split(",")]
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"got '{text}', expected each number once")
    return found


def whole(text):
    """A whole number."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"got '{text}', expected a whole number")
    return int(text)


def real(text):
    """A number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got '{text}', expected a number") from None


def share(text):
    """A share of 1, above 0."""
    try:
        if 0 < float(text) <= 1:
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"got '{text}', expected a share of 1, such as 0.92")
