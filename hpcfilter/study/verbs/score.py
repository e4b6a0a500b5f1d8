"""The verb `score`: its options, and what it prints."""

from hpcfilter.base.options import add_settings, path, whole

SUMMARY = "score every training sample with a checkpoint of a run"
EXAMPLE = """\
examples:
  hpcfilter score runs/first
  mpirun -np 4 python -m mpi4py -m hpcfilter score runs/first --set score.name=el2n

hpcfilter explain scores lists the scores."""


def add(parser):
    """Add the options of `score` to a parser."""
    parser.add_argument("run_dir", type=path, help="run folder")
    parser.add_argument("--epoch", type=whole, help="which checkpoint (default: the newest)")
    parser.add_argument(
        "-o", "--output", type=path, help="the table to write (default: scores.h5 in the run folder)"
    )
    add_settings(parser)


def run(words, comm):
    """Score, all ranks, and say where the table is."""
    from hpcfilter.study.offline.score import score

    table, columns = score(words.run_dir, comm, words.settings, words.epoch, words.output)
    if comm.rank == 0:
        print(f"{table}: {', '.join(columns)}")
