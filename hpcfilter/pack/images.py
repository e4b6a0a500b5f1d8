"""Image files as rows. Their form is guessed from the first one; when all are read, `settle` knows better."""

import os
from collections import Counter
from pathlib import Path

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.pack.names import listed
from hpcfilter.pack.pictures import KINDS, read_picture

# kinds that can stand beside each other: grey becomes colour, and what has no transparency is opaque
MIXABLE = ("L", "RGB", "RGBA")
TRIED = 100  # files of which one must be readable, so that the form can be guessed


class ImageFiles:
    """Image files as rows (height, width) of one band, or (height, width, 3 or 4) of colours.

    files: names of the images, for a person. size: (height, width) that all are brought to, or None: all must
    be of one size. first_frame: take the first picture of a file that holds several. read: (number) -> the
    bytes of an image, default those of the file of that name. damaged: row -> why it cannot be read, of the
    rows that were read so far; such a row is zeros.
    """

    def __init__(self, files, size=None, first_frame=False, read=None):
        self.files, self._how, self._bytes, self.damaged = files, (size, first_frame), read or self._file, {}
        found = next(filter(None, map(self._read, range(min(len(files), TRIED)))), None)
        if found is None:
            raise InputError(f"{self.damaged[0]}; none of the first {len(self.damaged)} images can be read")
        array, kind, _ = found
        self._expect(kind, array.shape[:2])

    def _expect(self, kind, size):
        """Rows are of this kind and size from now on; what was seen before is forgotten."""
        dtype, bands, _ = KINDS[kind]
        self.dtype, self.shape = np.dtype(dtype), (len(self.files), *size, *([bands] if bands > 1 else []))
        # seen: (kind, size) -> [how many, the first one]
        self._kind, self._seen, self._changes, self.damaged = kind, {}, Counter(), {}

    @property
    def layout(self):
        """HW or HWC."""
        return "HW" if len(self.shape) == 3 else "HWC"

    @staticmethod
    def agree(several):
        """Have several ImageFiles, such as those of two splits, give rows of one kind, where their kinds can
        stand beside each other."""
        kinds = {one._kind for one in several}
        if len(kinds) > 1 and kinds <= set(MIXABLE):
            widest = max(kinds, key=lambda kind: KINDS[kind][1])
            for one in several:
                if one._kind != widest:
                    one._expect(widest, one.shape[1:3])

    def named(self, row):
        """The name of a row for a person."""
        return str(self.files[row])

    def subset(self, index):
        """The images of these numbers, int64 (m,), as an ImageFiles of its own."""
        return ImageFiles([self.files[number] for number in index], *self._how,
                          read=lambda number: self._bytes(index[number]))

    @staticmethod
    def joined(several):
        """The images of several ImageFiles, one behind the other, as one."""
        owner = [(one, number) for one in several for number in range(len(one.files))]
        files = [file for one in several for file in one.files]
        return ImageFiles(files, *several[0]._how,
                          read=lambda number: owner[number][0]._bytes(owner[number][1]))

    def _file(self, number):
        with open(self.files[number], "rb", opener=_at_once) as file:
            return file.read()

    def _read(self, number):
        """(array, kind, changes) of a file; None for one that cannot be read, which is noted."""
        try:
            return read_picture(self._bytes(number), self.files[number], *self._how)
        except InputError as error:
            self.damaged[number] = str(error)
        except OSError as error:
            self.damaged[number] = f"{self.files[number]}: cannot be read: {error.strerror}"
        return None

    def __getitem__(self, rows):
        numbers = range(*rows.indices(len(self.files)))
        array = np.zeros((len(numbers), *self.shape[1:]), self.dtype)
        for place, number in enumerate(numbers):
            if found := self._read(number):
                image, kind, changes = found
                self._seen.setdefault((kind, image.shape[:2]), [0, self.files[number]])[0] += 1
                if changes:
                    self._changes.update(changes)
                image = _widened(image, KINDS[self._kind][1])
                if (image.shape, image.dtype) == (array.shape[1:], array.dtype):
                    array[place] = image
        return array

    def settle(self):
        """After all rows were read: whether they must be read again, since they are of another kind than
        was guessed. Returns bool.

        Raises InputError when they are of several sizes, or of kinds that do not go together.
        """
        where, sizes, kinds = (f"{Path(self.files[0]).parent.parent}: got images", self._counted(1),
                               self._counted(0))
        if len(sizes) > 1:
            named = (f"{count} of {size[1]} x {size[0]} pixels ({Path(first).name})"
                     for size, (count, first) in sizes.items())
            raise InputError(f"{where} of {len(sizes)} sizes: {listed(named)}; "
                             "give --size HEIGHTxWIDTH to bring all to one")
        if len(kinds) > 1 and not set(kinds) <= set(MIXABLE):
            raise InputError(f"{where} of kinds whose values do not mean the same: {self._listed_kinds()}; "
                             "bring all to one kind")
        kind = max([self._kind, *kinds], key=lambda kind: KINDS[kind][1])
        again = kind != self._kind
        if again:
            self._expect(kind, self.shape[1:3])
        return again

    def notes(self):
        """What was done to the images, for a person. Yields str."""
        if len(self._counted(0)) > 1:
            yield f"{self._listed_kinds()} images: all became {KINDS[self._kind][2]}"
        for what, count in self._changes.items():
            yield f"{count} images {what}"

    def _counted(self, part):
        """What was seen by kind (part 0) or size (1), the most common first: kind or size ->
        (how many, the first one)."""
        found = {}
        for key, (count, first) in self._seen.items():
            before = found.get(key[part], (0, first))
            found[key[part]] = before[0] + count, before[1]
        return dict(sorted(found.items(), key=lambda item: -item[1][0]))

    def _listed_kinds(self):
        return listed(f"{count} {KINDS[kind][2]}" for kind, (count, _) in self._counted(0).items())


def _at_once(path, flags):
    """Open a file without waiting, as one would for a pipe that nobody writes to."""
    return os.open(path, flags | os.O_NONBLOCK)


def _widened(image, bands):
    """An image with as many bands: grey three times, no transparency as opaque. Left as it is
    where that does not help."""
    if image.ndim == 2 and bands > 1 and image.dtype == np.uint8:
        image = np.repeat(image[..., None], 3, axis=2)
    if image.ndim == 3 and image.shape[2] == 3 and bands == 4:
        image = np.concatenate([image, np.full_like(image[..., :1], 255)], axis=2)
    return image
