"""What `hpcfilter explain NAME` prints."""

import shutil
import textwrap

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.base.names import meant
from hpcfilter.base.own import imported, name_of
from hpcfilter.jobs.machine import load_machine, profiles
from hpcfilter.select.policies import facts_of
from hpcfilter.select.policies.guards import guarded
from hpcfilter.study.explain import docs, keys, names

WIDEST = 100  # columns
INDENT = 20  # columns of the names
SHARE_FILES = "score", "model"  # tables of which several things stand in a file


def explain(name):
    """The explanation of a name, text of several lines. Raises InputError for one that nobody knows, with the one that may be meant.

    name: of a table ("optim"), a key ("optim.lr"), what a table names ("filter.kakurenbo"), the last word of these where only one has it, the word
    for many ("policies"), or of the user's own ("my_package.policies:my_policy"); "" for what there is.
    """
    if not name:
        return contents()
    if ":" in name:
        return _own(name)
    known = everything()
    table, dot, rest = name.partition(".")
    name = f"{names.ALSO[table]}.{rest}" if dot and table in names.ALSO else name
    if name not in known:
        likely = [one for one in known if one.rpartition(".")[2] == name]
        if len(likely) > 1:
            raise InputError(f"explain: {name} may be {', '.join(likely[:-1])} or {likely[-1]}; give the whole name")
        if not likely:
            short = {one.rpartition(".")[2]: one for one in known}
            raise InputError(f"explain: unknown '{name}'{meant(name, [*known, *short])}; see: hpcfilter explain")
        name = likely[0]
    return known[name]()


def everything():
    """All names that can be explained -> a function without arguments that gives the text."""
    known = {family.many: lambda table=table: _list(table) for table, family in names.FAMILIES.items()}
    known |= {"tables": _tables, "machines": _machines}
    known |= {table: lambda table=table: _table(table) for table in names.tables()}
    known |= {table: lambda table=table: "\n".join(_named(table)[1:]) for table in names.FAMILIES if table not in known}
    known |= {whole: lambda whole=whole: _member(whole) for whole in names.members()}
    known |= {whole: lambda whole=whole, of=of: _shared(whole, of) for whole, of in names.shared_keys().items() if whole not in known}
    known |= {whole: lambda whole=whole, key=key: _key(whole, key) for whole, key in names.single_keys().items()}
    return known | {f"machine.{name}": lambda name=name: _machine(name) for name in profiles()}


def contents():
    """What can be explained, a line each."""
    lines = [("tables", ", ".join(names.tables()))]
    lines += [(family.many, ", ".join(family.known)) for family in names.FAMILIES.values()]
    lines += [("machines", ", ".join(profiles()))]
    examples = "hpcfilter explain optim, optim.lr, filter.kakurenbo, score.el2n, machine.frontier, policies; explain --config: every key"
    return "\n".join([*(_entry(*line) for line in lines), "", *_filled(examples)])


def _list(table):
    """All that a table names, with one line each."""
    return "\n".join(_entry(name, summary(table, thing)) for name, thing in names.FAMILIES[table].known.items())


def summary(table, thing):
    """What a policy, a score, ... is, in a sentence: that of its file, where the file has no other."""
    return docs.first(docs.document(thing) if table in SHARE_FILES else docs.head(thing))


def _tables():
    return "\n".join(_entry(found.header, _said(found.schema)) for found in names.tables().values())


def _said(schema):
    """The sentence on a table, without its name."""
    return docs.first(docs.document(schema)).partition(": ")[2] or docs.first(docs.document(schema))


def _table(table):
    schema = names.tables()[table].schema
    lines = [*_filled(docs.document(schema)), "", *_keys(keys.of_table(schema)), *_named(table)]
    inside = [other for other in names.tables() if other.startswith(f"{table}.")]
    return "\n".join([*lines, *(["", f"tables inside: {', '.join(inside)}"] if inside else [])])


def _named(table):
    """What a table names, with the keys that all of them have."""
    if table not in names.FAMILIES:
        return []
    lines = ["", *_filled(f"{names.FAMILIES[table].many}, each with keys of its own (hpcfilter explain {table}.NAME):"), "", _list(table)]
    return lines + (["", "keys of every policy:", "", *_keys(keys.of_function(guarded))] if table == "filter" else [])


def _key(whole, key):
    table = whole.rpartition(".")[0]
    return "\n".join([f"{names.tables()[table].header if table else 'before the tables:'} {key.name}", "", *_keys([key])])


def _shared(whole, of):
    """A key that several policies or scores have."""
    lines = [*_filled(f"{whole}: a key of {', '.join(name for name, _ in of)}"), ""]
    for name, key in of:
        lines += [name, *_keys([key])]
    return "\n".join(lines)


