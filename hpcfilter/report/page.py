"""The visual tool: one self-contained HTML page about runs, which opens offline. The template is page.html, with page.css and page.js."""

import base64
import functools
import hashlib
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import jinja2

from hpcfilter.errors import InputError
from hpcfilter.record import versions
from hpcfilter.report.card import facts, headline
from hpcfilter.report.charts import colour, dash, plain, printable
from hpcfilter.report.curves import MOST, curves, phases
from hpcfilter.report.embedding import embedding
from hpcfilter.report.form import word
from hpcfilter.report.histogram import histogram
from hpcfilter.report.runs import compare, names_of, read_record
from hpcfilter.report.slices import lines, numbers, planes
from hpcfilter.report.thumbnails import MOST as MOST_THUMBNAILS
from hpcfilter.report.thumbnails import can_draw, thumbnails

FOLDER = Path(__file__).parent
STROKES = {"solid": "", "dash": "8 5", "dot": "2 4", "dashdot": "8 4 2 4", "longdash": "13 6", "longdashdot": "13 5 2 5"}  # of dashes, for SVG


@dataclass
class Part:
    """What the page says of one run."""

    number: int
    name: str
    folder: str  # as a word of the shell
    headline: list  # of (value, what it is)
    facts: list  # of (what it is, value)
    histogram: object = None  # Chart
    probed: str = ""  # what was
    map: object = None  # Chart
    samples: list = field(default_factory=list)  # of (title, about, list of Thumbnail)
    lines: list = field(default_factory=list)  # of Chart
    planes: list = field(default_factory=list)  # of Chart
    numbers: object = None  # Table
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


def page(run_dirs):
    """The page about run folders. Returns HTML, which needs nothing but itself.

    Raises InputError for folders without a finished epoch, a damaged probe.h5, and where plotly is missing.
    """
    plotly = _plotly()
    records = [read_record(folder) for folder in run_dirs]
    called = names_of(run_dirs)
    names = [plain(called[folder]) for folder in run_dirs]
    parts = [_part(number, name, record, MOST_THUMBNAILS // len(records)) for number, (name, record) in enumerate(zip(names, records, strict=True))]
    above, below = curves(records, names), phases(records, names)
    charts = [*above, *below, *(chart for part in parts for chart in part.charts)]
    table = compare(run_dirs)
    script, style = ((FOLDER / name).read_text("utf-8") for name in ("page.js", "page.css"))
    return _template().render(
        plotly=plotly, script=script, style=style, hashes=[_hash(plotly), _hash(script)], parts=parts, above=above, below=below, head=table.head,
        rows=[[plain(word(cell)) for cell in row] for row in table.rows], specs={chart.key: chart.spec() for chart in charts}, most=MOST,
        thinned=[name for name, record in zip(names, records, strict=True) if len(record.epochs) > MOST], can_draw=can_draw(),
        version=versions()["hpcfilter"])


def _plotly():
    """The text of plotly.js."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise InputError("report: the page needs plotly: pip install 'hpcfilter[report]'; or give --text for the table alone") from None
    return get_plotlyjs()


@functools.cache
def _template():
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True)
    return environment.get_template("page.html")


def _hash(script):
    """What lets a script of the page run: its policy allows these two and no other, whatever a data set may have smuggled in."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _part(number, name, record, most):
    part = Part(number, name, shlex.quote(printable(record.folder)), headline(record), facts(record))
    part.histogram = histogram(f"scores{number}", name, [row for row in record.rows if row["kind"] == "scores"])
    path = record.folder / "probe.h5"
    if path.exists():
        from hpcfilter.data.probed import read_probe  # brings in HDF5, which nothing else here needs

        probe = read_probe(path)
        part.probed = _probed(**probe.about)
        if probe.samples:
            part.map, part.samples = embedding(f"map{number}", name, probe.samples), thumbnails(probe.samples, most)
            part.map.note = f"The map shows {_share(len(probe.samples['index']), probe.samples['total'], 'samples')}. {part.map.note}"
        if probe.sets:
            part.lines, part.planes = lines(f"lines{number}", name, probe.sets), planes(f"planes{number}", name, probe.sets)
            part.numbers, part.looked = numbers(probe.sets), _looked(probe)
    return part


def _share(count, total, what):
    """So many of so many, and how they were drawn."""
    return f"all {total:,} {what}" if count == total else f"{count:,} of {total:,} {what}, drawn by hash"


def _probed(epoch, policy, kept, total, **_):
    return f"Probed after epoch {epoch + 1}, when {plain(policy)} would have kept {kept:,} of {total:,} samples."


def _looked(probe):
    """Over which samples the landscape was measured."""
    drawn = {"full": (probe.about["total"], "samples"), "filtered": (probe.about["kept"], "kept samples")}
    return f"Measured over {'; over '.join(_share(count, *drawn[name]) for name, count in probe.about['sets'].items())}."
