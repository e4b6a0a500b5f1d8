"""The command line: verbs and their words, no logic. What a verb needs is imported when it is called."""

import os
import sys
import time
import traceback
from functools import partial

from hpcfilter import __version__
from hpcfilter.base.alive import faults, notice
from hpcfilter.base.errors import Failure, InputError, Interrupted, Refusal
from hpcfilter.base.options import Parser, number, numbers, path, real, share, whole
from hpcfilter.comm import SerialComm, speaks, world
from hpcfilter.pack import verb as pack_verb

SITES_OWN = "torch", "mpi4py"  # which an installation of hpcfilter does not bring
FIRST_WORD = 1  # seconds that rank 0 has to report a failure before the others do
LAST_WORD = 0.5  # seconds that the launcher has to pass the report on, before an abort may make it drop what it holds


def main(argv=None):
    """Run one command. Returns the exit code: 0 done, or stopped in time; 2 bad input (one line on the error output of rank 0); 130 after
    Ctrl-C; 1 else."""
    comm, words, problem = None, None, None
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # the user's own package.module is found here; last, so that it takes the place of nobody else's
    try:
        words = _parse(sys.argv[1:] if argv is None else argv)
        if words.run is _train:
            notice.listen()  # early: notice to leave may come while torch is being imported
        comm = SerialComm() if words.run is _jobs else world()
        with comm.together():
            if text := os.environ.get("HPCFILTER_FAULT"):
                faults.arm(text, comm.rank)
        words.run(words, comm)
    except Refusal as error:
        problem = error
    except KeyboardInterrupt:
        problem = Interrupted("interrupted")
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in SITES_OWN:
            problem = InputError(f"{error.name} is not installed for {sys.executable}; this verb needs it")
        elif comm is None or comm.size == 1:
            raise
        else:
            _abort(comm, 1, f" of {comm.size} failed:\n{traceback.format_exc()}")
    if isinstance(problem, Interrupted):
        notice.end_at_once()
    said = str(problem)
    if problem and (hasattr(words, "traceback") or os.environ.get("HPCFILTER_TRACEBACK")):
        said += f"\n{problem.trace or ''.join(traceback.format_exception(problem))}"
    if problem and comm is not None and comm.size > 1 and not problem.shared:
        _abort(comm, problem.code, f": {said}")
    if problem and (speaks() if comm is None else comm.rank == 0):
        print(f"hpcfilter: {said}", file=sys.stderr, flush=True)
    elif problem and comm is None:
        time.sleep(FIRST_WORD)  # the first rank that leaves makes the launcher end the others
    if isinstance(problem, Failure) and comm.size == 1:
        sys.stdout.flush()
        os._exit(problem.code)  # the HDF5 library crashes when it is closed after a write that the disk has refused
    if comm is not None:
        comm.close()
    notice.ignore()  # the process ends here
    return problem.code if problem else 0


def _parse(words):
    """The words of the command line, as its namespace. Without any, the help is shown before they are refused."""
    parser = _parser()
    if not words and speaks():
        parser.print_help()
    return parser.parse_args(words)


def _abort(comm, code, text):
    """End all ranks for a problem that the others may know nothing of, while they wait for this one. text: goes on behind "rank R"."""
    time.sleep(min(comm.rank, FIRST_WORD))  # when all ranks fail alike, rank 0 speaks and its abort silences the others
    print(f"hpcfilter: rank {comm.rank}{text}", file=sys.stderr, flush=True)
    time.sleep(LAST_WORD)
    comm.abort(code)


