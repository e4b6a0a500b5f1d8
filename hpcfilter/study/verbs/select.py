"""The verb `select`: its options, and what it prints."""

from hpcfilter.base.options import path, real

SUMMARY = "choose the samples to keep from a score table"
EXAMPLE = """\
example:
  hpcfilter select runs/first/scores.h5 --fraction 0.3 --highest 0.02
  hpcfilter train run.toml --run-dir runs/second \\
      --set 'filter={policy="static", selection="runs/first/selection.h5"}'"""


def add(parser):
    """Add the options of `select` to a parser."""
    parser.add_argument("scores", type=path, help="table made by `hpcfilter score`")
    parser.add_argument(
        "--fraction",
        type=real,
        required=True,
        help="share of the samples of lowest importance to hide, in [0, 1)",
    )
    parser.add_argument(
        "--highest",
        type=real,
        default=0.0,
        help="share of the samples of highest importance to hide as well (default 0)",
    )
    parser.add_argument(
        "-o", "--output", type=path, help="the table to write (default: selection.h5 beside the scores)"
    )


def run(words, comm):
    """Select, all ranks, and say how many samples are kept."""
    from hpcfilter.study.offline.select import select

    table, about = select(words.scores, comm, words.fraction, words.output, words.highest)
    if comm.rank == 0:
        print(f"{table}: {about['kept']} samples kept, threshold {about['threshold']}")
