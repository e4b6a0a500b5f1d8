"""A data set whose samples know their index."""


class Indexed:
    """Item i is (i, sample i). first: global index of the data set's first sample."""

    def __init__(self, dataset, first):
        self.dataset, self.first = dataset, first
        if hasattr(dataset, "__getitems__"):  # reads a batch at once
            self.__getitems__ = self._batch

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return index, self.dataset[index - self.first]

    def _batch(self, indices):
        return list(zip(indices, self.dataset.__getitems__([index - self.first for index in indices]),
                        strict=True))
