"""The two ways in which hpcfilter refuses to go on."""


class InputError(Exception):
    """Bad input of the user: one line that says what, got, expected and where. The command line exits with 2.

    shared: all ranks raise it together (`comm.together`), so that they can leave in order; else the job must be aborted.
    """

    shared = False


def on_all(message):
    """The InputError of a mistake that every rank sees alike, from equal numbers. Returns it, to be raised."""
    error = InputError(message)
    error.shared = True
    return error


class BrokenInvariant(Exception):
    """A law of the house failed at run time (counts that do not add up, ranks that disagree): never the user's fault."""
