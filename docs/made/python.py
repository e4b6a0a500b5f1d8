"""The pages on Python's side, and the words."""

import importlib
import inspect

from made.markdown import page, prose, table

import hpcfilter
from hpcfilter.study.explain import docs

ORDER = "Filter", "world", "lowest", "Score", "Selection", "policy"  # the most wanted first
WORDS = (  # word -> where its docstring stands; a file's is the word's own
    ("Comm", "hpcfilter.comm.base:Comm"), ("Exchange", "hpcfilter.train.exchange"), ("Pass", "hpcfilter.train.passes"),
    ("Score", "hpcfilter.select.scores"), ("Policy", "hpcfilter.select.policies"), ("Selection", "hpcfilter.select.policies:Selection"),
    ("Selector", "hpcfilter.select.selector"), ("Order", "hpcfilter.select.order"), ("Phase", "hpcfilter.train.schema:Phase"),
    ("Run folder", "hpcfilter.record.folder"), ("Generation", "hpcfilter.train.checkpoint.generation"), ("Machine", "hpcfilter.jobs.machine"),
    ("Probe", "hpcfilter.study.landscape"), ("Guard", "hpcfilter.select.policies.guards"), ("Watchdog", "hpcfilter.base.alive.watchdog"),
    ("Notice", "hpcfilter.base.alive.notice"), ("Threshold", "hpcfilter.select.threshold"),
)
SHORT = (  # words of the field that have no code of their own
    ("importance", "What a score says of a sample. Higher is more worth training."),
    ("hidden", "A sample that does not train in this epoch."),
    ("kept", "A sample that trains in this epoch."),
    ("look", "A forward pass without training, to see a sample's score."),
    ("owner", "The rank that knows a sample's scores: each sample has one."),
    ("rank", "One of the processes of a training, usually with one GPU."),
    ("global order", "Every rank can read every sample. The batches are the same on any number of ranks."),
    ("shard order", "A rank trains only the samples that it owns."),
    ("packed file", "A data set in one HDF5 file with fixed rows and checksums, made by `hpcfilter pack`."),
)


def api():
    """The page on what Python code can use."""
    shown = [*ORDER, *(name for name in hpcfilter.__all__ if name not in ORDER)]
    parts = ["# Python", prose("What `import hpcfilter` offers. All of it is stable: a change needs a line in the changelog.")]
    for name in shown:
        if name in hpcfilter.__all__:
            parts += _thing(name, getattr(hpcfilter, name))
    return page(*parts)


def _thing(name, thing):
    """A function or class, with its public methods."""
    parts = [f"## hpcfilter.{name}", f"```text\n{name}{_signature(thing)}\n```", prose(docs.document(thing))]
    if inspect.isclass(thing):
        for method, one in vars(thing).items():
            function = one.fget if isinstance(one, property) else getattr(one, "__func__", one)
            if not method.startswith("_") and inspect.isfunction(function) and docs.document(function):
                written = method if isinstance(one, property) else f"{method}{_signature(function)}"
                parts += [f"### {name}.{method}", f"```text\n{written}\n```", prose(docs.document(function))]
    return parts


def _signature(thing):
    """The parameters without their types, which the docstring says."""
    found = inspect.signature(thing)
    parameters = [one.replace(annotation=one.empty) for one in found.parameters.values() if one.name != "self"]
    return str(found.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def glossary():
    """The page on the words."""
    found = [(word, _said(place)) for word, place in WORDS]
    return page("# Glossary", prose("The words of these pages, one meaning each."),
                table(["word", "meaning"], [[word, said] for word, said in sorted([*found, *SHORT], key=lambda row: row[0].lower())]))


def _said(place):
    module, _, name = place.partition(":")
    thing = importlib.import_module(module)
    text = docs.first(docs.document(getattr(thing, name) if name else thing))
    return f"{text[:1].upper()}{text[1:]}."
