"""What can be explained: tables and their keys, and the families of things that tables name."""

import typing
from typing import NamedTuple

from hpcfilter.select.policies import POLICIES
from hpcfilter.select.policies.guards import guarded
from hpcfilter.select.scores import SCORES
from hpcfilter.study.explain import keys
from hpcfilter.train.config import Config
from hpcfilter.train.exchange import EXCHANGES
from hpcfilter.train.models import MODELS
from hpcfilter.train.passes import PASSES


class Family(NamedTuple):
    """What a table names. one, many: the words for it. key: the key that takes the name, "" where the table's
    own name has it. known: name -> function or class."""

    one: str
    many: str
    key: str
    known: dict

    def written(self, table, name):
        """How a run config names it."""
        return f'[{table}] {self.key} = "{name}"' if self.key else f"[{table}.{name}]"


FAMILIES = {  # table -> what it names
    "filter": Family("policy", "policies", "policy", POLICIES),
    "score": Family("score", "scores", "name", SCORES),
    "model": Family("model", "models", "name", MODELS),
    "exchange": Family("exchange", "exchanges", "kind", EXCHANGES),
    "pass": Family("pass", "passes", "", PASSES),
}
ALSO = {family.one: table for table, family in FAMILIES.items()}  # policy.kakurenbo is filter.kakurenbo


class Found(NamedTuple):
    """A table of the run config: its schema, and the header it is written under."""

    schema: type
    header: str


def tables(schema=Config, before=""):
    """The tables of a run config by name, such as "optim" and "job.stage", in their order: name -> Found."""
    found = {}
    for name, field in schema.model_fields.items():
        if inside := keys.table_in(field.annotation):
            whole = f"{before}{field.alias or name}"
            listed = typing.get_origin(field.annotation) is list
            found[whole] = Found(inside, f"[[{whole}]]" if listed else f"[{whole}]")
            found |= {} if listed else tables(inside, f"{whole}.")
    return found


def members():
    """All that tables name: "filter.kakurenbo" -> (its Family, the function or class)."""
    return {
        f"{table}.{name}": (family, thing)
        for table, family in FAMILIES.items()
        for name, thing in family.known.items()
    }


def single_keys():
    """The keys of all tables: "optim.lr" -> Key; those outside of any table too."""
    found = {key.name: key for key in keys.of_table(Config) if key.name not in FAMILIES}
    return found | {
        f"{table}.{key.name}": key for table, one in tables().items() for key in keys.of_table(one.schema)
    }


def own_keys():
    """The keys of what a table names, each by its whole name: "pass.extrapolate.distance" -> (Family, name of
    the member, Key)."""
    return {
        f"{whole}.{key.name}": (family, whole, key)
        for whole, (family, thing) in members().items()
        for key in keys.of_function(thing)
    }


def shared_keys():
    """The keys that belong to what a table names: "filter.fraction" -> list of (full name of the member,
    Key)."""
    found = {}
    for whole, (_, thing) in members().items():
        for key in keys.of_function(thing):
            found.setdefault(f"{whole.partition('.')[0]}.{key.name}", []).append((whole, key))
    found |= {f"filter.{key.name}": [("every policy", key)] for key in keys.of_function(guarded)}
    return found
