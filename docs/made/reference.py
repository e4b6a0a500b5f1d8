"""The pages on the run config, the command line, metrics.jsonl and the run folder."""

import argparse
import re

from hpcfilter.cli import main as command
from hpcfilter.cli import parser as whole_parser
from hpcfilter.record.folder import FILES
from hpcfilter.record.rows import ROWS
from hpcfilter.select.policies.guards import guarded
from hpcfilter.study.explain import docs, keys, names
from hpcfilter.study.explain.comments import beside
from hpcfilter.study.explain.page import summary
from hpcfilter.train.config import Config
from made.markdown import anchor, code, key_table, page, prose, table

EXAMPLE = """\
```toml
seed = 0

[data]
path = "data.h5"

[train]
epochs = 90
global_batch = 256

[filter]
policy = "infobatch"
```"""

PASSES = "A pass says how a batch becomes gradients. Each table puts one around the plain pass."


def config():
    """The page on the run config."""
    first = [key for key in keys.of_table(Config) if key.name not in names.FAMILIES]
    parts = [
        "# Run config",
        prose(
            "A run config is a TOML file. A key that you leave out has its default. "
            "`--set a.b=value` overrides a key.\n\n"
            "`hpcfilter explain --config` prints a run config with every key. "
            "`hpcfilter explain optim.lr` prints one of them."
        ),
        EXAMPLE,
        "Before the tables:",
        key_table(first),
    ]
    for name, found in names.tables().items():
        parts += [
            f"## {code(found.header)}",
            prose(docs.whole(docs.document(found.schema).partition(": ")[2])),
            key_table(keys.of_table(found.schema)),
            *_named(name),
        ]
        parts += ["## `[pass.NAME]`", PASSES, *_named("pass")] if name == "exchange" else []
    return page(*parts)


def _named(table_name):
    """What a table names."""
    if table_name not in names.FAMILIES:
        return []
    family = names.FAMILIES[table_name]
    if table_name == "filter":
        links = ", ".join(f"[{name}](../policies/{name}.md)" for name in family.known)
        return [
            f"Each policy has a page with its keys: {links}.",
            "Every policy takes these keys, too. They are guards around it:",
            key_table(keys.of_function(guarded)),
        ]
    if table_name == "score":
        return ["The scores and their keys: [Scores](../scores.md)."]
    parts = []
    for name, thing in family.known.items():
        own = keys.of_function(thing)
        parts += [
            f"### {code(family.written(table_name, name))}",
            prose(summary(table_name, thing) + "."),
            key_table(own) if own else "No keys of its own.",
        ]
    return parts


def command_line():
    """The page on the command line."""
    verbs = _choices(whole_parser())
    exits = re.search(r"exit code: (.*?)\.\s", f"{docs.document(command)} ", re.S)[1]
    parts = [
        "# Command line",
        prose(
            "`hpcfilter VERB --help` prints what stands here. Bare `hpcfilter` lists the verbs. "
            "`hpcfilter --version` prints the version.\n\n"
            "Every verb takes `--traceback`: it shows where in the code an error comes from, too."
        ),
        table(
            ["verb", "what it does"],
            [[_link(f"hpcfilter {name}"), one.description] for name, one in verbs.items()],
        ),
        f"Exit codes: {' '.join(exits.split())}.",
    ]
    for name, one in verbs.items():
        parts += [f"## hpcfilter {name}", *_verb(one)]
        for sub, its in _choices(one).items():
            parts += [f"### hpcfilter {name} {sub}", *_verb(its)]
    return page(*parts)


def _link(heading):
    return f"[{heading}](#{anchor(heading)})"


def _choices(parser):
    """The verbs of a parser: name -> parser; {} without any."""
    found = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return next(found, {})


def _verb(parser):
    """Summary, options by group, and examples of a verb."""
    parts = [docs.whole(parser.description)]
    first, second, *groups = parser._action_groups  # by their place, and in no group: together
    for title, actions in [("", first._group_actions + second._group_actions), *_titled(groups)]:
        rows = [[_written(one), one.help.replace("%%", "%")] for one in actions if _is_its_own(one)]
        parts += [title, table(["option", "what it is"], rows)] if rows else []
    return [*parts, *_epilog(parser.epilog)]


def _titled(groups):
    return [(f"{group.title[:1].upper()}{group.title[1:]}:", group._group_actions) for group in groups]


def _epilog(text):
    """The examples below a help, and what is said after them."""
    examples = [line[2:] for line in text.splitlines() if line.startswith("  ")]
    after = [line for line in text.splitlines() if line and not line.startswith(("  ", "example"))]
    return ["\n".join(["```text", *examples, "```"]), "\n".join(after)]


def _is_its_own(action):
    """Whether an option is of this verb alone, and no verb itself."""
    return action.dest not in ("help", "traceback") and not isinstance(action, argparse._SubParsersAction)


def _written(action):
    """An option as it is typed."""
    choices = "{" + ",".join(action.choices) + "}" if action.choices else ""
    value = action.metavar or choices or action.dest.upper()
    value = " ".join(value) if isinstance(value, tuple) else value
    if not action.option_strings:
        return code(f"{value.upper()} ..." if action.nargs == "+" else value.upper())
    return ", ".join(code(name if action.nargs == 0 else f"{name} {value}") for name in action.option_strings)


def metrics():
    """The page on metrics.jsonl."""
    parts = [
        "# metrics.jsonl",
        prose(
            "A run writes what it measures into `metrics.jsonl`, one JSON object a line. "
            "Its `kind` says what the row is. "
            "NaN and infinity are null.\n\n`hpcfilter report RUN` shows it. A few lines of Python read it:"
        ),
        '```python\nimport json\n\nrows = [json.loads(line) for line in open("runs/first/metrics.jsonl")]\n'
        'accuracy = [row["accuracy"] for row in rows if row["kind"] == "epoch"]\n```',
    ]
    for kind, row in ROWS.items():
        said = beside(row)
        rows = [[code(key), _type(one), said[key]] for key, one in row.__annotations__.items()]
        parts += [f"## {code(kind)}", prose(docs.document(row)), table(["key", "type", "meaning"], rows)]
    return page(*parts)


def _type(annotation):
    words = {"str": "text", "int": "whole number", "float": "number", "dict": "object", "None": "null"}
    parts = getattr(annotation, "__name__", str(annotation)).split(" | ")
    return " or ".join(words.get(part, part) for part in parts)


def run_folder():
    """The page on the run folder."""
    return page(
        "# Run folder",
        prose(
            "Everything that a run leaves behind lies in one folder, which `--run-dir` names. "
            "Copy it, and the run is copied.\n\n"
            "Two jobs cannot use one run folder at the same time."
        ),
        table(["file", "what it is"], [[code(name), about] for name, about in FILES.items()]),
        "`metrics.jsonl` has [a page of its own](metrics.md). [Reliability](../reliability.md) says how a "
        "generation is written and read.",
    )
