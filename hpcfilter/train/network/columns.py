"""What is observed of the samples, batch by batch."""

import numpy as np
import torch

_TYPES = {"value": np.float32, "loss": np.float32, "confidence": np.float32, "correct": np.bool_}


class Columns:
    """Observations of many batches, kept on the device until they are wanted: no wait for the device in every step."""

    def __init__(self, classes, before=None):
        """classes: whether the targets are classes. before: name -> array, what `arrays` gave when it was put away."""
        self._before = before or {}
        self._parts = {name: [] for name in ("loss", "value", *(("confidence", "correct") if classes else ()))}

    def add(self, seen, losses):
        """seen: name -> tensor (b,), as `Network.observe` gives it. losses: tensor (b,)."""
        for name, tensor in {**seen, "loss": losses}.items():
            self._parts[name].append(tensor.detach())

    def arrays(self):
        """(observations: name -> numpy (m,), losses float32 (m,)), in the order of the batches."""
        columns = {}
        for name, parts in self._parts.items():
            now = [torch.cat(parts).cpu().numpy()] if parts else []
            columns[name] = np.concatenate([np.asarray(self._before.get(name, []), _TYPES[name]), *now]).astype(_TYPES[name])
        losses = columns.pop("loss")
        return columns, losses
