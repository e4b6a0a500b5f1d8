"""What a refusal says: in our own words, without a library's text, with the name that may be meant."""

import re
from pathlib import Path
from typing import Annotated, Literal

import h5py
import numpy as np
import pytest
from pydantic import Field

import hpcfilter
from hpcfilter.base.complaints import EXPECTED
from hpcfilter.base.errors import InputError
from hpcfilter.base.names import meant, unknown
from hpcfilter.base.registry import bind, choose
from hpcfilter.cli import main
from hpcfilter.data import open_packed, read_probe, read_table
from hpcfilter.jobs.machine import Machine
from hpcfilter.jobs.schema import Job
from hpcfilter.train.config import Config

RAW = re.compile(r"Input should|synchronously|codec|can't decode|decompress|file "
                 r"signature|Errno|BadZip|pattern|Traceback|\[\^|\]\*|\\[dw]"
                 # of libraries, and of regular expressions
                 r"|0x[0-9a-f]+|validation error|pydantic|NoneType|JSONDecode|Expecting")


def one_line(words, capsys, *messages):
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("hpcfilter: ") and err.count("\n") == 1 and not RAW.search(err), err
    assert all(message in err for message in messages), err


@pytest.mark.parametrize("setting, message", [
    ("train.epochs=many", "train.epochs: expected a whole number, got 'many'"),
    ("train.epochs=1.5", "expected a whole number, got 1.5"),
    ("train.epochs=0", "expected 1 or more, got 0"), ("optim.lr=fast", "expected a number, got 'fast'"),
    ("optim.lr=0", "expected more than 0, got 0"), ("optim.lr=nan", "expected a finite number"),
    ("optim.momentum=1", "expected less than 1, got 1"), ("schedule.gamma=2", "expected 1 or less, got 2"),
    ("train.deterministic=perhaps", "expected true or false, got 'perhaps'"),
    ("optim.name=3", "expected a text in quotes, got 3"),
    ("schedule.milestones=3", "expected a list, such as"),
    ("schedule.milestones=[0.5, 'x']", "schedule.milestones.1: expected a number, got 'x'"),
    ("train=3", "train: expected a table, got 3"),
    ("data.path=3", "data.path: expected a path in quotes, got 3"),
    ("data.path=['a']", "data.path: expected a path in quotes"),
    ("schedule.name=cosin", "expected 'cosine', 'polynomial', 'step' or 'constant', got 'cosin'; did you "
     "mean 'cosine'?"), ("checkpoint.seconds=0", "checkpoint.seconds: expected more than 0 or 'auto', got 0"),
    ("checkpoint.seconds=[]", "checkpoint.seconds: expected a number or 'auto', got []"),
    ("stop.signals=['SIGUSR1']", "SIGUSR1 is no signal that can be caught; expected names such as USR1, "
     "USR2, TERM, got ['SIGUSR1']; did"),
    ("job.account=two words", "job.account: expected one word of letters, digits and"),
    ("job.name=-x", "job.name: expected one word"),
    ("job.directives=['x y']", "job.directives.0: expected an option as the scheduler"),
    ("job.env={'a b' = 'c'}", "the name of a variable"),
    ("job.constraint=$x", "job.constraint: expected names of features"),
    ("job.dependency= x", "job.dependency: expected a dependency"),
    ("job.walltime=2h", "job.walltime: expected hours, minutes and seconds"),
    ("job.nodes=0", "job.nodes: expected 1 or more"),
    ("job.account=" + 300 * "x", "expected a text of at most 255 characters"),
    ("job.machine=", "expected a text of 1 or more characters, got ''"),
    ("job.stage=[]", "job.stage: expected a table"), ("job.modules=gcc", "job.modules: expected a list"),
    ("job.env=x", "job.env: expected a table"),
    ("model.hidden=x", "model.hidden: expected a whole number, got 'x' (of mlp)"),
    ("filter.fraction=2", "filter.fraction: expected less than 1, got 2"),
])
def test_wrong_values_of_a_run_config(tmp_path, digits, config, capsys, setting, message):
    path = config(digits, model={"name": "mlp", "width": None}, filter={"policy": "random"})
    one_line(["train", path, "--run-dir", tmp_path / "run", "--set", setting], capsys, message)


