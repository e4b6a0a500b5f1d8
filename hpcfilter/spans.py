"""Many ranks in few words."""


def by_value(values):
    """Say which ranks have which value, equal ones together. values: rank -> value. Returns such as "ranks 0-2, 5: 12; rank 3: 13"."""
    ranks = {}
    for rank in sorted(values):
        ranks.setdefault(values[rank], []).append(rank)
    return "; ".join(f"{spans(those)}{f': {value}' if value != '' else ''}" for value, those in ranks.items())


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
