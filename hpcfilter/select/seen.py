"""What training shows of samples, batch by batch, on its way home to their owners."""

import numpy as np

# name -> (type, what stands for: not observed)
COLUMNS = {"value": (np.float32, np.nan), "loss": (np.float32, np.nan), "confidence": (np.float32, np.nan),
           "correct": (np.bool_, False)}


class Seen:
    """Observations of many batches, kept on the device until they are wanted: no wait for the
    device in every step."""

    def __init__(self, names, before=None):
        """names: of COLUMNS, which every batch has. before: what `rows` gave when it was put away."""
        self._names, self._batches = tuple(names), []
        self._before = before or {}

    def add(self, index, step, columns, real=None):
        """Take a batch. index: int64 (b,). step: in which batch of the epoch. columns: name -> tensor (b,).
        real: bool (b,), False for a sample that only stood in and is not observed; None for all."""
        self._batches.append((index, step, real, [columns[name].detach() for name in self._names]))

    def __len__(self):
        """Batches since it was made."""
        return len(self._batches)

    def rows(self):
        """All that was observed, in the order of the batches. Returns name -> array (m,): index and step
        int64, and the columns."""
        index, steps, columns = self._now()
        before = {name: np.asarray(self._before.get(name, []), dtype)
                  for name, dtype in self._types().items()}
        return {name: np.concatenate([before[name], array]).astype(before[name].dtype)
                for name, array in {"index": index, "step": steps, **columns}.items()}

    def _types(self):
        return {"index": np.int64, "step": np.int64, **{name: COLUMNS[name][0] for name in self._names}}

    def _now(self):
        """(index, steps, columns) of the batches that came since it was made."""
        if not self._batches:
            return [], [], {name: [] for name in self._names}
        import torch

        real = np.concatenate([np.ones(len(index), bool) if real is None else real
                               for index, _, real, _ in self._batches])
        index = np.concatenate([index for index, *_ in self._batches])
        steps = np.concatenate([np.full(len(index), step) for index, step, *_ in self._batches])
        columns = {name: torch.cat([tensors[number] for *_, tensors in self._batches]).cpu().numpy()
                   for number, name in enumerate(self._names)}
        return index[real], steps[real], {name: array[real] for name, array in columns.items()}
