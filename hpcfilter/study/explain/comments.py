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
        places = {
            line.target.id: line
            for line in node.body
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
        }
    else:
        arguments = node.args
        places = {
            one.arg: _together(one, default)
            for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        }
    return _of_places(text, places)


def beside_names(module):
    """The comments beside the names that a module sets, such as types: name -> str."""
    text = inspect.getsource(module)
    places = {
        line.targets[0].id: line
        for line in ast.parse(text).body
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)
    }
    return _of_places(text, places)


def type_name(function, name):
    """The name of the type of a keyword-only parameter as it stands in the source, such as "Fraction"; ""
    when it has none."""
    text = _source(function)
    for one in ast.parse(text).body[0].args.kwonlyargs if text else ():
        if one.arg == name and one.annotation is not None:
            names = [node.id for node in ast.walk(one.annotation) if isinstance(node, ast.Name)]
            return names[0] if names else ""
    return ""


def _source(thing):
    """The source of a class or function, without its indentation and its decorators; "" where there is
    none."""
    try:
        text = textwrap.dedent(inspect.getsource(inspect.unwrap(thing)))
    except (OSError, TypeError):
        return ""
    return (
        text[re.search(r"^(class|def) ", text, re.M).start() :]
        if re.search(r"^(class|def) ", text, re.M)
        else ""
    )


def _together(one, default):
    """A parameter and its default as one place."""
    one.end_lineno = max(one.end_lineno, default.end_lineno if default else 0)
    return one


def _of_places(text, places):
    """The comments of some nodes of a text. A line that several nodes end on says nothing of each of them."""
    behind, alone = _comments(text)
    ends = [node.end_lineno for node in places.values()]
    found = {}
    for name, node in places.items():
        said = (
            [behind[node.end_lineno]]
            if node.end_lineno in behind and ends.count(node.end_lineno) == 1
            else []
        )
        line = node.lineno - 1
        while line in alone:
            said.insert(0, alone[line])
            line -= 1
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
