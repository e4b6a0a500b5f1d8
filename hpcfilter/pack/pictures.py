"""One image file becomes an array of its own values. What cannot be kept is refused in words; what is brought
to another form is told."""

import functools
import io

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.data.distrust import check_declared, damage

SUFFIXES = {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".gif", ".tif", ".tiff",
            ".ppm", ".pgm", ".pbm", ".pnm", ".webp", ".avif", ".jp2", ".j2k", ".mpo"}
# Whatever the file is called: others start programs (EPS) or read other files
FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "TIFF", "PPM", "WEBP", "AVIF", "JPEG2000")
# tags of EXIF and TIFF, a value of one
ORIENTATION, BITS, SAMPLES, SAMPLE_FORMAT, SIGNED, WHITE_IS_ZERO = 0x0112, 258, 277, 339, 2, 262
# kind of the rows -> (type, bands, in words). A kind is named as Pillow's modes are.
KINDS = {"L": (np.uint8, 1, "grey"), "RGB": (np.uint8, 3, "colour"),
         "RGBA": (np.uint8, 4, "colour with transparency"), "I;16": (np.uint16, 1, "16-bit grey"),
         "I": (np.int32, 1, "32-bit whole numbers"), "F": (np.float32, 1, "floating-point numbers")}
# Pillow's mode -> the kind it becomes; the first three keep every value
_BECOMES = {"1": "L", "P": "RGB", "PA": "RGBA", "L": "L", "LA": "RGBA", "La": "RGBA", "RGB": "RGB",
            "RGBX": "RGB", "RGBA": "RGBA", "RGBa": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "I;16": "I;16",
            "I;16B": "I;16", "I;16L": "I;16", "I;16N": "I;16", "I": "I", "F": "F"}
_CHANGES = {"RGBa": "were premultiplied by their transparency, which was undone",
            "La": "were premultiplied by their transparency, which was undone",
            "CMYK": "were CMYK and became RGB by Pillow's plain formula, without their colour profile",
            "YCbCr": "were YCbCr and became RGB"}
TURNED, FIRST = ("were turned upright, as their EXIF orientation says",
                 "hold several pictures, of which the first was taken")


def read_picture(data, where, size=None, first_frame=False):
    """Decode an image file. data: bytes. where: its name, for errors. size: (height, width) to bring it to.
    first_frame: of several pictures take the first, instead of refusing them.

    Returns (array (height, width[, bands]), kind of KINDS, list of what was changed, in words that follow "3
    images"). Raises InputError for what is damaged, would become far too large, or would not keep its values.
    """
    image = open_picture(data, where)
    several = getattr(image, "n_frames", 1) > 1
    # an MPO is a photograph, with a smaller one of it behind
    if several and image.format != "MPO" and not first_frame:
        raise InputError(f"{where}: holds {image.n_frames} pictures (an animation or several pages); "
                         "save each in a file of its own, or give --first-frame")
    _refuse_lossy(image, data, where)
    with damage(where):
        # Pillow itself turns these when it loads them, and forgets that it has
        turned = image.format == "TIFF" and _is_turned(image)
        image.load()
        upright = _upright(image) if _is_turned(image) else image
        changes = [FIRST] * several + [TURNED] * (turned or upright is not image)
        kind = _BECOMES.get(image.mode)
        if kind is None:
            raise InputError(f"{where}: holds colours of the kind {image.mode}, expected grey, RGB or CMYK; "
                             "convert it first")
        changes += filter(None, [_CHANGES.get(image.mode), _spread(image, data)])
        upright, kind = _as_kind(upright, kind)
        if size:
            upright = upright.resize(size[::-1])
        return _values(upright, kind, image, where), kind, changes


def open_picture(data, where):
    """Pillow's image of these bytes, of which only the head has been read. Raises InputError when it
    declares to become too many."""
    Image, UnidentifiedImageError, formats = _pillow()
    if not data:
        raise InputError(f"{where}: is empty")
    with damage(where):
        try:
            image = Image.open(io.BytesIO(data), formats=formats)
        except Image.DecompressionBombError:
            raise InputError(f"{where}: declares to be a decompression bomb, of more pixels than "
                             "Pillow takes") from None
        except UnidentifiedImageError:
            raise InputError(f"{where}: cannot identify it as an image; it is damaged, or of a kind that is "
                             "not read") from None
    check_declared(where, image.width * image.height * len(image.getbands()), len(data))
    return image


