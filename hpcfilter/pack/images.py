"""Images that Pillow decodes: files in folders, and mosaics in an HDF5 file. Their size is checked before they are decoded."""

import io

import numpy as np

from hpcfilter.data.distrust import check_declared, damage
from hpcfilter.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".webp"}
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "PPM", "WEBP")  # whatever the file is called: others start programs (EPS) or read other files


class ImageFiles:
    """Image files as rows (height, width, 3), or (height, width) when the first one is grey. size: (height, width) to bring them to, or None."""

    def __init__(self, files, size):
        self._files, self._size = files, size
        first = _open(files[0].read_bytes(), files[0])
        self._mode = "L" if first.mode in ("L", "1", "I;16") else "RGB"
        self.shape = (len(files), *(size or first.size[::-1])) + ((3,) if self._mode == "RGB" else ())
        self.dtype = np.dtype(np.uint8)

    def __getitem__(self, rows):
        return np.stack([self._read(file) for file in self._files[rows]])

    def _read(self, file):
        image, (height, width) = _open(file.read_bytes(), file), self.shape[1:3]
        if not self._size and image.size != (width, height):
            raise InputError(f"{file}: got {image.width} x {image.height} pixels, expected {width} x {height} as {self._files[0].name}; "
                             "give --size HEIGHTxWIDTH")
        with damage(file):
            converted = image.convert(self._mode)
        return np.asarray(converted.resize((width, height)) if self._size else converted)


class Mosaics:
    """Images of 32 x 32 pixels kept as JPEG mosaics, 25 rows of 40 each: the bytes `mosaics` end to end, cut at `offsets`.

    mosaics: array-like uint8 (bytes,). offsets: int (mosaics + 1,). rows: how many images there are. where: for errors.
    """

    ROWS, COLUMNS, TILE = 25, 40, 32
    chunk_rows = ROWS * COLUMNS

    def __init__(self, mosaics, offsets, rows, where):
        self._bytes, self._offsets, self._where = mosaics, np.asarray(offsets), where
        self.shape, self.dtype = (rows, self.TILE, self.TILE, 3), np.dtype(np.uint8)
        count = -(-rows // self.chunk_rows)
        got = (mosaics.dtype, len(mosaics.shape), self._offsets.dtype.kind in "ui", self._offsets.shape)
        if got != (np.uint8, 1, True, (count + 1,)):
            raise InputError(f"{where}: got {mosaics.dtype} of shape {mosaics.shape}, {self._offsets.dtype} offsets of shape {self._offsets.shape}, "
                             f"expected bytes and {count + 1} integers for {rows} images")
        if self._offsets[0] < 0 or self._offsets[-1] > mosaics.shape[0] or (self._offsets[1:] <= self._offsets[:-1]).any():
            raise InputError(f"{where}: expected offsets that grow, from 0 to {mosaics.shape[0]} at most")

    def __getitem__(self, rows):
        first, last = rows.start // self.chunk_rows, -(-rows.stop // self.chunk_rows)
        images = np.concatenate([self._decode(number) for number in range(first, last)])
        return images[rows.start - first * self.chunk_rows : rows.stop - first * self.chunk_rows]

    def _decode(self, number):
        where, size = f"{self._where}: mosaic {number}", (self.COLUMNS * self.TILE, self.ROWS * self.TILE)
        image = _open(np.asarray(self._bytes[int(self._offsets[number]) : int(self._offsets[number + 1])]).tobytes(), where)
        if image.size != size:
            raise InputError(f"{where}: got {image.width} x {image.height} pixels, expected {size[0]} x {size[1]}")
        with damage(where):
            tiles = np.asarray(image.convert("RGB"))
        grid = tiles.reshape(self.ROWS, self.TILE, self.COLUMNS, self.TILE, 3)
        return grid.swapaxes(1, 2).reshape(-1, self.TILE, self.TILE, 3)


def _open(data, where):
    """Pillow's image of these bytes, of which only the head has been read. Raises InputError when it declares to become too many."""
    try:
        from PIL import Image
    except ImportError:
        raise InputError("images: needs Pillow: pip install pillow") from None
    with damage(where):
        try:
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
        except Image.DecompressionBombError as error:
            raise InputError(f"{where}: {error}") from None
    check_declared(where, image.width * image.height * len(image.getbands()), len(data))
    return image
