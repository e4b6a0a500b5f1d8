"""The tables of the machines, from their profiles; the heads of scripts, from the tests' golden files."""

import re

from hpcfilter.jobs.machine import files, load_machine
from made import markdown

HEAD = ["name", "what it is", "scheduler", "facts from", "of", "unverified", "checked"]
SCRIPTS = {"ibrun": "vista", "openmpi": "abci", "sge": "tsubame4"}  # kind of script -> a machine that has it
MARK = "unverified"


def parts():
    """Name of a part of a page -> its text."""
    names = sorted(path.stem for path in (files() / "machines").glob("*.toml"))
    machines = [load_machine(name) for name in names]
    return {
        "machines": _table([machine for machine in machines if not machine.retired]),
        "machines that are gone": _gone([machine for machine in machines if machine.retired]),
        **{f"script of {kind}": _head(name) for kind, name in SCRIPTS.items()},
    }


def _table(machines):
    return markdown.table(HEAD, [_row(machine) for machine in machines])


def _row(machine):
    about = machine.about + (f" (like `{machine.like}`)" if machine.like else "")
    return [f"`{machine.name}`", about, machine.scheduler, machine.source, str(machine.date),
            unverified(machine.name), machine.checked]


def unverified(name):
    """How much of a profile could not be verified, in words, by its comments."""
    text = (files() / "machines" / f"{name}.toml").read_text()
    if whole := re.search(f"# {MARK}, (all of it|from here on)", text):
        return {"all of it": "all of it", "from here on": "most of it"}[whole[1]]
    places = text.count(MARK)
    return f"{places} place{'s' * (places > 1)}" if places else ""


def _gone(machines):
    rows = [[f"`{machine.name}`", machine.about, machine.scheduler, machine.retired] for machine in machines]
    return markdown.table(["name", "what it is", "scheduler", "gone since"], rows)


def _head(name):
    """The directives of a script, and how it starts the ranks."""
    golden = files().parent / "tests" / "jobs" / "golden" / f"{name}.sh"
    lines = golden.read_text().splitlines()
    directives = lines[: lines.index("")]
    launch = [_wrapped(line) for line in lines if line.startswith(("launcher=(", "per_node=("))]
    return "\n".join(["```sh", *directives, "...", *launch, "...", "```"])


def _wrapped(line):
    """A long line of the shell on several, before its options."""
    return re.sub(r"(.{60,100}?) (?=-x|\$)", "\\1 \\\\\n  ", line)
