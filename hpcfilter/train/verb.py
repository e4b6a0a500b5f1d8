"""The verb `train`: its options."""

from hpcfilter.base.alive import notice
from hpcfilter.base.options import add_settings, path

SUMMARY = "train as a run config says (under mpirun, srun, jsrun or torchrun: on all ranks)"
EXAMPLE = """\
examples:
  hpcfilter train run.toml --run-dir runs/first
  mpirun -np 2 python -m mpi4py -m hpcfilter train run.toml --run-dir runs/first --resume
  torchrun --nproc-per-node 2 -m hpcfilter train run.toml --run-dir runs/first --resume
  hpcfilter train run.toml --run-dir runs/second --set filter.policy=infobatch

hpcfilter explain --config prints a run config with every key."""


def add(parser):
    """Add the options of `train` to a parser."""
    parser.add_argument("config", type=path, help="run config, TOML")
    parser.add_argument(
        "--run-dir", type=path, required=True, help="folder for everything the run leaves behind"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint in the run folder"
    )
    add_settings(parser)
    parser.set_defaults(early=notice.listen)  # notice to leave may come while torch is being imported


def run(words, comm):
    """Train, all ranks."""
    from hpcfilter.train.run import train

    train(words.config, words.run_dir, comm, words.settings, words.resume)
