"""What the page says of one run: its card, its scores, and what a probe has found; with notes on what cannot
be shown or is doubtful."""

import shlex
from dataclasses import dataclass, field

from hpcfilter.base.errors import InputError
from hpcfilter.study.report.card import facts, headline
from hpcfilter.study.report.charts import colour, dash, plain, printable
from hpcfilter.study.report.embedding import embedding
from hpcfilter.study.report.histogram import histogram
from hpcfilter.study.report.slices import lines, numbers, planes
from hpcfilter.study.report.thumbnails import thumbnails

# of dashes, for SVG
STROKES = {"solid": "", "dash": "8 5", "dot": "2 4", "dashdot": "8 4 2 4", "longdash": "13 6",
           "longdashdot": "13 5 2 5"}


@dataclass
class Part:
    """What the page says of one run."""

    number: int
    name: str
    folder: str  # as a word of the shell
    headline: list  # of (value, what it is)
    facts: list  # of (what it is, value)
    histogram: object = None  # Chart
    damaged: str = ""  # why the probe cannot be shown
    doubts: list = field(default_factory=list)  # of text: whether the probe is of this run
    probed: str = ""  # what was
    map: object = None  # Chart
    samples: list = field(default_factory=list)  # of (title, about, list of Thumbnail)
    lines: list = field(default_factory=list)  # of Chart
    planes: list = field(default_factory=list)  # of Chart
    numbers: object = None  # TextTable
    looked: str = ""  # over which samples they were measured

    @property
    def colour(self):
        return colour(self.number)

    @property
    def stroke(self):
        return STROKES[dash(self.number)]

    @property
    def charts(self):
        return [chart for chart in (self.histogram, self.map, *self.lines, *self.planes) if chart]


def part(number, name, record, most):
    """The Part of a run. number: of the run on the page. name: text. record: RunLog. most: how
    many thumbnails in all."""
    made = Part(number, name, shlex.quote(printable(record.folder)), headline(record), facts(record))
    made.histogram = histogram(f"scores{number}", name,
                               [row for row in record.rows if row["kind"] == "scores"])
    path = record.folder / "probe.h5"
    if path.exists():
        from hpcfilter.data.probed import read_probe  # brings in HDF5, which nothing else here needs

        try:
            _add_probe(made, read_probe(path), record, most)
        except InputError as error:
            made.damaged = printable(error)
    return made


def _add_probe(part, probe, record, most):
    part.probed, part.doubts = _probed(**probe.about), _doubts(probe.about, record)
    if probe.samples:
        part.map = embedding(f"map{part.number}", part.name, probe.samples)
        part.samples = thumbnails(probe.samples, most)
    if probe.sets:
        part.lines, part.planes = lines(f"lines{part.number}", part.name,
                                        probe.sets), planes(f"planes{part.number}", part.name, probe.sets)
        part.numbers, part.looked = numbers(probe.sets), _looked(probe)


def _probed(epoch, policy, kept, total, **_):
    return (f"Probed after epoch {epoch + 1}, when {plain(policy)} would have kept {kept:,} of "
            f"{total:,} samples.")


def _doubts(about, record):
    """What speaks against a probe being of this run. about: of the Probe. Returns a list of text."""
    found, last, weights = [], record.epochs[-1]["epoch"], (record.end or {}).get("weights")
    if (data := record.run["data"]) != about["data"]:
        found.append(f"This probe is of other data than the run: of {plain(about['data'])}, "
                     f"the run of {plain(data)}.")
    if about["epoch"] > last:
        found.append(f"This probe is of other weights than the run's: of epoch {about['epoch'] + 1}, "
                     f"the run has {last + 1}.")
    elif about["epoch"] == last and weights not in (None, about["weights"]):
        # those of the epochs before are not recorded
        found.append(f"This probe is of other weights than the run's: of {plain(about['weights'])}, "
                     f"the run has ended with {plain(weights)}.")
    return found


def _looked(probe):
    """Over which samples the landscape was measured."""
    drawn = {"full": (probe.about["total"], "samples"), "filtered": (probe.about["kept"], "kept samples")}
    return ("Measured over "
            f"{'; over '.join(_share(count, *drawn[name]) for name, count in probe.about['sets'].items())}.")


def _share(count, total, what):
    """So many of so many, and how they were drawn."""
    return f"all {total:,} {what}" if count == total else f"{count:,} of {total:,} {what}, drawn by hash"
