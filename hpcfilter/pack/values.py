"""What the values of an array are, gathered slice by slice: their range, their mean and deviation, and rows
that cannot be trained on."""

import numpy as np

LARGEST = float(np.finfo(np.float32).max)  # training is in float32
BLOCK = 2**17  # values that are looked at together, few enough for a processor's cache
# times its spread that a value may be, so that float32 tells at least a hundred values
# within the spread apart
FEW = 2**17
EXACT = 2**24  # up to which float32 has every whole number


class Values:
    """The range of an array, and its rows with values that are not finite, or not in
    float32. wrong: row -> why."""

    def __init__(self):
        self.lowest, self.highest, self.count, self.not_finite, self.wrong = None, None, 0, 0, {}

    def add(self, values, number):
        """values: (n, ...). number: int64 (n,), their rows in the source."""
        if not values.size:
            return
        self.count += values.size
        low, high = values.min(), values.max()
        if (values.dtype.kind == "f"
                and not (np.isfinite(low) and np.isfinite(high) and -LARGEST <= low and high <= LARGEST)):
            low, high = self._look(values, number)
        if low is not None:
            self.lowest = low.item() if self.lowest is None else min(self.lowest, low.item())
            self.highest = high.item() if self.highest is None else max(self.highest, high.item())

    def _look(self, values, number):
        """Note the wrong rows of a slice. Returns its range without them, or None, None."""
        fine = np.isfinite(values) & (np.abs(values.astype(np.float64)) <= LARGEST)
        self.not_finite += int(np.count_nonzero(~np.isfinite(values)))
        for row, right in zip(number.tolist(), fine.reshape(len(fine), -1), strict=True):
            if not right.all():
                bad = values.reshape(len(fine), -1)[row - number[0]][~right]
                self.wrong[row] = f"{len(bad)} of its {right.size} values are {_called(bad)}"
        return (values[fine].min(), values[fine].max()) if fine.any() else (None, None)

    @property
    def share_not_finite(self):
        """The share of the values that are no finite numbers."""
        return self.not_finite / self.count if self.count else 0.0


def _called(values):
    if np.isnan(values).any():
        return "NaN"
    return "infinite" if np.isinf(values).any() else "beyond float32"


class Moments:
    """Mean and squared deviation per last axis, gathered slice by slice (Chan, Golub, LeVeque 1979,
    the pairwise update)."""

    count, mean, squares = 0, 0.0, 0.0

    def add(self, values):
        """values: (n, channels)."""
        step = max(1, BLOCK // values.shape[1])
        for start in range(0, len(values), step):
            self._add(values[start : start + step].astype(np.float64))

    def _add(self, values):
        count, mean = len(values), values.mean(axis=0)
        total, away = self.count + count, mean - self.mean
        self.squares = (self.squares + ((values - mean) ** 2).sum(axis=0)
                        + away**2 * (self.count * count / total))
        self.mean, self.count = self.mean + away * (count / total), total

    def mean_std(self, each):
        """Mean and standard deviation, as lists: of each channel or feature, else over everything. A constant
        has standard deviation 1."""
        mean, variance = self.mean, self.squares / self.count
        if not each:
            mean, variance = mean.mean(keepdims=True), variance.mean(keepdims=True) + mean.var(keepdims=True)
        return mean.tolist(), np.sqrt(np.where(variance > 0, variance, 1)).tolist()


def say_precision(moments, labels, notes):
    """A word on numbers so large, beside their spread, that float32 tells few of them apart. moments: Moments
    of the rows. labels: Values."""
    mean, std = (np.array(part) for part in moments.mean_std(each=True))
    lost = np.flatnonzero((np.abs(mean) > std * FEW) & (moments.squares > 0))
    if lost.size:
        notes.said.append("images: "
                          f"values around {mean[lost[0]]:.6g} that differ by {std[lost[0]]:.3g}, in column "
                          f"{lost[0]} of the last axis{f' and {lost.size - 1} more' * (lost.size > 1)}: "
                          "training is in float32, which tells few of them apart; subtract a constant first")
    spread = 0 if labels.lowest is None else labels.highest - labels.lowest
    if spread and max(abs(labels.lowest), abs(labels.highest)) > FEW * spread:
        notes.said.append(f"labels: values of {labels.lowest:.10g} to {labels.highest:.10g}: "
                          "training is in float32, which tells few of them apart; subtract a constant first")
