"""Many ranks in few words."""

from itertools import islice

MOST = 10  # values that are told apart in one line


def by_value(values):
    """Say which ranks have which value, equal ones together, at most MOST values. values: rank -> value.
    Returns such as "ranks 0-2, 5: 12; rank 3: 13"."""
    ranks = {}
    for rank in sorted(values):
        ranks.setdefault(values[rank], []).append(rank)
    parts = [f"{spans(those)}{f': {value}' if value != '' else ''}"
             for value, those in islice(ranks.items(), MOST)]
    return "; ".join(parts + [f"and {len(ranks) - MOST} values more"] * (len(ranks) > MOST))


def spans(ranks):
    """Name ranks. ranks: sorted ints, at least one. Returns such as "rank 3" or "ranks 0-2, 5"."""
    runs = []
    for rank in ranks:
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    text = ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
    return f"rank {text}" if len(ranks) == 1 else f"ranks {text}"
