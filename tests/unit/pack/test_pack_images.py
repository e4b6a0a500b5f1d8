"""`pack` keeps what image files say, or refuses them and names the way out; it never changes
a value in silence."""

import io

import numpy as np
import pytest
from PIL import Image

from hpcfilter.base.errors import InputError
from hpcfilter.data import open_packed
from hpcfilter.pack.pack import pack

RNG = np.random.default_rng(0)
GREY, COLOUR = RNG.integers(0, 256, (12, 16, 16), np.uint8), RNG.integers(0, 256, (12, 16, 16, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """folder({name: image, array or bytes}) -> a folder of two classes, a and b, that hold them in turns."""

    def make(files):
        for number, (name, what) in enumerate(files.items()):
            place = tmp_path / "set" / "ab"[number % 2] / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(what, bytes):
                place.write_bytes(what)
            else:
                (Image.fromarray(what) if isinstance(what, np.ndarray) else what).save(place)
        return tmp_path / "set"

    return make


def packed(source, tmp_path, **options):
    """The packed rows in the order of the source, their file, and what is said of it."""
    about = pack(source, tmp_path / "p.h5", replace=True, **options)
    data = open_packed(tmp_path / "p.h5")
    rows = np.concatenate([data.train.images, data.test.images])
    order = np.argsort(np.concatenate([data.train.origin, data.test.origin]))
    return rows[order], data, about["found"]


def in_order(images):
    """The images as the source has them: those of class a first."""
    return [*images[::2], *images[1::2]]


@pytest.mark.parametrize("kind, ending",
                         [("uint16", "png"), ("uint16", "tif"), (">u2", "tif"), ("int32", "tif"),
                          ("float32", "tif"), ("uint8", "png"), ("uint16", "pgm")])
def test_one_band_of_any_type_keeps_every_value(folder, tmp_path, kind, ending):
    images = (RNG.random((12, 16, 16)) * (1 if kind == "float32" else 255 if kind == "uint8"
                                          else 65535)).astype(kind)
    rows, data, found = packed(folder({f"{i:02}.{ending}": image for i, image in enumerate(images)}),
                               tmp_path)
    assert np.array_equal(rows, in_order(images)) and data.layout == "HW"
    assert found["images"]["lowest"] == images.min() and found["images"]["highest"] == images.max()


@pytest.mark.parametrize("mode, shape, expected", [
    ("1", (16, 16), lambda image: np.asarray(image.convert("L"))),  # black and white: 0 and 255
    # the colours of the palette, not its numbers
    ("P", (16, 16, 3), lambda image: np.asarray(image.convert("RGB"))),
    ("RGBA", (16, 16, 4), np.asarray),
    ("LA", (16, 16, 4), lambda image: np.asarray(image.convert("RGBA"))),
])
def test_other_modes_keep_what_a_viewer_shows(folder, tmp_path, mode, shape, expected):
    images = [Image.fromarray(image).convert(mode) for image in (COLOUR if mode == "P" else GREY)]
    if mode in ("RGBA", "LA"):
        for image in images:
            image.putalpha(Image.fromarray(GREY[0]))
    rows, _, _ = packed(folder({f"{i:02}.png": image for i, image in enumerate(images)}), tmp_path)
    assert rows.shape[1:] == shape and np.array_equal(rows, in_order([expected(image) for image in images]))


def test_transparency_without_effect_goes(folder, tmp_path):
    images = {f"{i:02}.png": Image.fromarray(image).convert("RGBA" if i % 3 else "RGB")
              for i, image in enumerate(COLOUR)}
    rows, data, _ = packed(folder(images), tmp_path)
    assert np.array_equal(rows, in_order(COLOUR)) and data.layout == "HWC"


@pytest.mark.parametrize("first", ["grey", "colour"])
def test_grey_and_colour_together_become_colour(folder, tmp_path, first):
    images = [GREY[i] if (i < 4) == (first == "grey") else COLOUR[i] for i in range(12)]
    rows, _, found = packed(folder({f"{i:02}.png": image for i, image in enumerate(images)}), tmp_path)
    assert np.array_equal(rows, in_order([np.repeat(image[..., None], 3, 2) if image.ndim == 2 else image
                                          for image in images]))
    assert any("grey" in note and "became colour" in note for note in found["said"])


def test_splits_of_grey_and_of_colour_become_colour(tmp_path):
    for split, images in (("train", GREY), ("test", COLOUR[:4])):
        for number, image in enumerate(images):
            place = tmp_path / "set" / split / "ab"[number % 2] / f"{number:02}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place)
    pack(tmp_path / "set", tmp_path / "p.h5")
    data = open_packed(tmp_path / "p.h5")
    assert (data.train.images.shape[1:] == (16, 16, 3)
            and np.array_equal(data.test.images, in_order(COLOUR[:4])))
    assert np.array_equal(data.train.images[np.argsort(data.train.origin)],
                          in_order([np.repeat(image[..., None], 3, 2) for image in GREY]))


def test_cmyk_becomes_rgb_and_is_said(folder, tmp_path):
    images = [Image.fromarray(image).convert("CMYK") if i < 3 else Image.fromarray(image)
              for i, image in enumerate(COLOUR)]
    rows, _, found = packed(folder({f"{i:02}.tif": image for i, image in enumerate(images)}), tmp_path)
    assert np.array_equal(rows, in_order([np.asarray(image.convert("RGB")) for image in images]))
    assert any(note.startswith("3 images were CMYK") for note in found["said"])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_rows_are_upright_as_a_viewer_shows_them(folder, tmp_path, orientation, ending):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    files, shown = {}, []
    for i in range(12):
        image = np.zeros((16, 24), np.uint8)
        image[:4, : 8 + i] = 255
        file = io.BytesIO()
        Image.fromarray(image).save(file, {"jpg": "JPEG", "png": "PNG", "tif": "TIFF"}[ending], exif=exif)
        files[f"{i:02}.{ending}"] = file.getvalue()
        shown.append(np.asarray(ImageOps.exif_transpose(Image.open(file))))
    rows, _, found = packed(folder(files), tmp_path)
    assert (np.array_equal(rows, in_order(shown))
            and rows.shape[1:] == ((24, 16) if orientation > 4 else (16, 24)))
    assert any("12 images were turned upright" in note for note in found["said"]) == (orientation > 1)


def deep_png():
    """Colours of 16 bits, as a PNG that no library of ours can write."""
    import struct
    import zlib

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    lines = b"".join(b"\0" + RNG.integers(0, 65536, 16 * 3).astype(">u2").tobytes() for _ in range(16))
    head = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines))
            + chunk(b"IEND", b""))


