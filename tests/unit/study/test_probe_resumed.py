"""Probes that were killed, and go on."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from commands import ok
from landscapes import QUICK, same

from hpcfilter import cli
from hpcfilter.base.errors import Interrupted
from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import run as play
from hpcfilter.data import read_probe
from hpcfilter.study.landscape import Options, probe
from hpcfilter.study.landscape.loss import Loss


def test_a_killed_probe_goes_on_where_it_was(trained, tmp_path, monkeypatch):
    """Killed at its 9th, 14th and 40th look at a whole set, and once without a word between two parts: the
    same file as in one piece."""
    options = Options(**QUICK, other=str(trained("b")))
    whole = probe(trained("a"), SerialComm(), output=tmp_path / "whole.h5", options=options)[1]
    monkeypatch.setattr("hpcfilter.study.landscape.file.EVERY", 0.0)
    look, looks = Loss.alone, itertools.count(1)

    def dies(loss):
        if next(looks) in (9, 14, 40):
            raise KeyboardInterrupt
        return look(loss)

    monkeypatch.setattr(Loss, "alone", dies)
    for _ in range(3):
        with pytest.raises(Interrupted, match="p.h5 has what was measured; the same command goes on with it"):
            probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=options)
        assert np.isnan(read_probe(tmp_path / "p.h5").sets["full"]["slice1d"]["loss"]).sum() in (2, 0)
    probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=options)
    points = 2 * (2 * 5 + 9 + 21)
    assert next(looks) == points + 3 + 1  # only the looks that died were made twice
    for found in (read_probe(tmp_path / "p.h5"), read_probe(tmp_path / "whole.h5")):
        same(whole.sets, found.sets)
        same(whole.samples, found.samples)
    before = (tmp_path / "p.h5").stat().st_ino
    probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=Options(**QUICK, what=("curvature",)))
    assert next(looks) == points + 5 and (tmp_path / "p.h5").stat().st_ino == before  # nothing was left to do


def test_what_a_killed_probe_has_left_goes_with_the_next(trained, tmp_path):
    for name in ("p.h5.part12", "q.h5.part12"):
        (tmp_path / name).write_bytes(b"half")
    probe(trained("everything"), SerialComm(), output=tmp_path / "p.h5",
          options=Options(samples=20, what=("sharpness",)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.h5", "q.h5.part12"]


def test_a_probe_goes_on_with_another_number_of_ranks(trained, tmp_path, monkeypatch):
    options = Options(**QUICK, what=("curvature", "slices"))
    whole = probe(trained("a"), SerialComm(), output=tmp_path / "whole.h5", options=options)[1]
    monkeypatch.setattr("hpcfilter.study.landscape.file.EVERY", 0.0)
    for ranks, name, deadly in ((3, "curve", 2), (2, "alone", 4)):
        do, calls = getattr(Loss, name), itertools.count(1)

        def dies(*words, do=do, calls=calls, last=deadly * ranks):
            if next(calls) == last:
                raise KeyboardInterrupt
            return do(*words)

        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(Loss, name, dies)
            play(ranks, lambda comm: probe(trained("a"), comm, output=tmp_path / "p.h5", options=options))
    found = probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=options)[1]
    same(whole.sets, found.sets, 1e-4)
    same(whole.sets, read_probe(tmp_path / "p.h5").sets, 1e-4)


@pytest.mark.parametrize("method, call", [("curve", 3), ("alone", 4)])
def test_real_ranks_that_are_killed_leave_what_the_next_go_on_with(trained, tmp_path, program, hpcfilter,
                                                                   method, call):
    """Killed inside curvature, and inside slices."""
    path, what = tmp_path / "p.h5", ("curvature", "slices")
    words = [trained("a"), "-o", path, "--what", ",".join(what),
             *(word for name, value in QUICK.items() for word in (f"--{name}", str(value)))]
    assert program(2, "probe_dies", method, call, *words).returncode != 0
    before = read_probe(path).sets["full"]
    known = before["trace_terms"] if method == "curve" else before["slice1d"]["loss"]
    assert 0 < np.isnan(known).sum() < known.size
    Path(f"{path}.part1").write_bytes(b"half")
    ok(hpcfilter(2, "probe", *words))
    after = read_probe(path).sets
    assert (np.array_equal(before["eigenvalues"], after["full"]["eigenvalues"])
            and list(tmp_path.iterdir()) == [path])
    same(probe(trained("a"), SerialComm(), output=tmp_path / "whole.h5",
               options=Options(**QUICK, what=what))[1].sets, after, 1e-4)


def test_a_file_of_another_probe_is_not_gone_on_with(trained, tmp_path, capsys):
    words = ["probe", str(trained("a")), "-o", str(tmp_path / "p.h5"), "--what", "sharpness"]
    assert cli.main([*words, "--samples", "20"]) == 0
    assert cli.main([*words, "--samples", "30"]) == 2
    assert cli.main([*words, "--samples", "20", "--epoch", "0"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert ("holds a probe of options samples 20, got 30; give another --output, or --restart" in said[0]
            and "a probe of weights" in said[1])
    assert cli.main([*words, "--samples", "30", "--restart"]) == 0
    (tmp_path / "p.h5").write_bytes((tmp_path / "p.h5").read_bytes()[:-50])
    assert cli.main([*words, "--samples", "30"]) == 2


def test_a_probe_of_another_loss_is_not_gone_on_with(trained, tmp_path, capsys):
    words = ["probe", str(trained("a")), "-o", str(tmp_path / "p.h5"), "--what", "sharpness",
             "--samples", "20"]
    assert cli.main(words) == 0
    assert cli.main([*words, "--set", "loss.label_smoothing=0.1"]) == 2
    assert "holds a probe of options loss.label_smoothing 0.0, got 0.1" in capsys.readouterr().err
    assert cli.main([*words, "--set", "loss.name=reconstruction"]) == 2
