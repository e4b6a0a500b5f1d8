"""The command line: it finds the verbs in their districts, and ends the process as it should. No verb's own
words, no logic.

A verb is a module with SUMMARY (a line), EXAMPLE, `add(parser)` and `run(words, comm)`. It must be cheap to
import: what it needs for its work it imports when it runs. `add` may set two defaults: `alone`, for a verb
that never has other ranks, and `early`, what to do at once.

argparse, not typer or cyclopts: those take 0.11 s to import, argparse 0.01 s (medians of five, `--help` of
two verbs), and their refusals are boxes of several lines, printed by each rank. Ours are one line, said once
for all ranks, like every other error.
"""

import importlib
import os
import sys
import time
import traceback

from hpcfilter import __version__
from hpcfilter.base.alive import faults, notice
from hpcfilter.base.errors import Failure, InputError, Interrupted, Refusal
from hpcfilter.base.options import Parser
from hpcfilter.comm import SerialComm, speaks, world

VERBS = {  # in the order in which one needs them -> where they live
    "pack": "hpcfilter.pack.verb",
    "train": "hpcfilter.train.verb",
    "score": "hpcfilter.study.verbs.score",
    "select": "hpcfilter.study.verbs.select",
    "probe": "hpcfilter.study.verbs.probe",
    "report": "hpcfilter.study.verbs.report",
    "jobs": "hpcfilter.jobs.verb",
    "doctor": "hpcfilter.jobs.doctor.verb",
    "explain": "hpcfilter.study.verbs.explain",
}
SITES_OWN = "torch", "mpi4py"  # which an installation of hpcfilter does not bring
FIRST_WORD = 1  # seconds that rank 0 has to report a failure before the others do
LAST_WORD = (
    0.5  # seconds that the launcher has to pass the report on, before an abort may make it drop what it holds
)


def main(argv=None):
    """Run one command. Returns the exit code: 0 done, or stopped in time; 2 bad input (one line on the error
    output of rank 0); 130 after Ctrl-C; 1 else. Without a verb it shows the help."""
    comm, words, problem = None, None, None
    if os.getcwd() not in sys.path:
        sys.path.append(
            os.getcwd()
        )  # the user's own package.module is found here; last, so that it takes the place of nobody else's
    try:
        words = parser().parse_args(sys.argv[1:] if argv is None else argv)
        if words.does is None:
            return _help(words)
        words.early()
        comm = SerialComm() if words.alone else world()
        with comm.together():
            if text := os.environ.get("HPCFILTER_FAULT"):
                faults.arm(text, comm.rank)
        words.does(words, comm)
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
    return _end(problem, words, comm)


def parser():
    """The parser of the whole command line, with all verbs."""
    whole = Parser(
        prog="hpcfilter",
        description="Train deep networks on supercomputers on the samples that matter.",
        epilog="More of a verb: hpcfilter VERB --help. Of policies, scores, models and keys: "
               "hpcfilter explain",
    )
    whole.add_argument("--version", action="version", version=f"hpcfilter {__version__}")
    whole.set_defaults(does=None, help=whole.print_help, alone=False, early=lambda: None)
    verbs = whole.add_subparsers(title="verbs", metavar="VERB")
    for name, module in VERBS.items():
        verb = importlib.import_module(module)
        one = verbs.add_parser(name, help=verb.SUMMARY, description=verb.SUMMARY, epilog=verb.EXAMPLE)
        one.set_defaults(does=verb.run)
        verb.add(one)
    return whole


def _help(words):
    """Nothing was asked for: show what can be. Returns the exit code."""
    if speaks():
        words.help()
    return 0


def _end(problem, words, comm):
    """Say the problem, once for all ranks, and close what is open. problem: Refusal or None. Returns the exit
    code."""
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
        os._exit(
            problem.code
        )  # the HDF5 library crashes when it is closed after a write that the disk has refused
    if comm is not None:
        comm.close()
    notice.ignore()  # the process ends here
    return problem.code if problem else 0


def _abort(comm, code, text):
    """End all ranks for a problem that the others may know nothing of, while they wait for this one. text:
    goes on behind "rank R"."""
    time.sleep(
        min(comm.rank, FIRST_WORD)
    )  # when all ranks fail alike, rank 0 speaks and its abort silences the others
    print(f"hpcfilter: rank {comm.rank}{text}", file=sys.stderr, flush=True)
    time.sleep(LAST_WORD)
    comm.abort(code)
