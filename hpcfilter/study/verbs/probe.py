"""The verb `probe`: its options, and what it prints."""

from functools import partial

from hpcfilter.base.options import add_settings, number, path, real, whole

SUMMARY = "measure the loss landscape around a checkpoint of a run: curvature, slices, sharpness, barrier"
EXAMPLE = """\
examples:
  hpcfilter probe runs/first --what sharpness,slices --samples 2000
  mpirun -np 4 python -m mpi4py -m hpcfilter probe runs/first --other runs/second

A probe that was killed goes on where it was; hpcfilter report shows what it has found."""
FINENESS = (  # option, type, default, help
    ("points", whole, 51, "of a line"),
    ("directions", whole, 3, "lines"),
    ("grid", whole, 15, "points of a side of the plane"),
    ("span", real, 1.0, "how far lines and plane reach, in lengths of the weights"),
    ("eigenvalues", whole, 5, "how many"),
    ("probes", whole, 32, "random vectors for the trace"),
    ("rho", real, 0.05, "radius of the sharpness"),
)


def add(parser):
    """Add the options of `probe` to a parser."""
    parser.add_argument("run_dir", type=path, help="run folder")
    parser.add_argument("--epoch", type=whole, help="which checkpoint (default: the newest)")
    parser.add_argument(
        "-o",
        "--output",
        type=path,
        help="the file to write, or to go on with (default: probe.h5 in the run folder)",
    )
    parser.add_argument("--restart", action="store_true", help="begin anew, whatever stands in the file")
    add_settings(parser)

    what = parser.add_argument_group("what is measured")
    what.add_argument(
        "--what",
        type=lambda text: text.split(","),
        default=[],
        metavar="PART[,PART...]",
        help="curvature, slices, map, sharpness, barrier (default: all that apply)",
    )
    what.add_argument(
        "--other",
        type=path,
        metavar="RUN_DIR",
        help="run folder whose weights the barrier is measured to, at the same --epoch",
    )
    what.add_argument(
        "--selection",
        type=path,
        metavar="FILE",
        help="table of `hpcfilter select` (default: what the run's policy would keep next)",
    )

    fine = parser.add_argument_group("how finely, and at which cost")
    fine.add_argument(
        "--samples",
        type=partial(number, digits=12),
        metavar="N",
        help="look at no more than N samples of each set (default: all)",
    )
    fine.add_argument(
        "--batch",
        type=number,
        metavar="N",
        help="samples of a forward pass (default: what has fit in training, 512 at most)",
    )
    for name, kind, default, about in FINENESS:
        fine.add_argument(
            f"--{name}",
            type=kind,
            default=default,
            metavar="N" if kind is whole else "X",
            help=f"{about} (default {default})",
        )


def run(words, comm):
    """Probe, all ranks, and say what was found and where it is."""
    from hpcfilter.study.landscape import Options, probe, summary

    with comm.together():
        options = Options(**{name: getattr(words, name) for name in Options.__annotations__})
    file, found = probe(
        words.run_dir, comm, words.settings, words.epoch, words.output, options, words.restart
    )
    if comm.rank == 0:
        print(f"{summary(found)}\n{file}")
