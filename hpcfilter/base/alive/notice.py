"""Notice to leave: signals and the deadline of the job only set a flag, which the training loop
looks at between two steps.

Nothing is ever saved inside a signal handler: half of a step may be done, and MPI may be at work.
"""

import math
import os
import signal
import time

from hpcfilter.base.errors import InputError
from hpcfilter.base.names import meant

SIGNALS = ("USR1", "USR2", "TERM")
# that can be caught
NAMES = tuple(one.name.removeprefix("SIG")
              for one in signal.Signals if one not in (signal.SIGKILL, signal.SIGSTOP))
CTRL_C = "Ctrl-C"  # the reason of a person, where a job has others
DEADLINE = "HPCFILTER_DEADLINE"  # seconds since 1970, when the ranks are to leave

_previous = {}  # signal name -> the handler that was there before
_received = ""  # the reason to leave, in words


def listen(names=SIGNALS, interrupt=False):
    """Take these signals as notice to leave, in place of those listened to so far. names: such as "USR1"; ()
    ends it and forgets what came.

    interrupt: take the first Ctrl-C as notice, too; a second one is a KeyboardInterrupt, as
    is the first without it.
    """
    global _received  # noqa: PLW0603  a signal handler has nowhere else to put it
    handlers = dict.fromkeys(names, _receive)
    # as in the background of a shell
    if interrupt and _previous.get("INT", signal.getsignal(signal.SIGINT)) != signal.SIG_IGN:
        handlers.setdefault("INT", _interrupt)
    for name in set(_previous) - set(handlers):
        # None: a handler that is not Python's
        signal.signal(_number(name), _previous.pop(name) or signal.SIG_DFL)
    for name, handler in handlers.items():
        before = signal.signal(_number(name), handler)
        _previous.setdefault(name, before)
    if not names:
        _received = ""  # the reason to leave, in words


def end_at_once():
    """After a Ctrl-C that has ended the work: another one ends what is left of this process,
    without a word."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    _previous.setdefault("INT", before)


def ignore():
    """Nothing is left that a notice could end: not even the default action, while MPI and the
    interpreter are being closed."""
    for name in _previous:
        signal.signal(_number(name), signal.SIG_IGN)


def reason():
    """Why this process is to leave, in words; "" while it may stay."""
    if _received:
        return _received
    return "the deadline" if time.time() >= deadline() else ""


def deadline(environ=os.environ):
    """The deadline of the job, seconds since 1970; infinite without one. Raises InputError when
    HPCFILTER_DEADLINE is no number."""
    text = environ.get(DEADLINE) or "inf"
    try:
        seconds = float(text)
        if math.isnan(seconds):
            raise ValueError
        return seconds
    except ValueError:
        raise InputError(f"{DEADLINE}: got '{text}', expected seconds since 1970, such as $(( $(date +%s) "
                         "+ 3000 ))") from None


def can_be_caught(name):
    """Whether this is the name of a signal that a process can catch."""
    number = _number(name)
    return isinstance(number, signal.Signals) and number not in (signal.SIGKILL, signal.SIGSTOP)


def likely(name):
    """"; did you mean 'USR1'?" for a name that is no signal at all, such as SIGUSR1 or URS1, else ""."""
    return "" if _number(name) else meant(name.removeprefix("SIG"), NAMES)


def _number(name):
    return getattr(signal, f"SIG{name}", None)


def _receive(number, frame):
    global _received  # noqa: PLW0603
    _received = f"signal {signal.Signals(number).name.removeprefix('SIG')}"


def _interrupt(number, frame):
    global _received  # noqa: PLW0603
    if _received == CTRL_C:
        raise KeyboardInterrupt
    _received = CTRL_C