def test_every_complaint_of_the_schemas_has_words():
    """Of all that pydantic can say of the types that our tables use; a value of every wrong kind
    is tried in every key."""
    wrong = (None, "", "~x", 3, -1, 1e99, float("nan"), True, [], ["a"], [[1]], {}, {"x": 1}, "x" * 5000,
             "a\nb", 2**70)
    for model in (Config, Job, Machine):
        for key in model.model_fields:
            for value in wrong:
                found = complaint(model, {key: value})
                assert not RAW.search(found) and "another value" not in found, found


def complaint(model, tables):
    import pydantic

    from hpcfilter.base.settings import describe

    try:
        model.model_validate(tables)
        return ""
    except pydantic.ValidationError as error:
        return " ".join(describe(error, model, tables)[1:])


def test_parameters_of_any_type_have_words():
    def function(*, a: int = 1, b: tuple[int, int] = (1, 1), c: dict[str, float] | None = None,
                 d: Literal["x", 3] = "x", e: Annotated[list[int], Field(min_length=1, max_length=2)] = (1,),
                 f: Path | None = None, g: int | float | bool = 1, h: bytes = b""):
        pass

    for key, value, message in (
            ("a", "x", "t.a: expected a whole number, got 'x'"), ("b", [1], "t.b.1: missing"),
            ("c", 3, "t.c: expected a table, got 3"), ("c", {"k": "x"}, "t.c.k: expected a number"),
            ("d", "y", "t.d: expected 'x' or 3, got 'y'"), ("e", [], "t.e: expected 1 or more entries"),
            ("e", [1, 2, 3], "t.e: expected at most 2 entries"), ("f", 3, "t.f: expected a path"),
            ("g", "x", "t.g: expected a whole number or a number or true or false, got 'x'")):
        with pytest.raises(InputError) as caught:
            bind(function, {key: value}, "t")
        assert str(caught.value).startswith(message) and not RAW.search(str(caught.value)), caught.value
    assert all("{" not in words.format_map(dict.fromkeys(re.findall(r"\{(\w+)\}", words), "1"))
               for words in EXPECTED.values())


@pytest.fixture
def wrong_files(tmp_path, digits):
    """Name -> path of what is no packed file, no table, no run config and no probe."""
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 2)))
    np.save(tmp_path / "d.npy", np.zeros(3))
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file["x"] = np.zeros(3)
    for name, data in (("empty.h5", b""), ("text.h5", b"hello"),
                       ("picture.png", b"\x89PNG\r\n\x1a\n" + b"x" * 90), ("noise.h5", bytes(range(256)) * 9),
                       ("short.h5", digits.read_bytes()[:3000]), ("head.h5", digits.read_bytes()[:100])):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    return tmp_path


WRONG = {"d.npz": "it is a zip archive, as .npz files are", "d.npy": "it is a .npy file", "raw.h5": "",
         "empty.h5": "it is an empty file", "text.h5": "", "picture.png": "it is a PNG image", "noise.h5": "",
         "short.h5": "", "head.h5": "", "folder": "it is a folder", "gone.h5": "No such file or directory"}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_things_where_a_file_is_expected(wrong_files, digits, config, capsys, name):
    path, said = wrong_files / name, WRONG[name]
    words = ["train", config(path), "--run-dir", wrong_files / "run"]
    one_line(words, capsys, str(path), said,
             *([] if name in ("short.h5", "head.h5") else ["hpcfilter pack "]))
    one_line(["train", config(digits, filter={"policy": "static", "selection": str(path)}), *words[2:]],
             capsys, str(path), said)
    one_line(["select", path, "--fraction", "0.1"], capsys, str(path), said)
    one_line(["train", path, *words[2:]], capsys, str(path),
             "config" if name not in ("text.h5", "empty.h5") else "")
    one_line(["jobs", "stage", path, wrong_files / "node" / "d.h5"], capsys, str(path), said)
    one_line(["jobs", "stage", path, wrong_files / "node" / "d.h5", "--method", "tar"], capsys, str(path))
    one_line(["report", path], capsys, str(path))
    one_line(["score", path], capsys, str(path), "expected a run folder")
    for read in (open_packed, read_table, read_probe):
        with pytest.raises(InputError) as caught:
            read(path)
        assert not RAW.search(str(caught.value)) and said in str(caught.value), caught.value


