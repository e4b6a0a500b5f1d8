"""What an epoch of a script has shown on this rank, in training and in looks at hidden samples."""

from hpcfilter.select.home import deliver
from hpcfilter.select.seen import Seen


class Observed:
    """trained, looked: select.seen.Seen. columns: what is kept of each sample. step: batches
    of the epoch so far."""

    def __init__(self, columns):
        self.columns = tuple(columns)
        self.clear()

    def clear(self, trained=None, looked=None):
        """Begin anew. trained, looked: rows to go on from."""
        self.trained, self.looked, self.step = Seen(self.columns, trained), Seen(self.columns, looked), 0

    def train(self, index, columns, real):
        """A batch that was trained. Arguments as of Seen.add."""
        self.trained.add(index, self.step, columns, real)
        self.step += 1

    def refresh(self, index, columns):
        """A batch that was only looked at."""
        self.looked.add(index, self.step, columns)

    def state(self):
        """Everything as name -> array (m,), "trained.NAME" and "looked.NAME"."""
        kinds = {"trained": self.trained, "looked": self.looked}
        return {f"{kind}.{name}": array for kind, seen in kinds.items()
                for name, array in seen.rows().items()}

    def restore(self, state, shards, comm):
        """Put back what all ranks' `state` gave, cut anywhere; each row goes to the rank that owns its
        sample. All ranks must call."""
        kinds = []
        for kind in ("trained.", "looked."):
            rows = {name.removeprefix(kind): array for name, array in state.items() if name.startswith(kind)}
            index, columns = deliver(rows.pop("index"), rows, shards, comm)
            kinds.append({"index": index, **columns})
        self.clear(*kinds)
        self.step = int(comm.max(kinds[0]["step"].max(initial=-1))) + 1
