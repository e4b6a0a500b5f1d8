"""Tables: CSV and Parquet files. A column of labels beside columns of numbers, or beside one of images
or of their files' names.

pyarrow reads them (extra `tables`). A table stands in memory as a whole.
"""

import json

import numpy as np

from hpcfilter.base.errors import InputError
from hpcfilter.pack.images import ImageFiles
from hpcfilter.pack.names import FILLERS, ROLES, SPLITS, listed, split_of, words
from hpcfilter.pack.sheet import is_file, is_number, read_sheet
from hpcfilter.pack.source import Part, Words

SUFFIXES = {".csv", ".tsv", ".parquet"}
# of a column of names of images
FILES = {"file", "files", "filename", "filepath", "path", "image", "images", "img", "picture"}
SPLIT = {"split", "set", "subset", "fold", "partition"}  # of a column that says which row is of which split
COUNTERS = {"id", "index", "row", "number", "unnamed", "0", "no"}  # of a column that may only count the rows


def read_table(path, notes, size=None, images=None, labels=None, first_frame=False):
    """The splits of a table, and the names of its classes where it has them: (split -> Part,
    list of str or None).

    path: of the file. images: the column with the names of images, or the images. labels: that of the labels;
    names, or numbers from 1 on. size, first_frame: see ImageFiles. Raises InputError for a file that is no
    table, a missing cell, words where numbers are expected.
    """
    table = read_sheet(path)
    names = table.column_names
    if not table.num_rows:
        raise InputError(f"{path}: holds no rows")
    label = _column(path, names, labels, "labels") if labels else _label(path, names, notes)
    named = [name for name in names if name != label and (said := set(words(name)) - FILLERS - {"is"})
             and said <= SPLIT | {"train", "test"}]
    split = next((name for name in named if _is_text(table[name])), None)
    pictures = _column(path, names, images, "images") if images else _pictures(path, table, (label, split))
    kept = [name for name in names if name not in (label, split, pictures)]
    if split is None and named and not pictures:
        notes.said.append(f"the column {named[0]} is packed like the others; "
                          "one that says the split has the words train, val and test")
    whole = _labels(path, table, label)
    rows = _image_files(path, table, pictures, size, first_frame) if pictures else _numbers(path, table, kept)
    if pictures and kept:
        notes.left_out.append(f"{len(kept)} columns beside the images and their labels: {listed(kept)}")
    _say_counters(table, kept if not pictures else [], notes)
    empty = [f"{name} ({table[name].null_count})"
             for name in (*kept, label) if table[name].null_count and not pictures]
    where = f"{path.name}: {f'column {pictures}' if pictures else f'{len(kept)} columns'}, labels {label}"
    where, classes = (where + (f", empty cells in {listed(empty)}" if empty else ""),
                      _class_names(table, label))
    if split is None:
        return {"": Part(rows, whole, where, None if pictures else (label, *kept))}, classes
    return _by_split(path, table[split].to_pylist(), rows, whole, f"{where}, column {split}"), classes


def _say_counters(table, names, notes):
    """A word on columns that only count the rows, such as an index that was saved along."""
    for name in names:
        if set(words(name)) <= COUNTERS and table[name].to_pylist() in (list(range(table.num_rows)),
                                                                        list(range(1, table.num_rows + 1))):
            notes.said.append(f"the column '{name}' only counts the rows, and is packed like the others; "
                              "take it out if it says nothing")


def _class_names(table, label):
    """The names of the classes that Hugging Face's datasets writes beside a table, or None."""
    try:
        features = json.loads((table.schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label]["names"]]
    except (KeyError, TypeError, ValueError):
        return None


def _is_text(column):
    from pyarrow import types

    kind = column.type
    return (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
            or types.is_dictionary(kind))


def _column(path, names, wanted, option):
    """The column that the user names, by its name or its number from 1 on."""
    if wanted in names:
        return wanted
    if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
        return names[int(wanted) - 1]
    raise InputError(f"{path}: --{option}: found no column {wanted}; there are {listed(names)}")


def _label(path, names, notes):
    """The column of labels: the one that is called so, or the last."""
    called = [name
              for name in names if set(words(name)) & set(ROLES["labels"]) - {"y"} or words(name) == ["y"]]
    if len(called) > 1:
        raise InputError(f"{path}: the columns {listed(called)} may all be the labels; say which: "
                         "--labels NAME")
    if not called:
        notes.said.append(f"no column of {path.name} is called label, target, class or y; "
                          f"the last one, {names[-1]}, is taken (--labels NAME)")
    return called[0] if called else names[-1]


def _pictures(path, table, others):
    """The column that holds images, or names of images, or None."""
    for name in table.column_names:
        if name not in others and _is_picture(table[name]):
            return name
        if name not in others and _is_text(table[name]):
            first = next((text for text in table[name].to_pylist() if text), "")
            if set(words(name)) & FILES or is_file(path.parent, first):
                return name
    return None


