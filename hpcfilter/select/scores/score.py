"""What a score is: a look at a batch, and what is remembered of it over the epochs. Neither communicates.

torch is imported where there is a batch to look at: what may stand in [score] is known without it.
"""

from typing import ClassVar

from hpcfilter.base.errors import InputError


class Score:
    """What a sample is worth; the default is to look at the loss and to remember the last look.

    The parameters of a score are the keyword-only ones of its constructor: they are the other
    keys of the table [score].
    """

    name, parameters = "", {}
    needs_classes = False  # reads class labels and logits
    needs_features = False  # reads what goes into the model's last linear layer
    needs_batches = False  # is a number of the whole global batch, which the loop supplies
    needs_passes = False  # cannot be taken from training steps, only from passes over a finished network
    warmup = 1  # observations after which the importance is known
    columns: ClassVar = {}  # memory of a sample: name -> (numpy type, value before the first observation)

    def look(self, output, target, losses, features):
        """What is seen of each sample of a batch. output: (b, ...), logits (b, C) with classes; target: (b,)
        int64 with classes; losses: (b,); features: (b, d) or None. Returns a tensor (b,)."""
        return losses

    def remember(self, memory, value):
        """Take over a look at m samples that have not been seen since the last one.

        memory: name -> array (m,) of this score's columns, to be changed in place. value: float32
        (m,), finite. Returns the importance, float32 (m,), higher = more worth training; NaN = not
        known yet, which no policy hides.
        """
        return value

    def identity(self):
        """Name and parameters as one word, for checkpoints."""
        return " ".join([self.name, *(f"{key}={value}" for key, value in sorted(self.parameters.items()))])

    def measure(self, output, target, losses, features=None, classes=True):
        """All that is worth knowing of a batch. Returns name -> tensor (b,): value, NaN where the loss
        is not finite, and with classes confidence and correct."""
        import torch

        output, losses = output.detach(), losses.detach()
        with torch.no_grad():
            value = self.look(output, target, losses, features)
            if value.shape != losses.shape:
                raise InputError(f"score.name: got values of shape {tuple(value.shape)}, expected one per "
                                 f"sample, {tuple(losses.shape)}")
            seen = {"value": value.float().masked_fill(~torch.isfinite(losses), torch.nan)}
            if classes:
                seen["confidence"] = torch.softmax(output, dim=1).gather(1, target[:, None])[:, 0].float()
                seen["correct"] = output.argmax(dim=1) == target
        return seen
