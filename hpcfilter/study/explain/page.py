"""What `hpcfilter explain NAME` prints."""

from hpcfilter.base.errors import InputError
from hpcfilter.base.names import meant
from hpcfilter.base.own import imported, name_of
from hpcfilter.jobs.machine import profiles
from hpcfilter.select.policies.guards import guarded
from hpcfilter.study.explain import docs, keys, names
from hpcfilter.study.explain.facts import facts, machine_line, of_machine
from hpcfilter.study.explain.layout import entry, filled, key_lines

SHARE_FILES = "score", "model"  # tables of which several things stand in a file
EXAMPLES = (
    "hpcfilter explain optim, optim.lr, filter.kakurenbo, score.el2n, machine.frontier, policies; "
    "explain --config: every key"
)


def explain(name):
    """The explanation of a name, text of several lines.

    name: of a table ("optim"), a key ("optim.lr"), what a table names ("filter.kakurenbo"), a key of that
    ("pass.extrapolate.distance"), the last word of the first three where only one has it, the word for many
    ("policies"), or of the user's own ("filter.my_package.policies:my_policy"); "" for what there is. Raises
    InputError for a name that nobody knows, with the one that may be meant.
    """
    if not name:
        return contents()
    if ":" in name:
        return _own(name)
    known = everything()
    table, dot, rest = name.partition(".")
    name = f"{names.ALSO[table]}.{rest}" if dot and table in names.ALSO else name
    if name in names.own_keys():
        return _own_key(name)
    return known[name if name in known else _long(name, known)]()


def _long(name, known):
    """The whole name of a short one."""
    likely = [one for one in known if one.rpartition(".")[2] == name]
    if not likely:
        short = [one.rpartition(".")[2] for one in known]
        spelt = meant(name, [*known, *short, *names.own_keys()])
        raise InputError(f"explain: unknown '{name}'{spelt}; see: hpcfilter explain")
    if len(likely) > 1:
        either = f"{', '.join(likely[:-1])} or {likely[-1]}"
        raise InputError(f"explain: {name} may be {either}; give the whole name")
    return likely[0]


def everything():
    """All names that can be explained -> a function without arguments that gives the text."""
    known = {family.many: lambda table=table: _list(table) for table, family in names.FAMILIES.items()}
    known |= {"tables": _tables, "machines": _machines}
    known |= {"pass": lambda: "\n".join(_named("pass"))}  # no table itself, but tables [pass.NAME]
    known |= {table: lambda table=table: _table(table) for table in names.tables()}
    known |= {name: lambda name=name, of=of: _shared(name, of) for name, of in names.shared_keys().items()}
    known |= {name: lambda name=name, key=key: _key(name, key) for name, key in names.single_keys().items()}
    known |= {name: lambda name=name: _member(name) for name in names.members()}
    return known | {f"machine.{name}": lambda name=name: _machine(name) for name in profiles()}


def contents():
    """What can be explained, a line each."""
    lines = [("tables", ", ".join(names.tables()))]
    lines += [(family.many, ", ".join(family.known)) for family in names.FAMILIES.values()]
    lines += [("machines", ", ".join(profiles()))]
    return "\n".join([*(entry(*line) for line in lines), "", *filled(EXAMPLES)])


def summary(table, thing):
    """What a policy, a score, ... is, in a sentence: that of its file, where nothing else stands in it."""
    return docs.first(docs.document(thing) if table in SHARE_FILES else docs.head(thing))


def _list(table):
    """All that a table names, with one line each."""
    known = names.FAMILIES[table].known
    return "\n".join(entry(name, summary(table, thing)) for name, thing in known.items())


def _tables():
    found = names.tables().values()
    said = [(header, docs.first(docs.document(schema))) for schema, header in found]
    return "\n".join(entry(header, text.partition(": ")[2]) for header, text in said)


def _machines():
    return "\n".join(entry(name, machine_line(name)) for name in profiles())


def _table(table):
    schema = names.tables()[table].schema
    lines = [*filled(docs.document(schema)), "", *key_lines(keys.of_table(schema))]
    lines += ["", *_named(table)] if table in names.FAMILIES else []
    inside = ", ".join(other for other in names.tables() if other.startswith(f"{table}."))
    return "\n".join([*lines, *(["", f"tables inside: {inside}"] if inside else [])])


def _named(table):
    """What a table names, with the keys that all of them have."""
    many = names.FAMILIES[table].many
    lines = filled(f"{many}, each with keys of its own (hpcfilter explain {table}.NAME):")
    lines += ["", _list(table)]
    if table == "filter":
        lines += ["", "keys of every policy:", "", *key_lines(keys.of_function(guarded))]
    return lines


def _key(name, key):
    table = name.rpartition(".")[0]
    where = names.tables()[table].header if table else "before the tables:"
    return "\n".join([f"{where} {key.name}", "", *key_lines([key])])


def _own_key(name):
    """A key of one policy, pass, ... by its whole name."""
    family, whole, key = names.own_keys()[name]
    table, _, member = whole.partition(".")
    return "\n".join([f"{family.written(table, member)}: {key.name}", "", *key_lines([key])])


def _shared(name, of):
    """A key that several policies or scores have."""
    lines = [*filled(f"{name}: a key of {', '.join(member for member, _ in of)}"), ""]
    for member, key in of:
        lines += [member, *key_lines([key])]
    return "\n".join(lines)


def _member(whole):
    family, thing = names.members()[whole]
    table, _, name = whole.partition(".")
    return "\n".join([family.written(table, name), "", *_about(table, thing)])


def _about(table, thing):
    """Docstring, facts and keys of a policy, a score, a model, ..."""
    texts = [*docs.paragraphs(docs.head(thing)), *docs.paragraphs(docs.document(thing))]
    texts = docs.paragraphs(docs.document(thing)) if table == "model" else dict.fromkeys(texts)
    lines = [line for text in texts for line in [*filled(text), ""]]
    lines += [entry(*fact) for fact in facts(table, thing)]
    own = keys.of_function(thing)
    lines += ["", "keys:", *key_lines(own)] if own else ["", "It has no keys of its own."]
    if table == "filter":
        around = ", ".join(key.name for key in keys.of_function(guarded))
        lines += ["", *filled(f"keys of every policy (hpcfilter explain filter): {around}")]
    return lines


def _own(name):
    """A policy, score or model of the user's own."""
    table, dot, rest = name.partition(".")
    table = names.ALSO.get(table, table)
    table, place = (table, rest) if dot and table in names.FAMILIES else ("", name)
    thing = imported(place, "explain")
    return "\n".join([name_of(thing), "", *_about(table, thing)])


def _machine(name):
    return "\n".join([f'[job] machine = "{name}"', "", *(entry(*fact) for fact in of_machine(name))])
