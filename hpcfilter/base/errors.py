"""The ways in which hpcfilter refuses to go on."""


class Refusal(Exception):
    """One line that says what, got, expected and where; the command line shows it without a
    traceback and exits with `code`.

    shared: all ranks raise it together (`comm.together`), so that they can leave in order; else the job must
    be aborted. trace: its traceback on the rank that has raised it, where `comm.together` has passed it on.
    """

    code = 1
    shared = False
    trace = ""


class InputError(Refusal):
    """Bad input of the user."""

    code = 2


class OwnCode(InputError):
    """The user's own code (a model, a loss, ...) fails, or is not what is expected of it."""


class Failure(Refusal):
    """The surroundings fail: a full disk, a folder that cannot be written."""


class Interrupted(Refusal):
    """Ctrl-C: somebody ends the work. The line says what is left of it."""

    code = 130  # as of a process that the signal has ended


def on_all(message, kind=InputError):
    """The refusal that every rank meets alike, from equal numbers. Returns it, to be raised."""
    error = kind(message)
    error.shared = True
    return error


class BrokenInvariant(Exception):
    """A law of the house failed at run time (counts that do not add up, ranks that disagree):
    never the user's fault."""
