"""Thumbnails of the samples at both ends of the importance and around the threshold: where noisy
labels show themselves."""

import base64
import io
from dataclasses import dataclass

import numpy as np

from hpcfilter.study.report.answers import answers, worth
from hpcfilter.study.report.charts import plain

MOST = 200  # thumbnails of a page, unless that leaves less than LEAST
LEAST = 3  # of a group
SIDE = 96  # pixels of the longer side, at most
GROUPS = {"lowest": "Lowest importance", "around": "Around the threshold", "highest": "Highest importance"}
PLACES = {"lowest": "of lowest importance", "around": "around the threshold",
          "highest": "of highest importance"}


@dataclass
class Thumbnail:
    """One sample: its picture as a data URI ("" without one), and what is known of it, as words."""

    uri: str
    index: str
    importance: str
    kept: bool
    truth: str = ""
    guess: str = ""
    sure: str = ""  # of the prediction
    wrong: bool = False  # whether it is not the label
    target: str = ""  # of a task without classes, and the prediction where it is known

    @property
    def alt(self):
        """The thumbnail in words."""
        said = (f", label {self.truth}, predicted {self.guess}" if self.truth
                else f", {self.target}" if self.target else "")
        return f"sample {self.index}{said}, {'kept' if self.kept else 'hidden'}"


def thumbnails(samples, most):
    """The groups of a run's thumbnails. samples: of a Probe. most: how many in all. Returns a list of (title,
    about, list of Thumbnail)."""
    image = {int(row): place for place, row in enumerate(samples.get("image_of", ()))} if can_draw() else {}
    # pixels need not reach 255: those of the digits end at 16
    scale = 255 / max(1, np.max(samples.get("images", 255)))
    chosen = {name: _few(samples[name], name, max(LEAST, most // len(GROUPS))) for name in GROUPS}
    told = list(zip(*answers(samples), strict=True))
    return [(GROUPS[name], _about(name, len(rows), samples["classes"]),
             [_thumbnail(samples, row, told[row], image.get(int(row)), scale) for row in rows])
            for name, rows in chosen.items() if len(rows)]


def can_draw():
    """Whether there is Pillow to write pictures with."""
    try:
        import PIL.Image
    except ImportError:
        return False
    return bool(PIL.Image)


def _few(rows, name, most):
    """At most so many rows: the first of the ends, which are the outermost; the middle of those around the
    threshold, in order of importance."""
    start = max(0, len(rows) - most) // 2 if name == "around" else 0
    return rows[start : start + most]


def _about(name, count, classes):
    """What a group shows."""
    hint = "; wrong labels often gather here" if name == "highest" and classes else ""
    return f"The {f'{count} samples' if count > 1 else 'sample'} {PLACES[name]}{hint}."


def _thumbnail(samples, row, told, image, scale):
    truth, guess = map(plain, told)
    known = Thumbnail("" if image is None else _uri((samples["images"][image] * scale).astype(np.uint8)),
                      f"{int(samples['index'][row]):,}", worth(samples["importance"][row]),
                      bool(samples["kept"][row]))
    if not samples["classes"]:
        known.target = f"target {truth}{f', predicted {guess}' if guess else ''}" if truth else ""
    else:
        known.truth, known.guess, known.wrong = (truth, guess,
                                                 bool(samples["label"][row] != samples["prediction"][row]))
        known.sure = f"{100 * float(samples['confidence'][row]):.0f}\N{NO-BREAK SPACE}%"
    return known


def _uri(pixels):
    """A picture as an inline PNG. pixels: (h, w) or (h, w, channels) uint8; of 2 channels the first is shown,
    of more than 4 the first 3."""
    from PIL import Image

    if pixels.ndim == 3 and pixels.shape[2] not in (3, 4):
        pixels = pixels[..., :3] if pixels.shape[2] > 4 else pixels[..., 0]
    picture, out = Image.fromarray(np.ascontiguousarray(pixels)), io.BytesIO()
    picture.thumbnail((SIDE, SIDE))
    picture.save(out, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