@functools.cache
def _pillow():
    """Pillow's module Image, its error for what is no image, and those of FORMATS that it can read here."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise InputError("images: needs Pillow: pip install pillow") from None
    Image.init()
    return Image, UnidentifiedImageError, [form for form in FORMATS if form in Image.OPEN]


def _refuse_lossy(image, data, where):
    """Raise InputError for images of which Pillow gives only a part of the bits, or other numbers."""
    if image.format not in ("PNG", "TIFF", "PPM"):
        return
    tags = getattr(image, "tag_v2", {}) or {}
    bits, form = tags.get(BITS, (8,)), tags.get(SAMPLE_FORMAT, (1,))
    deep = image.format == "PNG" and data[24] == 16 and image.mode not in ("I;16", "I")
    deep = deep or (image.format == "TIFF" and max(bits) > 8 and len(image.getbands()) > 1)
    deep = deep or (image.format == "PPM" and image.mode == "RGB" and _most(data) > 255)
    if deep:
        raise InputError(f"{where}: holds colours of 16 bits, of which Pillow reads 8; "
                         "save the rows as .npz or HDF5, or as images of 8 bits")
    if image.format == "TIFF" and tags.get(SAMPLES, 1) > len(image.getbands()):
        raise InputError(f"{where}: holds {tags[SAMPLES]} bands, of which Pillow reads "
                         f"{len(image.getbands())}; save the rows as .npz or HDF5")
    if image.format == "TIFF" and max(bits) == 64:
        raise InputError(f"{where}: holds numbers of 64 bits, of which Pillow reads 32; "
                         "save the rows as .npz or HDF5")
    if image.format == "TIFF" and image.mode == "L" and form[0] == SIGNED:
        raise InputError(f"{where}: holds signed bytes, which Pillow reads as unsigned; "
                         "save the rows as .npz or HDF5")
    if image.format == "PPM" and image.mode != "1" and _most(data) not in (255, 65535):
        raise InputError(f"{where}: holds values of 0 to {_most(data)}, which Pillow spreads to 0 to 255 or "
                         "65535; save the rows as .npz or as PNG")


def _most(data):
    """The largest value that a PNM file declares: the fourth word of its head, comments left out. That of
    floating-point ones counts as 255."""
    lines = [line.partition(b"#")[0] for line in data[:4096].splitlines()]
    words = b" ".join(lines).split()
    return int(words[3]) if words[0] in (b"P2", b"P3", b"P5", b"P6") and words[3].isdigit() else 255


def _spread(image, data):
    """What Pillow does to grey values of fewer than 8 bits, and to those that count from
    white, in words, or None."""
    if image.format not in ("PNG", "TIFF"):
        return None
    if image.format == "PNG" and data[24] < 8 and data[25] == 0 and image.mode == "L":
        return f"of {data[24]} bits were spread from 0 to {2 ** data[24] - 1} to 0 to 255"
    if (image.format == "TIFF" and image.mode in ("1", "L")
            and (getattr(image, "tag_v2", None) or {}).get(WHITE_IS_ZERO) == 0):
        return "count from white, and were turned to count from black"
    return None


def _is_turned(image):
    """Whether the EXIF orientation says that a viewer turns or mirrors the image."""
    if not image.info and image.format != "TIFF":  # nothing but pixels is there
        return False
    return image.getexif().get(ORIENTATION, 1) not in (0, 1, None)


def _upright(image):
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _as_kind(image, kind):
    """(the image in this kind, the kind). Transparency counts only where some pixel is not opaque."""
    if kind in ("I;16", "I", "F"):
        return image, kind
    if not image.has_transparency_data:
        return image if image.mode == kind else image.convert(kind), kind
    clear = image.convert("RGBA")
    if clear.getextrema()[3][0] < 255:
        return clear, "RGBA"
    kind = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    return clear.convert(kind), kind


def _values(image, kind, opened, where):
    """The pixels as an array of the kind's type."""
    array = np.asarray(image)
    tags = getattr(opened, "tag_v2", {}) or {}
    unsigned = (opened.format == "TIFF" and kind == "I" and tags.get(BITS) == (32,)
                and tags.get(SAMPLE_FORMAT, (1,))[0] != SIGNED)
    if unsigned and array.min() < 0:
        raise InputError(f"{where}: holds values above 2147483647, which Pillow does not read; "
                         "save the rows as .npz or HDF5")
    return array.astype(KINDS[kind][0], copy=False)
