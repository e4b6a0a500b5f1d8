"""TOML and `--set a.b=c` become validated values: unknown keys are refused with the valid list, and
every error says where."""

import re
import tomllib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from hpcfilter.base.complaints import complaints, short
from hpcfilter.base.errors import InputError
from hpcfilter.base.names import meant
from hpcfilter.base.paths import expanded, kind, trouble

# a path of this machine
Place = Annotated[Path, BeforeValidator(lambda value: expanded(value) if isinstance(value, str) and value
                                        else value)]


@dataclass(frozen=True, slots=True)
class Form(AfterValidator):
    """A check of a text that can say what it expects."""

    expected: str = ""


def form(pattern, words):
    """What a text of a certain form must be: an annotation that refuses any other in words. pattern: of the
    whole text. words: what is expected."""
    def check(text):
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {words}")
        return text

    return Form(check, words)


class Table(BaseModel):
    """A table of which every key is known."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class NamedTable(BaseModel):
    """A table whose other keys belong to the function or class it names."""

    model_config = ConfigDict(extra="allow")


class Settings:
    """Where settings come from: a TOML file and the `--set` strings that override it."""

    def __init__(self, path, settings=(), what="run config"):
        """path: TOML file. settings: strings "a.b=value", later ones win. what: the kind of file, for errors.

        Raises InputError when the file cannot be read or is not TOML, or a setting is not of that form.
        """
        self.path, self.settings = str(path), tuple(settings)
        try:
            self.text = Path(path).read_text(encoding="utf-8-sig")
            self.tables = tomllib.loads(self.text)
        except OSError as error:
            raise InputError(f"{path}: cannot read the {what}: {trouble(error)}") from None
        except UnicodeDecodeError:
            other = kind(path)
            raise InputError(f"{path}: cannot read the {what}: it is {other or 'no text in UTF-8'}, expected "
                             "a text file in TOML" + ("; a data set belongs behind data.path"
                                                       if other and what == "run config" else "")) from None
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{path}: not TOML: {error}{_shown(self.text, error)}") from None
        for setting in settings:
            override(self.tables, setting)

    def validated(self, schema):
        """The tables as an instance of a pydantic model. Raises InputError naming the place, what stands
        there and what may stand there."""
        try:
            return schema.model_validate(self.tables)
        except pydantic.ValidationError as error:
            keys, problem = describe(error, schema, self.tables)
            raise InputError(f"{self.place(keys)}{'.'.join(keys)}: {problem}" if keys
                             else f"{self.path}: {problem}") from None

    def commanded(self, key):
        """Whether a `--set` names this very key, such as "optim.lr"."""
        return any(setting.partition("=")[0].strip() == key for setting in self.settings)

    def place(self, keys):
        """Where a key was set: "run.toml, line 7: ", "command line: ", or the file alone.
        keys: such as ["train", "lr"]."""
        key, said = ".".join(keys), [setting.partition("=")[0].strip() for setting in self.settings]
        if any(f"{key}.".startswith(f"{name}.") for name in said):
            return "command line: "
        if line := _line(self.text, keys):
            return f"{self.path}, line {line}: "
        return "command line: " if any(name.startswith(f"{key}.") for name in said) else f"{self.path}: "


def override(tables, setting):
    """Apply one `a.b=value` to nested dicts, in place; the value is TOML, or else a plain string."""
    key, equals, value = setting.partition("=")
    if not equals or not all(key.split(".")):
        raise InputError(f"--set: got '{setting}', expected key=value, such as train.epochs=5")
    try:
        value = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        pass  # a bare word is a string
    *path, last = key.strip().split(".")
    for table in path:
        tables = _entry(tables, table) if isinstance(tables, list) else tables.setdefault(table, {})
        if not isinstance(tables, dict | list):
            raise InputError(f"--set: got '{setting}', but '{table}' is a value, not a table")
    if isinstance(tables, list):
        raise InputError(f"--set: got '{setting}', but '{path[-1]}' is a list of tables; "
                         f"expected {'.'.join(path)}.0.KEY=VALUE for its first")
    tables[last] = value


def _entry(tables, number):
    """An entry of a list of tables, by its number from 0 on."""
    if not number.isdigit() or int(number) >= len(tables):
        raise InputError(f"--set: got '{number}', expected the number of a table in the list, "
                         f"from 0 to {len(tables) - 1}")
    return tables[int(number)]


def describe(error, schema, given):
    """(keys, problem) of the first of the errors of a pydantic.ValidationError, in our words. schema: the
    model. given: what was validated."""
    (keys, problem), *others = complaints(error.errors(), given)
    if problem == "extra_forbidden":
        known = _fields(schema, keys[:-1])
        problem = (f"unknown key; {'known: ' + ', '.join(known) if known else 'there are no other keys'}"
                   f"{meant(keys[-1], known)}")
    return ([key if key.isprintable() else repr(key) for key in keys],
            problem + (f" (and {len(others)} more)" if others else ""))


def _fields(schema, keys):
    """The keys that are known in a table of tables, and lists of them, which may be left out."""
    for key in keys:
        if not key.isdigit():  # a number of a list
            fields = {field.alias or name: field for name, field in schema.model_fields.items()}
            found = fields[key].annotation
            schema = next(one for one in (found, *typing.get_args(found)) if hasattr(one, "model_fields"))
    return [field.alias or name for name, field in schema.model_fields.items()]


def _shown(text, error):
    """The line that a TOMLDecodeError names, in words; "" when it names none."""
    number = re.search(r"at line (\d+)", str(error))
    line = text.split("\n")[int(number[1]) - 1].strip() if number else ""
    return f", in: {short(line, 80)}; texts stand in quotes" if line else ""


def _line(text, keys):
    """The line of the TOML text where the key stands, or None."""
    table, lists = "", {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([\w.]+)\]", line):
            table = header[1]
        elif header := re.match(r"\s*\[\[([\w.]+)\]\]", line):  # a table of a list, known by its number
            lists[header[1]] = lists.get(header[1], -1) + 1
            table = f"{header[1]}.{lists[header[1]]}"
        here = [*filter(None, table.split("."))]
        if (word := re.match(r"\s*([\w-]+)\s*=", line)) and [*here, word[1]] == keys[: len(here) + 1]:
            return number
    return None
