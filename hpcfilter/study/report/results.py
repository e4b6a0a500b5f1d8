"""Results of benchmarks: JSON lines with where they come from, as one table per case."""

import json
from pathlib import Path

from hpcfilter.base.errors import InputError
from hpcfilter.base.paths import kind, trouble
from hpcfilter.study.predict import Fit
from hpcfilter.study.report.form import TextTable, word

NEEDED = ("case", "parameters", "machine", "commit", "date")
PROVENANCE = ("case", "versions", "machine", "commit", "date", "unit")


def read_results(path):
    """The results of a file of JSON lines, or of all of them in a folder: list of dict. Raises InputError."""
    path, results = Path(path), []
    for file in sorted(path.glob("*.jsonl")) if path.is_dir() else [path]:
        try:
            found = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
        except OSError as error:
            raise InputError(f"{file}: cannot be read as JSON lines: {trouble(error)}") from None
        except ValueError:
            raise InputError(f"{file}: cannot be read as JSON lines: "
                             f"it is {kind(file) or 'not text, or of another form'}; "
                             "expected results of python -m benchmarks, or a run folder") from None
        for row in found:
            if not isinstance(row, dict) or (missing := [name for name in NEEDED if name not in row]):
                raise InputError(f"{file}: not results of benchmarks; expected lines with {', '.join(NEEDED)}"
                                 + (f", {', '.join(missing)} missing" if isinstance(row, dict) else ""))
        results += found
    return results


def results_tables(results):
    """One TextTable per case: what it was run with, then what it gave. Lists of numbers are
    shown by their length."""
    cases = {}
    for result in results:
        cases.setdefault(result["case"], []).append(result)
    tables = []
    for case, rows in cases.items():
        flat = [_flat({key: value for key, value in row.items() if key not in PROVENANCE}) for row in rows]
        head = list(dict.fromkeys(name for row in flat for name in row))
        about = sorted({f"{row['date']} on {row['machine']}, commit {(row['commit'] or 'unknown')[:8]}, "
                        f"unit {row.get('unit', '-')}" for row in rows})
        tables.append(TextTable(case, ["date", *head],
                                [[row["date"], *(_cell(found.get(name)) for name in head)]
                                 for row, found in zip(rows, flat, strict=True)], about))
    return tables


def fits(results, library="Horovod"):
    """The fitted models of allreduces in results of the case `allreduce`: ranks ->
    predict.Fit, the newest of each."""
    return {row["ranks"]: Fit(row["ranks"], tuple(row["edges"]), tuple(map(tuple, row["lines"])))
            for row in results if row["case"] == "allreduce" and row["parameters"].get("library") == library}


def _flat(values, before=""):
    found = {}
    for key, value in values.items():
        name = f"{before}{key}".removeprefix("parameters.")
        found.update(_flat(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return found


def _cell(value):
    if isinstance(value, list):
        return f"{len(value)} values" if len(value) > 3 else ", ".join(word(_cell(each)) for each in value)
    return (value if (isinstance(value, int | float) and not isinstance(value, bool)) or value is None
            else str(value))