def _parser():
    parser = Parser(prog="hpcfilter", description="Train deep networks on supercomputers on the samples that matter.")
    parser.add_argument("--version", action="version", version=f"hpcfilter {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    pack_verb.add(verbs.add_parser("pack", help="make a packed file of a data set"))

    train = verbs.add_parser("train", help="train as a run config says (under mpirun, srun or jsrun: on all ranks)")
    train.add_argument("config", type=path, help="run config, TOML")
    train.add_argument("--run-dir", type=path, required=True, help="folder for everything the run leaves behind")
    train.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in the run folder")
    _add_settings(train)
    train.set_defaults(run=_train)

    score = verbs.add_parser("score", help="score every training sample with a checkpoint of a run")
    score.add_argument("run_dir", type=path, help="run folder")
    score.add_argument("--epoch", type=whole, help="which checkpoint (default: the newest)")
    score.add_argument("-o", "--output", type=path, help="the table to write (default: scores.h5 in the run folder)")
    _add_settings(score)
    score.set_defaults(run=_score)

    select = verbs.add_parser("select", help="choose the samples to keep from a score table")
    select.add_argument("scores", type=path, help="table made by `hpcfilter score`")
    select.add_argument("--fraction", type=real, required=True, help="share of the samples of lowest importance to hide, in [0, 1)")
    select.add_argument("--highest", type=real, default=0.0, help="share of the samples of highest importance to hide as well (default 0)")
    select.add_argument("-o", "--output", type=path, help="the table to write (default: selection.h5 beside the scores)")
    select.set_defaults(run=_select)

    _add_probe(verbs.add_parser("probe", help="measure the loss landscape around a checkpoint of a run: curvature, slices, sharpness, barrier"))

    _add_jobs(verbs.add_parser("jobs", help="job scripts for the scheduler of a machine: render, check, submit"))

    doctor = verbs.add_parser("doctor", help="is this machine ready? (under mpirun, srun or jsrun: on all ranks)")
    doctor.add_argument("--folder", type=path, default=".", help="where HDF5 is tried (default: the current folder)")
    doctor.set_defaults(run=_doctor)

    _add_report(verbs.add_parser("report", help="compare runs, report a scaling study or benchmark results; a page for a proposal"))
    return parser


def _add_probe(parser):
    parser.add_argument("run_dir", type=path, help="run folder")
    parser.add_argument("--epoch", type=whole, help="which checkpoint (default: the newest)")
    parser.add_argument("--what", type=lambda text: text.split(","), default=[], metavar="PART[,PART...]",
                        help="curvature, slices, map, sharpness, barrier (default: all that apply)")
    parser.add_argument("--other", type=path, metavar="RUN_DIR", help="run folder whose weights the barrier is measured to, at the same --epoch")
    parser.add_argument("--selection", type=path, metavar="FILE", help="table of `hpcfilter select` (default: what the run's policy would keep next)")
    parser.add_argument("--samples", type=partial(number, digits=12), metavar="N", help="look at no more than N samples of each set (default: all)")
    parser.add_argument("--batch", type=number, metavar="N", help="samples of a forward pass (default: what has fit in training, 512 at most)")
    for name, kind, default, what in (("points", whole, 51, "of a line"), ("directions", whole, 3, "lines"),
                                      ("grid", whole, 15, "points of a side of the plane"),
                                      ("span", real, 1.0, "how far lines and plane reach, in lengths of the weights"),
                                      ("eigenvalues", whole, 5, "how many"), ("probes", whole, 32, "random vectors for the trace"),
                                      ("rho", real, 0.05, "radius of the sharpness")):
        parser.add_argument(f"--{name}", type=kind, default=default, metavar="N" if kind is whole else "X", help=f"{what} (default {default})")
    parser.add_argument("-o", "--output", type=path, help="the file to write, or to go on with (default: probe.h5 in the run folder)")
    parser.add_argument("--restart", action="store_true", help="begin anew, whatever stands in the file")
    _add_settings(parser)
    parser.set_defaults(run=_probe)


def _add_report(parser):
    parser.add_argument("paths", type=path, nargs="+", metavar="PATH",
                        help="run folders; folders with run folders below (a scaling study); results (.jsonl)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--text", dest="format", action="store_const", const="text", help="of runs: the short form, a table, instead of the page")
    form.add_argument("--format", choices=["text", "markdown", "csv"], help="of the tables (default text)")
    parser.add_argument("-o", "--output", type=path, metavar="FILE",
                        help="write here: FILE.html the page of runs (default: report.html), else the tables")
    parser.add_argument("--picture", type=path, help="draw into this file (.png, .svg, .pdf)")
    parser.add_argument("--target", type=share, metavar="ACCURACY", help="of a study: test accuracy to time (default: what all runs reach)")
    parser.add_argument("--allreduce", type=path, metavar="FILE",
                        help="of a study: results of `python -m benchmarks allreduce`, for the modelled allreduce")
    parser.add_argument("--proposal", type=path, metavar="FILE.md", help="of a study: write a page for a facility proposal")
    parser.add_argument("--machine", help="of a proposal: carry the model to this machine")
    parser.add_argument("--walltime", metavar="[D-]HH:MM:SS", help="of a proposal: of one job (default: the machine's)")
    parser.add_argument("--epochs", type=number, help="of a proposal: epochs of one training (default: as the runs' config says)")
    parser.add_argument("--trainings", type=number, help="of a proposal: how many (default 1)")
    parser.set_defaults(run=_report)


def _add_jobs(parser):
    parser.set_defaults(run=_jobs)
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    for name, does, summary in (("render", "render_script", "print the job script of a run config"),
                                ("check", "check_layout", "say how the ranks lie on the nodes and what the job costs; refuse what does not fit"),
                                ("submit", "submit_jobs", "write the job script into the run folder and submit it")):
        verb = verbs.add_parser(name, help=summary)
        verb.add_argument("config", type=path, help="run config, TOML, perhaps with a table [job]")
        verb.add_argument("--machine", help="see: hpcfilter jobs list-machines")
        verb.add_argument("--nodes", type=numbers, metavar="N[,N...]", help="how many nodes; several numbers: a scaling study, one job for each")
        verb.add_argument("--walltime", metavar="[D-]HH:MM:SS")
        verb.add_argument("--account")
        verb.add_argument("--queue")
        verb.add_argument("--run-dir", type=path, help="run folder (default: runs/ and the name of the job)")
        _add_settings(verb)
        verb.set_defaults(does=does)
    verb.add_argument("--dry-run", action="store_true", help="only show what would be written and submitted")
    verb.add_argument("--chain", type=number, default=1, metavar="N", help="N jobs, one after the other, that leave at once when the run is done")
    verb.add_argument("--repeats", type=number, default=1, metavar="N", help="N runs of each size (Slurm: a job array)")
    stage = verbs.add_parser("stage", help="bring a packed file to this node's own storage (job scripts do, once on each node)")
    stage.add_argument("source", type=path, help="packed file, or the archive that holds it")
    stage.add_argument("dest", help="path of the file on the node, where its variables are expanded")
    stage.add_argument("--method", choices=["copy", "tar", "check"], default="copy", help="check: of a file that is there already (default copy)")
    stage.add_argument("--part", nargs=2, type=number, metavar=("NODES", "RANKS_PER_NODE"),
                       help="only the rows of this node's ranks, for shard order")
    stage.set_defaults(does="stage_data")
    verbs.add_parser("list-machines", help="the machines that are known").set_defaults(does="list_machines")


def _add_settings(parser):
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="A.B=VALUE", help="override one key of the run config")


