"""hpcfilter explain: what stands in the code is what is printed, of every name; the run config with every key
is valid."""

import re
import subprocess
import sys
import tomllib
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from hpcfilter.base.errors import InputError
from hpcfilter.base.shares import Count, Fraction
from hpcfilter.cli import main
from hpcfilter.select.policies import POLICIES, facts_of
from hpcfilter.select.policies.guards import guarded
from hpcfilter.select.scores import SCORES
from hpcfilter.study.explain import docs, keys, kinds, names
from hpcfilter.study.explain.comments import beside
from hpcfilter.study.explain.config import whole_config
from hpcfilter.study.explain.page import everything, explain
from hpcfilter.train.config import Config, load
from hpcfilter.train.models import MODELS


def test_every_name_has_an_explanation():
    for name in everything():
        text = explain(name)
        assert text.strip() and all(
            len(line) <= 100 or " " not in line.strip() for line in text.splitlines()
        ), name


@pytest.mark.parametrize("table, known", [("filter", POLICIES), ("score", SCORES), ("model", MODELS)])
def test_what_a_table_names_is_told_with_keys_and_paper(table, known):
    for name, thing in known.items():
        text = " ".join(explain(f"{table}.{name}").split())
        assert f'{names.FAMILIES[table].key} = "{name}"' in text
        assert all(part in text for part in docs.paragraphs(docs.document(thing)))
        for key in keys.of_function(thing):
            assert f"{key.name} {key.kind}" in text and key.default_words in text, f"{name}, {key.name}"
        assert all(paper in text for paper in docs.papers(docs.document(thing)))


def test_a_key_is_found_by_the_path_that_one_types():
    text = explain("pass.extrapolate.distance")
    assert text.startswith("[pass.extrapolate]: distance\n") and "learning rate" in text
    assert 'policy = "kakurenbo": tau' in explain("policy.kakurenbo.tau")
    for name, (_, _, key) in names.own_keys().items():
        assert key.meaning in " ".join(explain(name).split()), name
    with pytest.raises(InputError, match="did you mean 'pass.extrapolate.distance'"):
        explain("pass.extrapolate.distanc")


def test_every_key_has_a_meaning():
    for name, key in names.single_keys().items():
        assert key.meaning, f"{name}: say behind it, in the schema, what it means"
    for name, (_, thing) in names.members().items():
        assert all(key.meaning for key in keys.of_function(thing)), (
            f"{name}: say in its docstring what its keys mean"
        )
    assert all(key.meaning for key in keys.of_function(guarded))


def test_every_table_says_what_it_is():
    for name, (schema, header) in names.tables().items():
        assert docs.document(schema).startswith(f"{header}: "), name


def test_every_policy_says_when_to_take_it_what_it_costs_what_it_keeps_and_whether_it_is_biased():
    for name, policy in POLICIES.items():
        for words in (("Take it",), ("It costs",), ("State:",), ("Biased", "Unbiased", "Weights 1")):
            assert docs.about(docs.document(policy), *words), (
                f"{name}: no sentence that begins with {' or '.join(words)}"
            )


@pytest.mark.parametrize(
    "name, also",
    [
        ("kakurenbo", "filter.kakurenbo"),
        ("policy.kakurenbo", "filter.kakurenbo"),
        ("el2n", "score.el2n"),
        ("cnn", "model.cnn"),
        ("adasum", "exchange.adasum"),
        ("frontier", "machine.frontier"),
        ("clip_norm", "optim.clip_norm"),
        ("stage", "job.stage"),
    ],
)
def test_a_short_name_will_do(name, also):
    assert explain(name) == explain(also)


@pytest.mark.parametrize(
    "name, message",
    [
        ("kakurembo", "unknown 'kakurembo'; did you mean 'kakurenbo'?"),
        ("filter.kakurembo", "did you mean 'filter.kakurenbo'?"),
        ("optm", "did you mean 'optim'?"),
        ("optim.momentun", "did you mean 'optim.momentum'?"),
        ("polices", "did you mean 'policies'?"),
        ("zzzz", "unknown 'zzzz'; see: hpcfilter explain"),
        ("dyn_unc", "may be filter.dyn_unc or score.dyn_unc; give the whole name"),
        ("no_such_package:policy", "explain: "),
    ],
)
def test_unknown_names_are_one_line(name, message, capsys):
    assert main(["explain", name]) == 2
    err = capsys.readouterr().err
    assert err.startswith("hpcfilter: explain: ") and message in err and err.count("\n") == 1


def test_lists_have_a_line_each():
    for family in names.FAMILIES.values():
        lines = [line for line in explain(family.many).splitlines() if not line.startswith(" ")]
        assert [line.split()[0] for line in lines] == list(family.known)
    assert "frontier " in explain("machines") and "[job.stage] " in explain("tables")


