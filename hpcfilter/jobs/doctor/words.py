"""Which ranks have what, in few words, however many ranks there are."""

from itertools import islice

from hpcfilter.base.spans import MOST, by_value, spans

LONG = 400  # characters, after which ranks are counted, not named


def numbers(values):
    """Name numbers. values: sorted ints, at least one. Returns such as "0-2, 5"."""
    return spans(values).partition(" ")[2]


def say(values):
    """Say which ranks have which value. values: rank -> text. Returns such as "rank 0: a; ranks 1-3: b",
    "" when there are none."""
    if len(text := by_value(values)) <= LONG:
        return text
    ranks = {}
    for rank in sorted(values):
        ranks.setdefault(values[rank], []).append(rank)
    parts = [f"{len(those)} ranks, first {those[0]}{f': {value}' if value else ''}"
             for value, those in islice(ranks.items(), MOST)]
    return "; ".join(parts + [f"and {len(ranks) - MOST} values more"] * (len(ranks) > MOST))


def where(ranks, look):
    """Say what `look` finds on which ranks. ranks: the facts of each. look: facts -> text,
    or None for nothing."""
    return say({rank: text for rank, facts in enumerate(ranks) if (text := look(facts)) is not None})


def across(ranks, look):
    """As `where`, but without the ranks when all say the same."""
    found = {text for facts in ranks if (text := look(facts)) is not None}
    return found.pop() if len(found) == 1 else where(ranks, look)
