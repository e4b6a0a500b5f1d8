"""What tests ask of commands and of the runs that they leave."""

import json


def ok(done):
    """The CompletedProcess, of a command that has gone well."""
    assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done


def rows(run_dir, kind):
    """The rows of one kind that a run has written, as dicts."""
    found = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return [row for row in found if row["kind"] == kind]