def _is_picture(column):
    """Whether a column holds bytes, or records of bytes and a path, as Hugging Face's
    datasets keeps images."""
    from pyarrow import types

    kind = column.type
    return (types.is_binary(kind) or types.is_large_binary(kind)
            or (types.is_struct(kind) and kind.get_field_index("bytes") >= 0))


def _refuse_missing(path, table, name):
    column = table[name]
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise InputError(f"{path}: column {name}: {column.null_count} cells are empty, the first in row "
                         f"{row}; fill them, or leave these rows out")


def _labels(path, table, name):
    """The labels as an array (n,), or Words."""
    _refuse_missing(path, table, name)
    if not _is_text(table[name]):
        return _array(path, table, name)
    return Words.of(np.array(table[name].to_pylist(), dtype=str))


def _numbers(path, table, names):
    """The columns as rows (n, columns), of the narrowest type that holds them all."""
    if not names:
        raise InputError(f"{path}: has no column beside the labels; expected numbers, or names of images")
    columns = [_array(path, table, name) for name in names]
    for name, column in zip(names, columns, strict=True):
        large = (column.dtype.kind in "iu" and len(column)
                 and max(abs(int(column.max())), abs(int(column.min()))) > 2**53)
        if large and np.result_type(*(one.dtype for one in columns)).kind == "f":
            raise InputError(f"{path}: column {name}: holds whole numbers up to {column.max()}, "
                             "which lose digits beside columns of floating-point numbers; "
                             "leave it out, or bring it to another scale")
    if len(columns) == 1:
        return columns[0] if columns[0].ndim > 1 else columns[0][:, None]
    return np.stack(columns, axis=1) if all(column.ndim == 1 for column in columns) else np.concatenate(
        [column.reshape(len(column), -1) for column in columns], axis=1)


def _array(path, table, name):
    """One column of numbers, NaN where a cell is empty, or of lists of equally many numbers."""
    from pyarrow import types

    column = table[name].combine_chunks()
    kind = column.type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        values = column.flatten()
        width, rest = divmod(len(values), len(column))
        if (rest or not width
                or set(np.unique(column.value_lengths().to_numpy(zero_copy_only=False))) != {width}):
            raise InputError(f"{path}: column {name}: holds lists of unequal lengths, expected equally many "
                             "numbers in each")
        return _plain(path, name, values).reshape(-1, width)
    return _plain(path, name, column)


def _plain(path, name, column):
    from pyarrow import types

    if types.is_decimal(column.type):
        column = column.cast("float64")
    kind = column.type
    if types.is_boolean(kind) and column.null_count:
        _refuse_missing(path, {name: column}, name)
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        word = next((str(text) for text in column.to_pylist() if not is_number(str(text))), "nothing")
        raise InputError(f"{path}: column {name}: holds {kind} such as '{' '.join(word.split())[:40]}', "
                         "expected numbers; leave the column out, or write what it says as numbers")
    return column.to_numpy(zero_copy_only=False)


def _image_files(path, table, name, size, first_frame):
    """The images of a column, or those that it names, from the folder of the table on."""
    _refuse_missing(path, table, name)
    column = table[name]
    if _is_picture(column):
        from pyarrow import compute

        data = compute.struct_field(column, "bytes") if hasattr(column.type, "get_field_index") else column
        return ImageFiles([f"{path}: {name} in row {row}" for row in range(len(column))], size, first_frame,
                          lambda row: data[row].as_py() or b"")
    if not _is_text(column):
        raise InputError(f"{path}: column {name}: holds {column.type}, expected images or names of images "
                         "(--images)")
    files = [path.parent / text for text in column.to_pylist()]
    missing = [str(file) for file in files if not is_file(path.parent, file)]
    if missing:
        raise InputError(f"{path}: column {name}: {len(missing)} of {len(files)} files are not there: "
                         f"{listed(missing)}; expected paths from {path.parent} on")
    return ImageFiles(files, size, first_frame)


def _by_split(path, names, rows, labels, where):
    """The rows of each split as a column names it."""
    splits = {}
    for row, name in enumerate(names):
        splits.setdefault(split_of(name or ""), []).append(row)
    if "" in splits or "train" not in splits:
        raise InputError(f"{where}: got '{names[splits.get('', [0])[0]]}' in row {splits.get('', [0])[0]}, "
                         f"expected {', '.join(words[0] for words in SPLITS.values())}, and some of train")
    parts = {}
    for split, chosen in splits.items():
        index = np.array(chosen)
        own = rows.subset(index) if isinstance(rows, ImageFiles) else rows[index]
        parts[split] = Part(own, Words(labels.codes[index], labels.names) if isinstance(labels, Words)
                            else labels[index], where)
    return parts
