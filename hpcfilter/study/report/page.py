"""The visual tool: one self-contained HTML page about runs, which opens offline. The template is page.html,
with page.css and page.js."""

import base64
import functools
import hashlib
from pathlib import Path

import jinja2

from hpcfilter.base.errors import InputError
from hpcfilter.record.provenance import versions
from hpcfilter.study.report.charts import plain, printable
from hpcfilter.study.report.curves import MOST, curves, phases
from hpcfilter.study.report.form import word
from hpcfilter.study.report.part import part
from hpcfilter.study.report.runs import compare, has_epoch, names_of, read_record
from hpcfilter.study.report.thumbnails import MOST as MOST_THUMBNAILS
from hpcfilter.study.report.thumbnails import can_draw

FOLDER = Path(__file__).parent


def page(run_dirs):
    """The page about run folders. Returns HTML, which needs nothing but itself.

    A run without a finished epoch and a damaged probe.h5 become notes. Raises InputError where that leaves no
    run that is whole, for folders that are no runs, and where plotly is missing.
    """
    plotly = _plotly()
    begun = [folder for folder in run_dirs if has_epoch(folder)] or run_dirs
    records = [read_record(folder) for folder in begun]
    called = names_of(begun)
    names = [plain(called[folder]) for folder in begun]
    parts = [part(number, name, record, MOST_THUMBNAILS // len(records))
             for number, (name, record) in enumerate(zip(names, records, strict=True))]
    if all(part.damaged for part in parts):
        raise InputError(parts[0].damaged)
    above, below = curves(records, names), phases(records, names)
    charts = [*above, *below, *(chart for part in parts for chart in part.charts)]
    table = compare(begun)
    script, style = ((FOLDER / name).read_text("utf-8") for name in ("page.js", "page.css"))
    return _template().render(
        plotly=plotly, script=script, style=style,
        hashes=[_hash(plotly), _hash(script)], parts=parts, above=above, below=below, head=table.head,
        rows=[[plain(word(cell)) for cell in row] for row in table.rows],
        specs={chart.key: chart.spec() for chart in charts}, most=MOST,
        thinned=[name for name, record in zip(names, records, strict=True) if len(record.epochs) > MOST],
        can_draw=can_draw(), version=versions()["hpcfilter"],
        waiting=[printable(folder) for folder in run_dirs if folder not in begun])


def _plotly():
    """The text of plotly.js."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise InputError("report: the page needs plotly: pip install 'hpcfilter[report]'; "
                         "or give --text for the table alone") from None
    return get_plotlyjs()


@functools.cache
def _template():
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(FOLDER), autoescape=True,
                                     undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # one NaN, and a browser reads none of the charts
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "sort_keys": True}
    return environment.get_template("page.html")


def _hash(script):
    """What lets a script of the page run: its policy allows these two and no other, whatever a data set
    may have smuggled in."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