def test_alone_it_says_what_there_is(capsys):
    assert main(["explain"]) == 0
    out = capsys.readouterr().out
    assert (
        all(f"{what} " in out for what in ("tables", "policies", "scores", "models", "machines"))
        and "hpcfilter explain optim" in out
    )


def test_policies_of_the_users_own(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        'def late(scores, epoch, seed, comm, *, share: float = 0.25):\n'
        '    """Hide the share that came late."""\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    text = explain("filter.mine:late")
    assert "Hide the share that came late." in text and re.search(r"share +number; default 0.25", text)


def test_it_needs_neither_torch_nor_mpi():
    code = (
        "import sys; from hpcfilter.cli import main\n"
        "main(['explain', 'filter.kakurenbo']); main(['explain', '--config'])\n"
        "print([m for m in ('torch', 'mpi4py', 'horovod') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def written(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


def test_the_config_with_every_key_is_that_of_the_defaults(tmp_path):
    config, short = (
        load(written(tmp_path, whole_config())),
        load(written(tmp_path, '[data]\npath = "a/path"\n')),
    )
    for name in Config.model_fields:
        assert plain(getattr(config, name)) == plain(getattr(short, name)), name


def plain(table):
    """A table without the keys of what it names, whose defaults are the function's."""
    return table.model_dump(exclude=set(table.model_extra or ())) if isinstance(table, BaseModel) else table


def test_the_config_with_every_key_has_every_key():
    text = whole_config()
    for name, key in names.single_keys().items():
        assert re.search(rf"^(# )?{key.name} = ", text, re.M), name
    for _, thing in names.members().values():
        for key in keys.of_function(thing):
            assert key.name in keys.SUPPLIED or re.search(rf"^(# )?{key.name} = ", text, re.M)
    assert max(len(line) for line in text.splitlines()) <= 110


def test_what_is_off_in_it_can_be_switched_on():
    """Each line with a # that is a key is TOML, and its value is one that the schema takes."""
    lines, table, tried = whole_config().splitlines(), "", 0
    for line in lines:
        if header := re.match(r"(?:# )?\[+([\w.]+)\]+$", line):
            table = header[1]
        elif line.startswith("# Keys of "):
            table = ""  # what they belong to checks them itself
        elif (key := re.match(r"# (\w+) = ", line)) and table and not table.startswith("pass"):
            field = names.tables()[table].schema.model_fields[key[1]]
            kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
            TypeAdapter(kind).validate_python(tomllib.loads(line[2:])[key[1]])  # raises
            tried += 1
    assert tried > 20


def test_types_in_words():
    for annotation, words in (
        (Count, "whole number from 1 on"),
        (Fraction, "number in [0, 1)"),
        (Annotated[float, Field(gt=0)], "number above 0"),
        (int | None, "whole number"),
        (Literal["a", "b", 3], '"a", "b" or 3'),
        (list[Fraction], "list of numbers in [0, 1)"),
        (float | Literal["auto"] | None, 'number or "auto"'),
        (dict[str, Any], "table of names and values"),
        (Annotated[int, Field(ge=1, le=9)], "whole number from 1 to 9"),
        (bool, "true or false"),
    ):
        assert kinds.words(annotation) == words


class Commented:
    """For the next test."""

    one: int = 1  # behind it
    # above it
    two: int = 2
    three: int = 3
    # first line,
    # second line
    four: dict = {  # noqa: RUF012
        "a": 1
    }  # behind its end


def several(
    a,
    *,
    one=1,  # behind it
    two=(2, 3),  # over two lines
    three=3,
    four=4,
):  # of two
    pass


def test_comments_are_read_from_the_source():
    assert beside(Commented) == {
        "one": "behind it",
        "two": "above it",
        "four": "first line, second line behind its end",
    }
    assert beside(several) == {"one": "behind it", "two": "over two lines"}
    assert beside(print) == {}


def test_sentences():
    text = "One thing, see Qin et al. for more. r is 0.5. A weight of 1.5 counts.\n\nAnother; paragraph"
    assert docs.sentences(text) == [
        "One thing, see Qin et al. for more.",
        "r is 0.5.",
        "A weight of 1.5 counts.",
        "Another; paragraph",
    ]


def test_scores_that_policies_rank_by_are_told():
    for name, policy in POLICIES.items():
        score = facts_of(policy).score
        assert (f"(explain score.{score})" in explain(f"filter.{name}")) == bool(score)


def test_a_name_and_the_config_are_two_things():
    with pytest.raises(InputError):
        explain("nothing.of.this.name")
    assert main(["explain", "optim", "--config"]) == 2
