"""The verb `jobs`: its verbs and their options. What they do stands in `commands`."""

from hpcfilter.base.options import add_settings, number, numbers, path, shown

SUMMARY = "job scripts for the scheduler of a machine: render, check, submit"
EXAMPLE = """\
examples:
  hpcfilter jobs list-machines
  hpcfilter jobs check run.toml --machine frontier --nodes 4
  hpcfilter jobs submit run.toml --machine frontier --nodes 1,2,4 --run-dir study

It works on a login node: neither torch nor MPI is needed. hpcfilter explain job prints the keys of [job]."""
OF_A_CONFIG = (  # name, function of `commands`, summary, example
    (
        "render",
        "render_script",
        "print the job script of a run config",
        "example:\n  hpcfilter jobs render run.toml --machine perlmutter > job.sh",
    ),
    (
        "check",
        "check_layout",
        "say how the ranks lie on the nodes and what the job costs; refuse what does not fit",
        "example:\n  hpcfilter jobs check run.toml --machine perlmutter --nodes 4",
    ),
    (
        "submit",
        "submit_jobs",
        "write the job script into the run folder and submit it",
        "examples:\n  hpcfilter jobs submit run.toml --machine local --run-dir runs/first\n"
        "  hpcfilter jobs submit run.toml --machine frontier --nodes 1,2,4 --repeats 3 --run-dir study",
    ),
)


def add(parser):
    """Add the verbs of `jobs`, each with its options, to a parser. Alone, `jobs` shows its help."""
    parser.set_defaults(does=None, help=parser.print_help, alone=True)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB")
    for name, function, summary, example in OF_A_CONFIG:
        verb = verbs.add_parser(name, help=summary, description=summary, epilog=example)
        verb.set_defaults(does=run, command=function)
        _add_place(verb)
    _add_many(verb)  # of submit, the last
    summary = "bring a packed file to this node's own storage (job scripts do, once on each node)"
    stage = verbs.add_parser(
        "stage",
        help=summary,
        description=summary,
        epilog="example:\n  hpcfilter jobs stage data.h5 '/local/${USER}/data.h5'",
    )
    stage.set_defaults(does=run, command="stage_data")
    _add_stage(stage)
    machines = verbs.add_parser(
        "list-machines",
        help="the machines that are known",
        description="the machines that are known",
        epilog="example:\n  hpcfilter jobs list-machines",
    )
    machines.set_defaults(does=run, command="list_machines")


def _add_place(verb):
    """What render, check and submit ask: which run, and where."""
    verb.add_argument("config", type=path, help="run config, TOML, perhaps with a table [job]")
    verb.add_argument("--run-dir", type=path, help="run folder (default: runs/ and the name of the job)")
    add_settings(verb)
    place = verb.add_argument_group("the machine, in place of keys of [job]")
    place.add_argument("--machine", help="see: hpcfilter jobs list-machines")
    place.add_argument(
        "--nodes",
        type=numbers,
        metavar="N[,N...]",
        help="how many nodes; several numbers: a scaling study, one job for each",
    )
    place.add_argument("--walltime", metavar="[D-]HH:MM:SS", help="of one job")
    place.add_argument("--account", help="what the job is charged to")
    place.add_argument("--queue", help="in Slurm's words the partition")


def _add_many(verb):
    many = verb.add_argument_group("several jobs")
    many.add_argument(
        "--chain",
        type=number,
        default=1,
        metavar="N",
        help="N jobs, one after the other, that leave at once when the run is done",
    )
    many.add_argument(
        "--repeats", type=number, default=1, metavar="N", help="N runs of each size (Slurm: a job array)"
    )
    verb.add_argument("--dry-run", action="store_true", help="only show what would be written and submitted")


def _add_stage(stage):
    stage.add_argument("source", type=path, help="packed file, or the archive that holds it")
    stage.add_argument("dest", help="path of the file on the node, where its variables are expanded")
    stage.add_argument(
        "--method",
        choices=["copy", "tar", "check"],
        default="copy",
        help="check: of a file that is there already (default copy)",
    )
    stage.add_argument(
        "--part",
        nargs=2,
        type=number,
        metavar=("NODES", "RANKS_PER_NODE"),
        help="only the rows of this node's ranks, for shard order",
    )


def run(words, comm):
    """Do what the verb of `jobs` is for, and print it."""
    from hpcfilter.jobs import commands

    does = getattr(commands, words.command)
    if words.command == "submit_jobs" and not words.dry_run:
        does(words)  # to the last job, or with a traceback
    else:
        shown(does, words)
