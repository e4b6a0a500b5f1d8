"""The verb `report`: its options."""

from hpcfilter.base.options import number, path, share, shown

SUMMARY = "compare runs, report a scaling study or benchmark results; a page for a proposal"
EXAMPLE = """\
examples:
  hpcfilter report runs/first runs/second            a page: report.html
  hpcfilter report runs/first runs/second --text     a table
  hpcfilter report study --proposal page.md --machine frontier"""


def add(parser):
    """Add the options of `report` to a parser."""
    parser.add_argument(
        "paths",
        type=path,
        nargs="+",
        metavar="PATH",
        help="run folders; folders with run folders below (a scaling study); results (.jsonl)",
    )
    output = parser.add_argument_group("what is written")
    form = output.add_mutually_exclusive_group()
    form.add_argument(
        "--text",
        dest="format",
        action="store_const",
        const="text",
        help="of runs: the short form, a table, instead of the page",
    )
    form.add_argument("--format", choices=["text", "markdown", "csv"], help="of the tables (default text)")
    output.add_argument(
        "-o",
        "--output",
        type=path,
        metavar="FILE",
        help="write here: FILE.html the page of runs (default: report.html), else the tables",
    )
    output.add_argument("--picture", type=path, help="draw into this file (.png, .svg, .pdf)")

    study = parser.add_argument_group("a scaling study")
    study.add_argument(
        "--target",
        type=share,
        metavar="ACCURACY",
        help="test accuracy to time (default: what all runs reach)",
    )
    study.add_argument(
        "--allreduce",
        type=path,
        metavar="FILE",
        help="results of `python -m benchmarks allreduce`, for the modelled allreduce",
    )

    bid = parser.add_argument_group("a page for a facility proposal, from a study")
    bid.add_argument("--proposal", type=path, metavar="FILE.md", help="write a page for a facility proposal")
    bid.add_argument("--machine", help="carry the model to this machine")
    bid.add_argument("--walltime", metavar="[D-]HH:MM:SS", help="of one job (default: the machine's)")
    bid.add_argument(
        "--epochs", type=number, help="epochs of one training (default: as the runs' config says)"
    )
    bid.add_argument("--trainings", type=number, help="how many (default 1)")


def run(words, comm):
    """Report, on rank 0."""
    from hpcfilter.study.report import report

    comm.on_first(lambda: shown(report, words))
