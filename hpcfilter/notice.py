"""Notice to leave: signals and the deadline of the job only set a flag, which the training loop looks at between two steps.

Nothing is ever saved inside a signal handler: half of a step may be done, and MPI may be at work.
"""

import math
import os
import signal
import time

from hpcfilter.errors import InputError

SIGNALS = ("USR1", "USR2", "TERM")
DEADLINE = "HPCFILTER_DEADLINE"  # seconds since 1970, when the ranks are to leave

_previous = {}  # signal name -> the handler that was there before
_received = ""


def listen(names=SIGNALS):
    """Take these signals as notice to leave, in place of those listened to so far. names: such as "USR1"; () ends it and forgets what came."""
    global _received  # noqa: PLW0603  a signal handler has nowhere else to put it
    for name in set(_previous) - set(names):
        signal.signal(_number(name), _previous.pop(name) or signal.SIG_DFL)  # None: a handler that is not Python's
    for name in names:
        if name not in _previous:
            _previous[name] = signal.signal(_number(name), _receive)
    if not names:
        _received = ""


def ignore():
    """Nothing is left that a notice could end: not even the default action, while MPI and the interpreter are being closed."""
    for name in _previous:
        signal.signal(_number(name), signal.SIG_IGN)


def reason():
    """Why this process is to leave, in words; "" while it may stay."""
    if _received:
        return f"signal {_received}"
    return "the deadline" if time.time() >= deadline() else ""


def deadline(environ=os.environ):
    """The deadline of the job, seconds since 1970; infinite without one. Raises InputError when HPCFILTER_DEADLINE is no number."""
    text = environ.get(DEADLINE) or "inf"
    try:
        seconds = float(text)
        if math.isnan(seconds):
            raise ValueError
        return seconds
    except ValueError:
        raise InputError(f"{DEADLINE}: got '{text}', expected seconds since 1970, such as $(( $(date +%s) + 3000 ))") from None


def can_be_caught(name):
    """Whether this is the name of a signal that a process can catch."""
    number = _number(name)
    return isinstance(number, signal.Signals) and number not in (signal.SIGKILL, signal.SIGSTOP)


def _number(name):
    return getattr(signal, f"SIG{name}", None)


def _receive(number, frame):
    global _received  # noqa: PLW0603
    _received = signal.Signals(number).name.removeprefix("SIG")
