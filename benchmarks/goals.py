"""The goals of speed beside what was measured, and the tables of the evidence, as docs/ shows them, from
benchmarks/results/ alone.

`python -m benchmarks goals --write docs` puts each between its two comments in its page; a test holds the
pages against the results.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks.evidence_table import evidence_tables
from hpcfilter.base.errors import InputError
from hpcfilter.study.report import TextTable, read_results
from hpcfilter.study.report.form import number

RESULTS = Path(__file__).parent / "results"
LAST = "train.channels_last=true"
PAGES = {"goals": "benchmarks.md"}  # part -> page; all others stand in the page of the evidence
EVIDENCE = "evidence.md"
SHOWN = {"fashion_mnist": "evidence", "fashion_mnist_noise": "evidence, wrong labels",
         "fashion_mnist_long_tail": "evidence, rare classes"}


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks goals", description=__doc__)
    parser.add_argument("--results", default=RESULTS, help="folder of results (default benchmarks/results)")
    parser.add_argument("--write", type=Path, metavar="docs",
                        help="put the tables into the pages of this folder")
    words = parser.parse_args(words)
    texts = parts(read_results(words.results))
    print("\n\n".join(texts.values()))
    if words.write:
        for name, text in texts.items():
            page = words.write / PAGES.get(name, EVIDENCE)
            page.write_text(placed(page.read_text(), name, text))


def parts(results):
    """What the pages show of results (list of dict). Returns name of the part -> Markdown."""
    found = {"goals": goals(results).markdown()}
    for plan, name in SHOWN.items():
        if rows := [row
                    for row in results if row["case"] == "evidence" and row["parameters"]["plan"] == plan]:
            # what the columns are stands once in the page, above all tables
            tables = [replace(table, notes=[]) for table in evidence_tables(rows)]
            found[name] = "\n\n".join(table.markdown().replace("## ", "### ", 1) for table in tables)
    return found


def placed(page, name, text):
    """The page with the text between the two comments of that name. Raises InputError without them."""
    first, last = f"<!-- {name}: python -m benchmarks goals --write docs -->", f"<!-- end of {name} -->"
    before, begin, rest = page.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise InputError(f"expected the comments {first} and {last}")
    return f"{before}{first}\n{text}\n{last}{after}"


def goals(results):
    """Table of every goal: what, goal, measured, whether it is reached. results: list of dict, of
    which the newest counts."""
    rows = [row for lines in (_reader, _loop, _epoch, _scoring, _growth, _allreduce)
            for row in lines(results)]
    said = {True: "yes", False: "**no**", None: "-"}
    lines = [[what, goal, measured, said[reached], f"`{command}`"]
             for what, goal, measured, reached, command in rows]
    return TextTable("", ["what", "goal", "measured", "reached", "python -m benchmarks"], lines)


def newest(results, case, **parameters):
    """The last result of a case with these parameters. Raises InputError when there is none."""
    found = [row for row in results if row["case"] == case
             and all(row["parameters"].get(name) == value for name, value in parameters.items())]
    if not found:
        raise InputError(f"benchmarks/results: nothing of the case {case} with {parameters}; run it first")
    return found[-1]


def _reader(results):
    ratio = newest(results, "reader", cache="warm", bytes=3072)["ratio"]
    for against, least, what in (("take", 0.90, "`np.take` from memory"), ("dset[i]", 15, "`dset[i]`"),
                                 ("dset[sorted]", 40, "h5py fancy indexing")):
        value = ratio[f"rows / {against}"]
        yield (f"reader, 3 KB rows, 70 % kept, warm: against {what}", f"≥ {least:g}", number(value),
               value >= least, "reader")
    decoded = newest(results, "reader", source="chunked, gzip")
    yield ("a chunked, compressed file: times each chunk is decoded, ever (by `pack`; none per epoch)",
           "≤ 1 per epoch", number(decoded["decoded"] / decoded["chunks"]),
           decoded["decoded"] <= decoded["chunks"], "reader")
    for size, what in ((115_248, "115 KB"), (3072, "3 KB")):
        row = newest(results, "reader", cache="cold", bytes=size)
        value = row["disk"] / row["wanted"]
        yield (f"bytes from a cold disk, per byte of the kept rows, {what} rows", "≤ 1.05", number(value),
               value <= 1.05, "reader" if size == 3072 else "reader --shape 196 196 3 --samples 8000")


def _loop(results):
    for settings in ([], [LAST]):
        row = newest(results, "loop", settings=settings)
        words = "".join(f" --set {setting}" for setting in settings)
        yield ("loop without a filter, rate against a minimal Horovod "
               f"loop{', channels last' * bool(settings)}", "≥ 0.98", _spread(row["ratio"]),
               row["ratio"]["median"] >= 0.98, f"loop --data data.h5{words}")


def _epoch(results):
    for fraction in (0.3, 0.5):
        row = newest(results, "epoch", fraction=fraction, settings=[LAST])
        goal = 1 - row["hidden"] + 0.02
        yield (f"epoch with {100 * row['hidden']:.1f} % hidden (KAKURENBO without refresh), of the time of a "
               "whole one", f"≤ {goal:.3f}", _spread(row["ratio"]), row["ratio"]["median"] <= goal,
               f"epoch --data data.h5 --set {LAST}")
        yield (f"selection, rebalancing and scoring, of that epoch ({fraction:g})", "≤ 1 %",
               f"{100 * row['overhead']['median']:.2f} %", row["overhead"]["median"] <= 0.01,
               f"epoch --data data.h5 --set {LAST}")


def _scoring(results):
    for model in ("cnn", "resnet18"):
        row = newest(results, "scoring", model=model)
        yield (f"scoring against training, samples/s, the best setting of each, {model}", "≥ 2.8",
               number(row["ratio"]["best"]), row["ratio"]["best"] >= 2.8,
               "scoring --data data.h5")


def _growth(results):
    rows = [row for row in results
            if row["case"] == "growth" and row["parameters"]["way"] == "sample" and "payload" in row]
    if not rows:
        raise InputError("benchmarks/results: nothing of the case growth; run it first")
    grown = [row for row in rows if row["parameters"]["table"] == "N grows" and row["ranks"] == 2]
    few, many = (pick(grown, key=lambda row: row["parameters"]["samples"]) for pick in (min, max))
    value = many["payload"] / few["payload"]
    sizes = f"{few['parameters']['samples']:.0e} to {many['parameters']['samples']:.0e}".replace("e+0", "e")
    yield (f"bytes per rank of one threshold, {sizes} keys, 2 ranks", "flat", f"{number(value)} times",
           value <= 1.05, "growth")
    wide = sorted((row for row in rows if row["parameters"]["table"] == "P grows"),
                  key=lambda row: row["ranks"])
    value = max(row["memory"] for row in wide) / min(row["memory"] for row in wide)
    ranks = f"{wide[0]['ranks']} to {wide[-1]['ranks']} ranks"
    yield (f"memory per rank at as many keys per rank, {ranks}", "flat", f"{number(value)} times",
           value <= 1.05, "growth")
    off = [abs(row["modelled"]["seconds"] / row["seconds"]["median"] - 1) for row in grown]
    yield (f"its time as modelled, 2 ranks, {sizes} keys: most off", "as modelled", f"{100 * max(off):.0f} %",
           max(off) <= 0.25, "growth")


def _allreduce(results):
    for library in ("MPI", "Horovod"):
        newest(results, "allreduce", library=library)
        rows = [row for row in results if row["case"] == "allreduce"
                and row["parameters"].get("library") == library and row["ranks"] == 2]
        most, others = ([row["error"][which] for row in rows] for which in ("most", "held out, most"))
        yield (f"alpha-beta model of {library}'s allreduce, 1 KB to 64 MB, 2 ranks: "
               "error at most, of each run", "≤ 15 %", _percent(most), max(most) <= 0.15, "allreduce")
        yield (f"the same, fitted to every second size: error at most on the others, {library}",
               "-", _percent(others), None, "allreduce")


def _percent(values):
    return f"{', '.join(f'{100 * value:.0f}' for value in values)} %"


def _spread(value):
    return f"{value['median']:.3f} ({value['min']:.3f} to {value['max']:.3f})"
