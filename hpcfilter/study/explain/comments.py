"""The comments beside names in the source: what the key of a table means stands behind it, on its last line
or in the lines above.

    lr: Positive = 0.05  # for `lr_batch` samples per step

So the schemas stay as short as they are, and the command line and the pages say what they say.
"""

import ast
import inspect
import io
import re
import textwrap
import tokenize


def beside(thing):
    """The comments beside the keys of a class or the keyword-only parameters of a function. Returns name ->
    str, only those that have one."""
    text = _source(thing)
    if not text:
        return {}
    node = ast.parse(text).body[0]
    if isinstance(node, ast.ClassDef):
        lines = [line for line in node.body if isinstance(line, ast.AnnAssign)]
        return _of_places(text, {line.target.id: line for line in lines})
    each = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return _of_places(text, {one.arg: _together(one, default) for one, default in each})


def _source(thing):
    """The source of a class or function, without indentation and decorators; "" where there is none."""
    try:
        text = textwrap.dedent(inspect.getsource(inspect.unwrap(thing)))
    except (OSError, TypeError):
        return ""
    begin = re.search(r"^(class|def) ", text, re.M)
    return text[begin.start() :] if begin else ""


def _together(one, default):
    """A parameter and its default as one place."""
    one.end_lineno = max(one.end_lineno, default.end_lineno if default else 0)
    return one


def _of_places(text, places):
    """The comments of some nodes of a text. A line that several nodes end on says nothing of each of them."""
    behind, alone = _comments(text)
    ends, found = [node.end_lineno for node in places.values()], {}
    for name, node in places.items():
        said, line = [], node.lineno - 1
        while line in alone:
            said.insert(0, alone[line])
            line -= 1
        if node.end_lineno in behind and ends.count(node.end_lineno) == 1:
            said.append(behind[node.end_lineno])
        if said:
            found[name] = " ".join(said)
    return found


def _comments(text):
    """The comments of a text by line number: (those behind something, those alone in their line). Words to
    the linter are none."""
    behind, alone = {}, {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        said = token.string.lstrip("#").strip()
        if token.type == tokenize.COMMENT and not said.startswith(("noqa", "type:")):
            (behind if token.line[: token.start[1]].strip() else alone)[token.start[0]] = said
    return behind, alone