def _train(words, comm):
    from hpcfilter.train.run import train

    train(words.config, words.run_dir, comm, words.settings, words.resume)


def _score(words, comm):
    from hpcfilter.study.static.score import score

    path, columns = score(words.run_dir, comm, words.settings, words.epoch, words.output)
    if comm.rank == 0:
        print(f"{path}: {', '.join(columns)}")


def _select(words, comm):
    from hpcfilter.study.static.select import select

    path, about = select(words.scores, comm, words.fraction, words.output, words.highest)
    if comm.rank == 0:
        print(f"{path}: {about['kept']} samples kept, threshold {about['threshold']}")


def _probe(words, comm):
    from hpcfilter.study.landscape import Options, probe, summary

    with comm.together():
        options = Options(**{name: getattr(words, name) for name in Options.__annotations__})
    path, found = probe(words.run_dir, comm, words.settings, words.epoch, words.output, options, words.restart)
    if comm.rank == 0:
        print(f"{summary(found)}\n{path}")


def _shown(show, words):
    """Call `show`, which prints. When nobody reads on, as behind `| head`, what is left goes nowhere, also when Python flushes at its end."""
    try:
        show(words)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _jobs(words, comm):
    from hpcfilter.jobs import verbs

    does = getattr(verbs, words.does)
    if words.does == "submit_jobs" and not words.dry_run:
        does(words)  # to the last job, or with a traceback
    else:
        _shown(does, words)


def _doctor(words, comm):
    from hpcfilter.jobs.doctor import doctor

    problems = doctor(comm, words.folder)
    with comm.together():
        if problems:
            raise Failure(f"doctor: found {len(problems)} problem{'s' * (len(problems) > 1)}")


def _report(words, comm):
    from hpcfilter.study.report import report

    comm.on_first(lambda: _shown(report, words))
