"""`hpcfilter report`: what its paths hold decides what is shown."""

import sys
from pathlib import Path

from hpcfilter.base.errors import InputError
from hpcfilter.base.files import replace_text
from hpcfilter.base.paths import check_output, trouble
from hpcfilter.jobs.machine import load_machine
from hpcfilter.jobs.schema import seconds_of
from hpcfilter.study.report.page import page
from hpcfilter.study.report.plots import results_picture
from hpcfilter.study.report.proposal import proposal
from hpcfilter.study.report.results import fits, read_results, results_tables
from hpcfilter.study.report.runs import compare, has_epoch, picture
from hpcfilter.study.report.scaling import picture as scaling_picture
from hpcfilter.study.report.scaling import tables
from hpcfilter.study.report.study import find_runs, study

OF_A_RUN = ("metrics.jsonl", "config.toml")  # files that are read
# endings of what a report may be written over
MADE = (".html", ".txt", ".md", ".csv", ".tsv", ".png", ".svg", ".pdf")
OF_A_PROPOSAL = ("machine", "walltime", "epochs", "trainings")  # options


def report(words):
    """Write the page of run folders; print or write the tables of runs, of studies (folders with run folders
    below) or of benchmark results; draw; write the page for a proposal.

    words: the parsed command line. Raises InputError for paths that hold neither runs nor results, and
    for what cannot be written.
    """
    _check_outputs(words)
    if not words.proposal and (idle := [name for name in OF_A_PROPOSAL if getattr(words, name) is not None]):
        raise InputError(f"report: --{idle[0]} is of a proposal; give --proposal FILE.md too")
    results = [path for path in words.paths if _holds_results(path)]
    if results and len(results) < len(words.paths):
        raise InputError(f"report: got benchmark results ({results[0]}) beside runs; "
                         "expected one kind (measured allreduces: --allreduce FILE)")
    if not results:
        return _runs(words)
    if words.proposal:
        raise InputError("report: --proposal is of runs; got benchmark results")
    rows = [row for path in results for row in read_results(path)]
    _put(words, results_tables(rows))
    return words.picture and _made(results_picture, rows, words.picture)


def _check_outputs(words):
    """Refuse, before anything is read, what cannot be written, would overwrite what is
    reported, or is written twice."""
    files = [file for path in words.paths for folder in [Path(path), *find_runs(path)]
             for file in (folder, *(folder / name for name in OF_A_RUN))]
    outputs = {f"--{name}": path
               for name in ("output", "picture", "proposal") if (path := getattr(words, name))}
    for number, (where, path) in enumerate(outputs.items()):
        check_output(path, [*files, *([words.allreduce] if words.allreduce else [])], where, _is_report,
                     "report, table or picture by its name")
        for other in list(outputs)[:number]:
            if Path(path).absolute() == Path(outputs[other]).absolute():
                raise InputError(f"{path}: is to be written by {other} and by {where}; expected two files")


def _runs(words):
    if all(_is_run(path) for path in words.paths) and not (words.proposal or words.allreduce or words.target):
        if words.picture:  # first: it is refused for a run that has just begun
            _made(picture, words.paths, words.picture)
        return _write_page(words) if _wants_page(words) else _put(words, [compare(words.paths)])
    plan = {"machine": load_machine(words.machine) if words.machine else None, "epochs": words.epochs,
            "trainings": words.trainings or 1, "walltime": seconds_of(words.walltime) if words.walltime
            else None, "allreduces": fits(read_results(words.allreduce)) if words.allreduce else {}}
    points, target = study(_finished_epochs(words.paths), words.target)
    bid = proposal(points, target, **plan) if words.proposal else None
    _put(words, tables(points, target, plan["allreduces"]))
    if words.picture:
        _made(scaling_picture, points, words.picture)
    if bid:
        _write(words.proposal, bid)
        print(f"{words.proposal}: node-hours, efficiency, storage, walltimes")
    return None


def _wants_page(words):
    """Runs become a page, unless the words ask for something else: a form of the table, another kind of
    file, a picture alone."""
    return (words.format is None
            and (Path(words.output).suffix == ".html" if words.output else not words.picture))


def _write_page(words):
    path = words.output or (Path(words.paths[0]) if len(words.paths) == 1 else Path()) / "report.html"
    _write(path, page(words.paths))
    print(f"{path}: open it in a browser")


def _finished_epochs(paths):
    """The run folders at and below the paths; those that were found below and have no epoch yet are named and
    left out. Raises InputError."""
    runs = []
    for path in paths:
        for folder in find_runs(path) or [Path(path)]:  # what holds no run is refused when it is read
            if folder != Path(path) and not has_epoch(folder):
                print(f"hpcfilter: warning: {folder} has no finished epoch yet, and is left out",
                      file=sys.stderr)
                continue
            runs.append(folder)
    return runs


def _is_run(path):
    return (Path(path) / "metrics.jsonl").exists() or not find_runs(path)


def _holds_results(path):
    path = Path(path)
    return path.suffix == ".jsonl" or (any(path.glob("*.jsonl")) and not find_runs(path))


def _put(words, found):
    form = words.format or "text"
    text = ("\n" if form == "csv" else "\n\n").join(getattr(table, form)() for table in found)
    if words.output:
        _write(words.output, text + "\n")
    else:
        print(text)


def _made(draw, of, path):
    draw(of, path)
    print(f"{path}: drawn")


def _write(path, text):
    try:
        replace_text(Path(path), text)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {trouble(error)}") from None


def _is_report(path):
    return str(path).lower().endswith(MADE)
