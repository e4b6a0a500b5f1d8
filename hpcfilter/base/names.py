"""Names from a closed list: what is meant by one that is not in it."""

import difflib


def meant(name, known):
    """"; did you mean 'X'?" for the known name that is most like `name`, else "".
    known: iterable of strings."""
    folded = {each.casefold(): each for each in known}
    found = difflib.get_close_matches(str(name).casefold(), list(folded), n=1, cutoff=0.67)
    return f"; did you mean '{folded[found[0]]}'?" if found else ""


def unknown(name, known):
    """The words of a refusal: the name, all that are known, in this order, and the one that may be meant.
    known: iterable of strings."""
    return f"unknown '{name}'; known: {', '.join(known)}{meant(name, known)}"
