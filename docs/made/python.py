"""The pages on Python's side, and the words."""

import ast
import importlib.util
import inspect
import re
from pathlib import Path

import hpcfilter
from hpcfilter.study.explain import docs
from made.markdown import page, prose, table

ORDER = "Filter", "world", "lowest", "Score", "Selection", "policy"  # the most wanted first
WORDS = (  # word -> where its docstring stands; a file's is the word's own
    ("exchange", "hpcfilter.train.exchange.exchange:Exchange"),
    ("score", "hpcfilter.select.scores"),
    ("policy", "hpcfilter.select.policies"),
    ("selector", "hpcfilter.select.selector"),
    ("phase", "hpcfilter.train.schema:Phase"),
)
SHORT = (  # words that no docstring defines in one sentence
    ("arm", "One side of a comparison: a policy with its settings, run with several seeds."),
    ("comm", "The object that lets ranks add up numbers. It carries numbers only."),
    ("digest", "A short code computed from data. Equal data have equal digests."),
    ("filter", "What decides who trains: a policy, its score and its guards. In Python, `hpcfilter.Filter`."),
    ("generation", "One saved checkpoint folder. It is there whole or not at all."),
    ("local rank", "The number of a rank within its node, from 0."),
    ("network weights", "The numbers that training changes; `weights` of a phase are these."),
    ("notice", "A signal or deadline that asks the run to save and stop."),
    ("observation", "What a forward pass showed of one sample: loss, correctness, confidence."),
    ("order", "The sequence in which kept samples form batches."),
    ("pass", "Forward and backward for one sample; costs are counted in passes. "
             "In the code and in `[pass.NAME]`: how a batch becomes gradients."),
    ("probe", "A measurement of the loss landscape around the network weights of a finished epoch."),
    ("requeue", "A job that was told to leave goes back into the queue, and later continues the run."),
    ("sample weight", "How much the loss of one sample counts."),
    ("selection", "Who trains in an epoch, and at which sample weight."),
    ("step", "One update of the network weights, from one batch of all ranks."),
    ("walltime", "The time that a job may take, by the clock."),
    ("warm-up", "The first epochs, in which the learning rate rises."),
    ("watchdog", "The thread on every rank that ends a job in which nothing moves any more."),
    ("guard", "What stands around every policy, and hides more or less than it does. All are off at first."),
    ("machine", "A site profile: what a node is, what a job may ask for, what the launcher must be told."),
    ("threshold", "The score up to which samples are hidden. It is exact, over all ranks."),
    ("global order", "Every rank can read every sample. The batches are the same on any number of ranks."),
    ("hidden", "Of a sample: it does not train in this epoch."),
    ("importance", "What a score says of a sample. Higher is more worth training."),
    ("kept", "Of a sample: it trains in this epoch."),
    ("look", "A forward pass without training, to see what a sample is worth now."),
    ("owner", "The rank that remembers what a sample is worth. Each sample has one."),
    ("packed file", "A data set in one HDF5 file with checksums, made by `hpcfilter pack`."),
    ("rank", "One of the processes of a training, usually with one GPU."),
    ("run", "One training, and the folder with all that it leaves behind."),
    ("shard order", "A rank trains only the samples that it owns."),
)


def api():
    """The page on what Python code can use."""
    shown = [*ORDER, *(name for name in hpcfilter.__all__ if name not in ORDER)]
    parts = [
        "# Python",
        prose("What `import hpcfilter` offers. All of it is stable: a change needs a line in the changelog."),
    ]
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
    parameters = [
        one.replace(annotation=one.empty) for one in found.parameters.values() if one.name != "self"
    ]
    return str(found.replace(parameters=parameters, return_annotation=inspect.Signature.empty))


def glossary():
    """The page on the words."""
    found = [*((word, _said(word, place)) for word, place in WORDS), *SHORT]
    rows = sorted(map(list, found), key=lambda row: row[0].lower())
    said = prose("The words of these pages. Where a word has two meanings, both stand here.")
    return page("# Glossary", said, table(["word", "meaning"], rows))


def _said(word, place):
    """The first sentence of a docstring. That of a file is read from the file, so that nothing heavy is
    imported."""
    module, _, name = place.partition(":")
    if name:
        text = docs.document(getattr(importlib.import_module(module), name))
    else:
        text = ast.get_docstring(ast.parse(Path(importlib.util.find_spec(module).origin).read_text()))
    return docs.whole(re.sub(rf"^(the )?\[*{word}s?\]*( to leave)?: ", "", docs.first(text), flags=re.I))
