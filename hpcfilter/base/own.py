"""The user's own code: found by its name, and run so that what goes wrong in it is one line that
names the line of theirs."""

import importlib
import inspect
import os
import sys
import sysconfig
from functools import partial
from importlib.machinery import PathFinder

from hpcfilter.base.errors import OwnCode, Refusal

MOST = 300  # characters of what an exception says
NOBODYS = "OutOfMemoryError", "AcceleratorError"  # of torch: the device's, wherever they come up
_PYTHON = tuple({os.path.join(os.path.realpath(sysconfig.get_path(name)), "")
                 for name in ("stdlib", "platstdlib")})
_HERE = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))), "")


def imported(path, where):
    """The object that "package.module:name" names. where: the key of the config that names it. Raises
    InputError when it cannot be imported."""
    module, colon, name = path.partition(":")
    if not colon:
        raise OwnCode(f"{where}: got '{path}', expected package.module:name")
    if module.endswith(".py") or os.sep in module:
        better = module.removesuffix(".py").strip("./").replace(os.sep, ".")
        raise OwnCode(f"{where}: got '{path}', expected the name of a module instead of its file, "
                      f"such as {better}:{name}")
    try:
        return getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # the user's own code may fail in any way
        raise OwnCode(f"{where}: cannot import '{path}': {told(error)}{_hint(module, error)}") from error


class code:
    """Around the user's own code, `with code("loss.name"): ...`: whatever it raises becomes an OwnCode of one
    line. May be entered again."""

    def __init__(self, where, theirs=True, *things):
        """where: what the line begins with, such as the key of the config that names the code. theirs: if
        not, nothing is done. things: what to name a line of if the exception comes from none of theirs."""
        self._where, self._theirs, self._things = where, theirs, things

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if (self._theirs and isinstance(error, (Exception, SystemExit)) and not isinstance(error, Refusal)
                and kind.__name__ not in NOBODYS):
            raise OwnCode(f"{self._where}: {told(error, *self._things)}") from error


def call(where, form, function, /, *values, **keys):
    """What the user's own function returns. Raises OwnCode when it cannot be called so, or fails.
    Arguments: as of `check_call`."""
    check_call(where, form, function, *values, **keys)
    with code(where, True, function):
        return function(*values, **keys)


def check_call(where, form, function, /, *values, **keys):
    """Raise OwnCode unless the user's own function can be called so.

    where: the key of the config that names it. form: how it is called and what it returns, in words.
    """
    if not callable(function):
        raise OwnCode(f"{where}: got {a(function)}, expected {form}")
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # compiled code
    try:
        signature.bind(*values, **keys)
    except TypeError as error:
        takes = [*signature.parameters]
        raise OwnCode(f"{where}: {name_of(function)} takes ({', '.join(takes[:5])}"
                      f"{', ...' if len(takes) > 5 else ''}), expected {form}{place(function)}") from error


def told(error, *things):
    """An exception on one line: its kind, what it says, and the line of the user's code that it comes from,
    or else where the things stand."""
    # whose text has the line, too
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return (f"{type(error).__name__}{': ' if text else ''}{text[:MOST]}{'...' if len(text) > MOST else ''}"
            f"{_at(*_origin(error)) or place(*things)}")


def place(*things):
    """Where the first of these functions, classes or objects that are the user's own stands: "
    (nets.py, line 7)", or "" for none."""
    for thing in (inspect.unwrap(thing.func if isinstance(thing, partial) else thing) for thing in things):
        source = thing if inspect.isroutine(thing) or isinstance(thing, type) else type(thing)
        try:
            file = inspect.getsourcefile(source)
            line = (source.__code__.co_firstlineno if hasattr(source, "__code__")
                    else inspect.getsourcelines(source)[1])
        except (TypeError, OSError):
            continue
        if file and _theirs(file):
            return _at(file, line)
    return ""


def name_of(function):
    """What a function, class or object is called."""
    return getattr(function, "__name__", None) or type(function).__name__


def a(thing):
    """What something is, in a few words: "None", "a tuple of 2 (Tensor, Tensor)", "the class Net"."""
    kind = type(thing).__name__
    if thing is None:
        return "None"
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    if isinstance(thing, (tuple, list)):
        return (f"a {kind} of {len(thing)} ({', '.join(type(part).__name__ for part in thing[:4])}"
                f"{', ...' if len(thing) > 4 else ''})")
    if isinstance(thing, dict):
        return f"a dict with {', '.join(map(repr, list(thing)[:4]))}{', ...' if len(thing) > 4 else ''}"
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"


def _origin(error):
    """(file, line) of the user's code that an exception comes from, or of a package that is neither hpcfilter
    nor torch; else (None, None)."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno
    frames, trace = [], error.__traceback__
    while trace:
        frames.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    for installed in (False, True):
        if theirs := [frame for frame in frames if _theirs(frame[0], installed)]:
            return theirs[-1]
    return None, None


def _theirs(file, installed=False):
    """Whether a file is of the user: not of hpcfilter, Python or torch, nor (unless `installed`) of another
    package that is installed."""
    if file.startswith("<"):  # of no file
        return False
    file, torch = os.path.realpath(file), getattr(sys.modules.get("torch"), "__path__", [])
    package = any(f"{os.sep}{folder}{os.sep}" in file for folder in ("site-packages", "dist-packages"))
    others = (_HERE, *(os.path.join(os.path.realpath(folder), "") for folder in torch))
    return not file.startswith(others) and (installed if package else not file.startswith(_PYTHON))


def _at(file, line):
    if file is None:
        return ""
    near = os.path.relpath(file)
    return f" ({file if near.startswith(os.pardir) else near}, line {line})"


def _hint(module, error):
    """Where a module was looked for that is not there, or which module of the current folder another one of
    its name was imported for; or ""."""
    top = module.partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and error.name == top:
        return f"; looked in the current folder, {os.getcwd()}, and on PYTHONPATH"
    # a module, or what lacks a name
    missing = getattr(error, "name", None), getattr(getattr(error, "obj", None), "__name__", None)
    for name in (top, *(name.partition(".")[0] for name in missing if name)):
        mine, other = PathFinder.find_spec(name, [os.getcwd()]), sys.modules.get(name)
        if mine and mine.origin and other and getattr(other, "__file__", None) != mine.origin:
            whose = "Python's own module" if name in sys.stdlib_module_names else "the installed module"
            return (f"; {os.path.relpath(mine.origin)} in the current folder is hidden by {whose} {name}: "
                    "rename it")
    return ""
