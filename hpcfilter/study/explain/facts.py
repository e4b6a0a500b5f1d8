"""What is known of a policy, a score or a machine beside its docstring, as lines of (what, in words)."""

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.jobs.machine import load_machine, profiles
from hpcfilter.select.policies import facts_of
from hpcfilter.study.explain import docs

NEEDS = {  # attribute of a score -> what it needs
    "needs_classes": "class labels",
    "needs_features": "what goes into the last linear layer",
    "needs_batches": "the mean loss of the global batch",
    "needs_passes": "passes over a finished network (hpcfilter score)",
}


def facts(table, thing):
    """The facts of what a table names: list of (what, words). table: such as "filter"."""
    found = {"filter": of_policy, "score": of_score}.get(table, lambda thing: [])(thing)
    texts = docs.head(thing) if table != "model" else "", docs.document(thing)  # models share a file
    papers = [("paper", address) for address in docs.papers(*texts)]
    return [*found, *papers, ("code", docs.file(thing))]


def of_policy(policy):
    """By which score it ranks, what it needs, what it reads."""
    known, found = facts_of(policy), []
    if known.score:
        instead = f"(explain score.{known.score}), unless [score] names another"
        found.append(("ranks by", f"{known.score} {instead}"))
    if known.needs_classes:
        found.append(("needs", "class labels"))
    if known.given:
        found.append(("reads", f"{known.given[0]}: a table with {' and '.join(known.given[1])}"))
    return found


def of_score(score):
    """What it needs, when it is known, what it remembers."""
    needs = [said for name, said in NEEDS.items() if getattr(score, name)]
    warmup, bytes_each = score().warmup, memory(score)
    return [
        ("needs", ", ".join(needs) or "a loss per sample"),
        ("known after", f"{warmup} observation{'s' * (warmup > 1)}"),
        ("remembers", f"{bytes_each} bytes per sample" if bytes_each else "nothing beyond the importance"),
    ]


def memory(score):
    """Bytes per sample that a score remembers, at the defaults of its parameters."""
    return sum(np.dtype(kind).itemsize for kind, _ in score().columns.values())


def machine_line(name):
    """A machine in a line."""
    try:
        machine = load_machine(name)
        gone = f"; gone ({machine.retired})" if machine.retired else ""
        node = f"{machine.node.cpus} cores, {machine.node.gpus} GPUs"
        return f"{machine.scheduler}; {node}; {machine.about}{gone}"
    except InputError as error:
        return f"cannot be used: {error}"


def of_machine(name):
    """Scheduler, node, queues, source of the facts. Raises InputError for a profile that is wrong."""
    machine = load_machine(name)
    found = [
        ("is", machine.about),
        ("gone", machine.retired or ""),
        ("like", machine.like or ""),
        ("scheduler", machine.scheduler),
        ("node", f"{machine.node.cpus} cores, {machine.node.gpus} GPUs {machine.node.gpu}".rstrip()),
        ("asks for", ", ".join(machine.requires)),
        ("queues", ", ".join(dict.fromkeys(limit.queue for limit in machine.limits))),
        ("source", f"{machine.source} ({machine.date})"),
        ("checked", machine.checked),
        ("file", str(profiles()[name])),
    ]
    return [fact for fact in found if fact[1]]