def _member(whole):
    family, thing = names.members()[whole]
    table, _, name = whole.partition(".")
    return "\n".join([family.written(table, name), "", *_about(table, thing)])


def _about(table, thing):
    """Docstring, facts, keys and papers of a policy, a score, a model, ..."""
    texts = docs.paragraphs(docs.document(thing))
    texts = texts if table == "model" else list(dict.fromkeys([*docs.paragraphs(docs.head(thing)), *texts]))
    lines = [line for text in texts for line in [*_filled(text), ""]]
    lines += [_entry(what, said) for what, said in facts(table, thing)]
    own = keys.of_function(thing)
    lines += ["", "keys:", *_keys(own)] if own else ["", "It has no keys of its own."]
    if table == "filter":
        around = ", ".join(key.name for key in keys.of_function(guarded))
        lines += ["", *_filled(f"keys of every policy (hpcfilter explain filter): {around}")]
    return lines


def facts(table, thing):
    """What is known of a policy or a score beside its docstring: list of (what, in words)."""
    found = {"filter": _policy_facts, "score": _score_facts}.get(table, lambda thing: [])(thing)
    found += [("paper", address) for address in docs.papers(docs.head(thing) if table != "model" else "", docs.document(thing))]
    return [(what, said) for what, said in [*found, ("code", docs.file(thing))] if said]


def _policy_facts(policy):
    known = facts_of(policy)
    ranks = f"{known.score} (explain score.{known.score}), unless [score] names another" if known.score else ""
    return [("ranks by", ranks), ("needs", "class labels" if known.needs_classes else ""),
            ("reads", f"{known.given[0]}: a table with {' and '.join(known.given[1])}" if known.given else "")]


def _score_facts(score):
    needs = {"needs_classes": "class labels", "needs_features": "what goes into the last linear layer",
             "needs_batches": "the mean loss of the global batch", "needs_passes": "passes over a finished network (hpcfilter score)"}
    memory = sum(np.dtype(kind).itemsize for kind, _ in made(score).columns.values())
    return [("needs", ", ".join(said for name, said in needs.items() if getattr(score, name)) or "a loss per sample"),
            ("known after", f"{made(score).warmup} observation{'s' * (made(score).warmup > 1)}"),
            ("remembers", f"{memory} bytes per sample" if memory else "nothing beyond the importance")]


def made(score):
    """A score with the defaults of its parameters: its memory may depend on them."""
    return score()


def _own(name):
    """A policy, score or model of the user's own."""
    table, dot, rest = name.partition(".")
    table = names.ALSO.get(table, table)
    table, place = (table, rest) if dot and table in names.FAMILIES else ("", name)
    thing = imported(place, "explain")
    return "\n".join([name_of(thing), "", *_about(table, thing)])


def _machines():
    return "\n".join(_entry(name, _machine_line(name)) for name in profiles())


def _machine_line(name):
    try:
        machine = load_machine(name)
        return f"{machine.scheduler}; {machine.node.cpus} cores, {machine.node.gpus} GPUs; {machine.about}"
    except InputError as error:
        return f"cannot be used: {error}"


def _machine(name):
    machine = load_machine(name)
    facts = [("scheduler", machine.scheduler), ("node", f"{machine.node.cpus} cores, {machine.node.gpus} GPUs {machine.node.gpu}".rstrip()),
             ("asks for", ", ".join(machine.requires)), ("queues", ", ".join(dict.fromkeys(limit.queue for limit in machine.limits))),
             ("source", f"{machine.source} ({machine.date})"), ("checked", machine.checked), ("file", str(profiles()[name]))]
    return "\n".join([f'[job] machine = "{name}"', "", *_filled(machine.about), "", *(_entry(*fact) for fact in facts if fact[1])])


def _keys(found):
    """Each key with its type and default, and what it means below."""
    lines = []
    for key in found:
        default = f"default {key.default_words}" if key.default is not keys.REQUIRED else key.default_words
        lines += [_entry(key.name, "; ".join([key.kind, *([default] if key.default is not None else [])])), *_filled(key.meaning, " " * INDENT)]
    return lines


def _entry(name, said):
    """A name and what it is, wrapped beside it."""
    first = f"{name} " if len(name) >= INDENT else name.ljust(INDENT)
    return "\n".join(textwrap.wrap(said, _width(), initial_indent=first, subsequent_indent=" " * INDENT, break_on_hyphens=False)) or name


def _filled(text, indent=""):
    return [line for part in docs.paragraphs(text) for line in textwrap.wrap(part, _width(), initial_indent=indent, subsequent_indent=indent,
                                                                             break_on_hyphens=False)]


def _width():
    return min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
