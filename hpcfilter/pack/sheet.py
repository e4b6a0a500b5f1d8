"""A table file as pyarrow reads it: CSV of any form that can be told, or Parquet."""

import csv

from hpcfilter.base.errors import InputError
from hpcfilter.pack.names import listed

SNIFFED = 1 << 16  # bytes of a CSV file from which its form is guessed


def read_sheet(path):
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"{path}: tables need pyarrow: pip install 'hpcfilter[tables]'") from None
    try:
        if path.suffix.lower() == ".parquet":
            return _checked(path, pyarrow.parquet.read_table(path))
        delimiter, header = _form(path)
        reading = pyarrow.csv.ReadOptions(autogenerate_column_names=not header)
        return _checked(path,
                        pyarrow.csv.read_csv(path, reading, pyarrow.csv.ParseOptions(delimiter=delimiter)))
    except pyarrow.ArrowException as error:
        kind = "Parquet" if path.suffix.lower() == ".parquet" else "CSV"
        uneven = ("; its lines have unequal numbers of columns" if "columns, got" in str(error)
                  else "; it is truncated, damaged or of another kind")
        raise InputError(f"{path}: cannot be read as {kind}{uneven}") from None


def _checked(path, table):
    """A table, whose columns have names of their own and whose texts are texts."""
    from pyarrow import types

    names = table.column_names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{path}: has several columns of the name {listed(twice)}, expected a name for each")
    if (path.suffix.lower() != ".parquet"
            and (odd := [name for name in names if types.is_binary(table[name].type)])):
        raise InputError(f"{path}: column {odd[0]}: holds text that is not UTF-8; convert the file")
    return table


def _form(path):
    """(delimiter, whether the first line has the names of the columns) of a CSV file."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = [line for line in file.read(SNIFFED).splitlines() if line.strip()]
    first = next(iter(lines), "")
    delimiter = (max("\t;,|", key=first.count) if any(mark in first for mark in "\t;,|")
                 else " " if " " in first.strip() else ",")
    names, cells = [*csv.reader(lines[:2], delimiter=delimiter), [], []][:2]
    return delimiter, _is_head(names, cells, path.parent)


def _is_head(names, cells, folder):
    """Whether a first line has names: a word above a number, numbers that only count the columns, or words
    alone that are no files."""
    above = [(name, cell) for name, cell in zip(names, cells, strict=False) if name]
    if any(is_number(cell) and not is_number(name) for name, cell in above):
        return True
    numbers = [float(name) for name in names if name and is_number(name)]
    if numbers:
        return len(numbers) > 1 and numbers == list(range(len(numbers)))
    return not any(is_file(folder, name) for name in names)


def is_file(folder, name):
    try:
        return bool(name) and (folder / name).is_file()
    except (OSError, ValueError):  # too long, or with bytes that no name has
        return False


def is_number(text):
    try:
        float(text)
        return True
    except ValueError:
        return False
