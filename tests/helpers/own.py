"""Mistakes of a user's own code, as runs meet them."""

from hpcfilter.cli import main


def own(name):
    """A table [model] for one of the mistakes."""
    return {"model": {"name": None, "width": None, "factory": f"mistakes:{name}"}}


def refused(words, capsys, *parts):
    """Have a command refused in one line that has these parts."""
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in parts) and error.count("\n") == 1, error
