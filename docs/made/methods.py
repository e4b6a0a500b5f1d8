"""The pages on policies and scores."""

from hpcfilter.select.policies import POLICIES, facts_of
from hpcfilter.select.scores import SCORES
from hpcfilter.study.explain import docs, keys
from hpcfilter.study.explain.facts import facts, memory
from made.cost import bytes_sent
from made.markdown import code, key_table, page, prose, table

PARTS = {
    "When to take it": ("Take it", "Beware"),
    "Cost": ("It costs",),
    "State": ("State:",),
    "Bias": ("Biased", "Unbiased", "Weights 1", "The mean gradient"),
}


def policies():
    """A page for each policy: path -> Markdown."""
    return {f"policies/{name}.md": _policy(name, policy) for name, policy in POLICIES.items()}


def _policy(name, policy):
    document = docs.document(policy)
    said = {title: docs.about(document, *words) for title, words in PARTS.items()}
    others = docs.without(document, *(word for words in PARTS.values() for word in words))
    own = [key for key in keys.of_function(policy) if key.name not in keys.SUPPLIED]
    return page(
        f"# {name}",
        prose(docs.paragraphs(docs.head(policy))[0]),
        _setting(name, policy, own),
        "## When to take it",
        prose(said["When to take it"]),
        "## What it does",
        prose("\n\n".join(others)),
        "## Cost",
        prose(" ".join([said["Cost"], *_counted(name, policy)])),
        "## State and bias",
        prose(said["State"]),
        prose(said["Bias"]),
        "## Keys",
        key_table(own) if own else "It has no keys of its own.",
        "Every policy takes the keys of the [guards](../reference/config.md#filter), too.",
        "## Facts",
        _facts("filter", policy),
    )


def _setting(name, policy, own):
    """What a run config says for it, with the defaults. A policy that cuts once needs a phase before."""
    given = [key for key in own if key.default not in (None, keys.REQUIRED)]
    lines = [f'policy = "{name}"', *(f"{key.name} = {key.default_words}" for key in given)]
    if facts_of(policy).once({key.name: key.default for key in own}):
        second = ["[[phase]]", "epochs = 70", 'weights = "fresh"', f"filter = {{{', '.join(lines)}}}"]
        lines = ["[[phase]]", "epochs = 20", "", *second]
    else:
        lines = ["[filter]", *lines]
    return "\n".join(["```toml", *lines, "```"])


def _counted(name, policy):
    """Sentences on the bytes that a selection sends and that a score remembers."""
    sent, score = bytes_sent(name), facts_of(policy).score
    if sent:
        yield f"A selection of 100,000 samples sends {sent:,} bytes per rank, on two simulated ranks."
    else:
        yield "A selection sends nothing."
    if score and (each := memory(SCORES[score])):
        yield f"The score `{score}` remembers {each} bytes per sample, beside the 19 that every run has."


def scores():
    """The page on the scores."""
    rows = [[f"[{name}](#{name})", _importance(score), *_needs(score)] for name, score in SCORES.items()]
    parts = [
        "# Scores",
        prose(
            "A score says what a sample is worth. Higher is more worth training. "
            "A policy ranks by one; `[score] name` names another.\n\n"
            "`hpcfilter explain score.el2n` prints the same in a terminal."
        ),
        table(["score", "importance", "needs", "remembers"], rows),
    ]
    for name, score in SCORES.items():
        own = keys.of_function(score)
        parts += [f"## {name}", prose(docs.document(score)), key_table(own) if own else ""]
        parts += [_facts("score", score)]
    return page(*parts)


def _importance(score):
    return docs.first(docs.document(score)).removeprefix("importance ").removeprefix("= ")


def _needs(score):
    found = dict(facts("score", score))
    return found["needs"], found["remembers"]


def _facts(of, thing):
    return table(["what", "is"], [[what, _linked(what, said)] for what, said in facts(of, thing)])


def _linked(what, said):
    if what == "paper":
        return f"[arXiv {said.rpartition('/')[2]}]({said})"
    return code(said) if what == "code" else said