def pages(form, count=3, **more):
    file = io.BytesIO()
    frames = [Image.fromarray(GREY[i]) for i in range(count)]
    frames[0].save(file, form, save_all=True, append_images=frames[1:], **more)
    return file.getvalue()


@pytest.mark.parametrize("name, data, message", [
    ("0.png", deep_png(), "colours of 16 bits, of which Pillow reads 8"),
    ("0.ppm", b"P6 16 16 65535 " + bytes(16 * 16 * 6), "colours of 16 bits"),
    ("0.pgm", b"P5 16 16 4095 " + bytes(16 * 16 * 2), "values of 0 to 4095, which Pillow spreads"),
    ("0.tif", pages("TIFF"), "holds 3 pictures.*--first-frame"),
    ("0.gif", pages("GIF"), "holds 3 pictures.*--first-frame"),
    ("0.png", pages("PNG"), "holds 3 pictures.*--first-frame"),
    ("0.webp", pages("WEBP"), "holds 3 pictures.*--first-frame"),
])
def test_what_would_lose_something_is_refused(folder, tmp_path, name, data, message):
    others = {f"{i:02}.png": image for i, image in enumerate(GREY, 1)}
    with pytest.raises(InputError, match=message):
        packed(folder({name: data, **others}), tmp_path)


def test_the_first_picture_of_several_may_be_taken(folder, tmp_path):
    rows, _, found = packed(folder({f"{i}.tif": pages("TIFF") for i in range(12)}), tmp_path,
                            first_frame=True)
    assert (np.array_equal(rows, [GREY[0]] * 12)
            and any("12 images hold several pictures" in note for note in found["said"]))


def test_kinds_that_do_not_mean_the_same_are_refused(folder, tmp_path):
    files = {f"{i:02}.png": GREY[i] if i % 2 else GREY[i].astype(np.uint16) * 257 for i in range(12)}
    with pytest.raises(InputError, match="kinds whose values do not mean the same: 6 16-bit grey, 6 grey"):
        packed(folder(files), tmp_path)


def test_images_of_several_sizes_are_counted(folder, tmp_path):
    files = {f"{i:02}.png": GREY[i][: 16 - (i % 4 == 3)] for i in range(12)}
    with pytest.raises(InputError, match=r"2 sizes: 9 of 16 x 16 pixels \(00.png\), 3 of 16 x 15 pixels "
                                         r"\(03.png\); give --size"):
        packed(folder(files), tmp_path)
    assert packed(folder(files), tmp_path, size=(8, 8))[0].shape == (12, 8, 8)


# ---- damaged files

@pytest.fixture
def damaged(folder):
    """A folder of twelve files, four of them damaged: the first of all, empty; cut short; no image; a whole
    one with wrong bytes inside."""

    def jpeg(image):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG")
        return file.getvalue()

    files = {f"{i:02}.jpg": jpeg(image) for i, image in enumerate(COLOUR)}
    files |= {"00.jpg": b"", "03.jpg": files["03.jpg"][:300], "06.jpg": b"<html>not found</html>",
              "09.jpg": files["09.jpg"][:180]}
    return folder(files)


BAD = ("a/00.jpg", "b/03.jpg", "a/06.jpg", "b/09.jpg")


def test_all_damaged_files_are_named_in_one_run(damaged, tmp_path, capfd):
    with pytest.raises(InputError, match="4 of 12 rows cannot be trained on.*--skip-damaged 4"):
        packed(damaged, tmp_path)
    said = capfd.readouterr().err
    assert all(f"{name}: " in said for name in BAD) and "a/02.jpg" not in said
    assert not list(tmp_path.glob("p.h5*"))


def test_damaged_files_may_be_left_out_up_to_a_number(damaged, tmp_path):
    with pytest.raises(InputError, match="--skip-damaged 4"):
        packed(damaged, tmp_path, skip_damaged=3)
    rows, data, found = packed(damaged, tmp_path, skip_damaged=4, test_fraction=0.25)
    assert len(rows) == 8 and len(data.test) == 2
    origin = np.sort(np.concatenate([data.train.origin, data.test.origin]))
    assert origin.tolist() == [1, 2, 4, 5, 6, 8, 9, 11], ("the rows keep their numbers in the source: "
                                                          "a has 0 to 5, b 6 to 11")
    assert found["images"]["lowest"] == rows.min() and found["images"]["highest"] == rows.max()
    assert any(note.startswith("4 damaged rows") and all(name in note for name in BAD)
               for note in found["left_out"])