@pytest.mark.parametrize("data, message", [
    (b"[data]\npath = d.h5\n", "not TOML: Invalid value (at line 2, column 8), in: 'path = d.h5'; "
     "texts stand in quotes"), (b'{"data": 1}', "not TOML: "),
    (b'seed = "\xff"', "it is no text in UTF-8, expected a text file in TOML"), (b"seed = 'a", "not TOML: "),
    (b"\xef\xbb\xbfseed = 'one'", "line 1: seed: expected a whole number"), (b"", "data: missing"),
    (b"x\r\ny", "not TOML: "), (b"a = [\n", "not TOML: "), (b"\n\na =\n", "not TOML: "),
])
def test_run_configs_that_are_none(tmp_path, capsys, data, message):
    (tmp_path / "run.toml").write_bytes(data)
    one_line(["train", tmp_path / "run.toml", "--run-dir", tmp_path / "run"], capsys, message)


def test_a_packed_file_where_a_table_is_expected(digits, capsys):
    one_line(["select", digits, "--fraction", "0.1"], capsys, "is a packed data set, expected a table")


def test_damaged_files_of_a_run(trained, tmp_path, capsys):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(trained("everything"), run)
    newest = max((run / "checkpoints").iterdir())
    for name, data in (("stamp.json", b"\xff"), ("SHA256SUMS", b"\xff\xfe"), ("model.pt", b"x")):
        before = (newest / name).read_bytes()
        (newest / name).write_bytes(data)
        one_line(["score", run], capsys, str(newest))
        (newest / name).unlink()
        one_line(["score", run], capsys, str(newest))
        (newest / name).write_bytes(before)
    for data, message in ((b"\xff\n", "it is no text"), (b'{"kind": "run"}\nx\n', "line 2 is none"),
                          (b'{"a": NaN}\n', "got NaN, expected finite numbers")):
        (run / "metrics.jsonl").write_bytes(data)
        one_line(["report", run], capsys, "metrics.jsonl: not JSON lines: ", message)
    (tmp_path / "x.jsonl").write_bytes(b"\xff")
    one_line(["report", tmp_path / "x.jsonl"], capsys, "x.jsonl: cannot be read as JSON lines")


@pytest.mark.parametrize("words, hint", [
    ("trian x", "train"), ("Train x", "train"), ("reprot x", "report"), ("jobs sumbit x", "submit"),
    ("train x --run-dir r --rezume", "--resume"),
    ("train x --rundir r", "--run-dir"), ("score r --ouptut x", "--output"), ("doctor --foldr .", "--folder"),
    ("report r --format markdwon", "markdown"), ("jobs stage a b --method cpoy", "copy"),
    ("probe r --what slice", "slices"), ("jobs render {} --machine frontire", "frontier"),
    ("jobs render {} --machin", ""), ("train {} --run-dir r --set trian.epochs=1", "train"),
    ("train {} --run-dir r --set train.epoch=1", "epochs"),
    ("train {} --run-dir r --set job.stage.mehtod=copy", "method"),
    ("train {} --run-dir r --set model.name=resnet", "resnet18"),
    ("train {} --run-dir r --set model.widht=1", "width"),
    ("train {} --run-dir r --set filter.policy=Kakurenbo", "kakurenbo"),
    ("train {} --run-dir r --set filter.policy=infobach", "infobatch"),
    ("train {} --run-dir r --set score.name=margn", "margin"),
    ("train {} --run-dir r --set optim.name=lamp", "lamb"),
    ("train {} --run-dir r --set loss.name=crossentropy", "cross_entropy"),
    ("train {} --run-dir r --set data.augment=shift-flip", "shift_flip"),
    ("train {} --run-dir r --set data.order=globl", "global"),
    ("train {} --run-dir r --set job.signal=SIGUSR2", "USR2"),
])
def test_did_you_mean(digits, config, tmp_path, monkeypatch, capsys, words, hint):
    monkeypatch.chdir(tmp_path)
    one_line(words.format(config(digits)).split(), capsys, f"did you mean '{hint}'?" if hint else "")


def test_nothing_is_guessed_where_nothing_is_near():
    assert meant("zzz", ["train", "score"]) == "" and meant("x", []) == ""
    assert (unknown("fltr", ["filter", "train"]) == "unknown 'fltr'; known: filter, train; "
            "did you mean 'filter'?")
    with pytest.raises(InputError, match=r"w: unknown 'b'; known: one, two$"):
        choose({"two": 2, "one": 1}, "b", "w")


def test_no_table_shows_a_regular_expression():
    """Forms are checked by settings.form, with words of their own."""
    for path in Path(hpcfilter.__file__).parent.rglob("*.py"):
        assert "pattern=" not in path.read_text(), path
