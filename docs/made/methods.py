"""The pages on policies and scores."""

import numpy as np
from made.cost import bytes_sent
from made.markdown import code, key_table, page, prose, table

from hpcfilter.select.policies import POLICIES, facts_of
from hpcfilter.select.scores import SCORES
from hpcfilter.study.explain import docs, keys
from hpcfilter.study.explain.page import facts, made

PARTS = {"When to take it": ("Take it", "Beware"), "Cost": ("It costs",), "State": ("State:",), "Bias": ("Biased", "Unbiased", "Weights 1", "The mean gradient")}


def policies():
    """A page for each policy: path -> Markdown."""
    return {f"policies/{name}.md": _policy(name, policy) for name, policy in POLICIES.items()}


def _policy(name, policy):
    document, head = docs.document(policy), docs.head(policy)
    said = {title: docs.about(document, *words) for title, words in PARTS.items()}
    own = [key for key in keys.of_function(policy) if key.name not in keys.SUPPLIED]
    setting = "\n".join([f'policy = "{name}"', *(f"{key.name} = {keys.toml(key.default, '{:.4g}'.format)}" for key in own if key.default is not None)])
    return page(
        f"# {name}", prose(docs.paragraphs(head)[0]), f"```toml\n[filter]\n{setting}\n```",
        "## When to take it", prose(said["When to take it"]),
        "## What it does", prose("\n\n".join(docs.without(document, *(word for words in PARTS.values() for word in words)))),
        "## Cost", _cost(name, policy, said["Cost"]),
        "## State and bias", prose(said["State"]), prose(said["Bias"]),
        "## Keys", key_table(own) if own else "It has no keys of its own.",
        "Every policy takes the keys of the [guards](../reference/config.md#filter), too.",
        "## Facts", table(["what", "is"], [[what, _linked(what, value)] for what, value in facts("filter", policy)]))


def _cost(name, policy, said):
    sent = bytes_sent(name)
    lines = [said, f"A selection of 100,000 samples sends {sent:,} bytes per rank, on two simulated ranks." if sent else "A selection sends nothing."]
    score = facts_of(policy).score
    memory = _memory(SCORES[score]) if score else 0
    lines += [f"The score `{score}` remembers {memory} bytes per sample, beside the 19 that every run has." if memory else ""]
    return prose(" ".join(filter(None, lines)))


def _memory(score):
    return sum(np.dtype(kind).itemsize for kind, _ in made(score).columns.values())


def scores():
    """The page on the scores."""
    parts = ["# Scores", prose(
        "A score says what a sample is worth. Higher is more worth training. A policy ranks by one; `[score] name` names another.\n\n"
        "`hpcfilter explain score.el2n` prints the same in a terminal."),
        table(["score", "importance", "needs", "remembers"],
              [[f"[{name}](#{name})", docs.first(docs.document(score)).removeprefix("importance ").removeprefix("= "), *_needs(score)]
               for name, score in SCORES.items()])]
    for name, score in SCORES.items():
        own = keys.of_function(score)
        parts += [f"## {name}", prose(docs.document(score)), key_table(own) if own else "",
                  table(["what", "is"], [[what, _linked(what, value)] for what, value in facts("score", score)])]
    return page(*parts)


def _needs(score):
    found = dict(facts("score", score))
    return found["needs"], found["remembers"]


def _linked(what, value):
    return f"[{value.rpartition('/')[2]}]({value})" if what == "paper" else code(value) if what == "code" else value
