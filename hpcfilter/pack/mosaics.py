"""Images kept as JPEG mosaics in an HDF5 file, as our CIFAR-10 is."""

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.data.distrust import damage
from hpcfilter.pack.pictures import open_picture


class Mosaics:
    """Images of 32 x 32 pixels kept as JPEG mosaics, 25 rows of 40 each: the bytes `mosaics` end
    to end, cut at `offsets`.

    mosaics: array-like uint8 (bytes,). offsets: int (mosaics + 1,). rows: how many images
    there are. where: for errors.
    """

    ROWS, COLUMNS, TILE = 25, 40, 32
    chunk_rows = ROWS * COLUMNS

    def __init__(self, mosaics, offsets, rows, where):
        self._bytes, self._offsets, self._where = mosaics, np.asarray(offsets), where
        self.shape, self.dtype = (rows, self.TILE, self.TILE, 3), np.dtype(np.uint8)
        count = -(-rows // self.chunk_rows)
        got = (mosaics.dtype, len(mosaics.shape), self._offsets.dtype.kind in "ui", self._offsets.shape)
        if got != (np.uint8, 1, True, (count + 1,)):
            raise InputError(f"{where}: got {mosaics.dtype} of shape {mosaics.shape}, "
                             f"{self._offsets.dtype} offsets of shape {self._offsets.shape}, "
                             f"expected bytes and {count + 1} integers for {rows} images")
        if (self._offsets[0] < 0 or self._offsets[-1] > mosaics.shape[0]
                or (self._offsets[1:] <= self._offsets[:-1]).any()):
            raise InputError(f"{where}: expected offsets that grow, from 0 to {mosaics.shape[0]} at most")

    def __getitem__(self, rows):
        first, last = rows.start // self.chunk_rows, -(-rows.stop // self.chunk_rows)
        images = np.concatenate([self._decode(number) for number in range(first, last)])
        return images[rows.start - first * self.chunk_rows : rows.stop - first * self.chunk_rows]

    def _decode(self, number):
        where, size = f"{self._where}: mosaic {number}", (self.COLUMNS * self.TILE, self.ROWS * self.TILE)
        image = open_picture(np.asarray(
            self._bytes[int(self._offsets[number]) : int(self._offsets[number + 1])]).tobytes(), where)
        if image.size != size:
            raise InputError(f"{where}: got {image.width} x {image.height} pixels, expected {size[0]} "
                             f"x {size[1]}")
        with damage(where):
            tiles = np.asarray(image.convert("RGB"))
        grid = tiles.reshape(self.ROWS, self.TILE, self.COLUMNS, self.TILE, 3)
        return grid.swapaxes(1, 2).reshape(-1, self.TILE, self.TILE, 3)
