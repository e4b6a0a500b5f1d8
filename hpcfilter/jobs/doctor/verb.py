"""The verb `doctor`: its options, and its exit code."""

from hpcfilter.base.errors import Failure
from hpcfilter.base.options import path

SUMMARY = "is this machine ready? (under mpirun, srun, jsrun or torchrun: on all ranks)"
EXAMPLE = """\
examples:
  hpcfilter doctor
  mpirun -np 2 python -m mpi4py -m hpcfilter doctor --folder /tmp

The exit code is 1 when something must be mended before a run."""


def add(parser):
    """Add the options of `doctor` to a parser."""
    parser.add_argument(
        "--folder", type=path, default=".", help="where HDF5 is tried (default: the current folder)"
    )


def run(words, comm):
    """Examine the machine, all ranks. Raises Failure on all of them for problems."""
    from hpcfilter.jobs.doctor.examination import doctor

    problems = doctor(comm, words.folder)
    with comm.together():
        if problems:
            raise Failure(f"doctor: found {len(problems)} problem{'s' * (len(problems) > 1)}")
