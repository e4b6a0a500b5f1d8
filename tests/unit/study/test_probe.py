"""The verb `probe`: what it looks at, on one rank and on several, what it says, and how it goes
on after it was killed."""

import numpy as np
import pytest
import torch
from commands import ok
from landscapes import QUICK, same

from hpcfilter import cli
from hpcfilter.base.errors import InputError
from hpcfilter.comm import SerialComm
from hpcfilter.comm.threads import run as play
from hpcfilter.data import read_probe, write_probe
from hpcfilter.study.landscape import Options, probe
from hpcfilter.study.landscape.loss import Loss, batch_of
from hpcfilter.study.landscape.sets import chosen
from hpcfilter.study.report import read_run
from hpcfilter.train.config import Config


def test_the_weights_are_those_that_the_run_has_ended_with(trained, tmp_path):
    found = probe(trained("a"), SerialComm(), output=tmp_path / "p.h5", options=Options(**QUICK))[1]
    assert found.about["weights"] == read_run(trained("a"))[2]["weights"]
    assert found.about["epoch"] == 1 and found.about["data"] == read_run(trained("a"))[0]["data"]


def test_a_smaller_number_of_samples_is_part_of_a_larger_one():
    index = np.arange(0, 1000, 3)
    small, large = chosen(index, 50, 1), chosen(index, 100, 1)
    assert len(small) == 50 and set(small) <= set(large) <= set(index) and (np.diff(small) > 0).all()
    assert not np.array_equal(small, chosen(index, 50, 2))
    assert np.array_equal(chosen(index, None, 1), index) and np.array_equal(chosen(index, 334, 1), index)


def test_a_policy_that_keeps_everything_says_so_and_both_sets_are_the_same(trained, tmp_path, capsys):
    words = ["probe", str(trained("everything")), "-o", str(tmp_path / "p.h5"), "--what", "curvature",
             "--samples", "90", "--probes", "2"]
    assert cli.main(words) == 0
    assert "none keeps all 1438 samples" in capsys.readouterr().out
    found = read_probe(tmp_path / "p.h5")
    same(found.sets["full"], found.sets["filtered"])
    assert (found.about["sets"] == {"full": 90, "filtered": 90} and np.isnan(found.about["fraction"])
            and "trace" in found.sets["filtered"])


def test_a_policy_that_keeps_everything_at_the_end_is_asked_for_an_earlier_epoch(trained, tmp_path, capsys):
    """InfoBatch over 2 epochs trains all from epoch 1.75 on."""
    words = ["probe", str(trained("infobatch")), "-o", str(tmp_path / "p.h5"), "--what", "sharpness"]
    assert cli.main(words) == 0
    assert ("after epoch 1 infobatch keeps everything; filtered: "
            "what it would keep in that epoch" in capsys.readouterr().out)
    about = read_probe(tmp_path / "p.h5").about
    assert about["selection_epoch"] == 1 and about["epoch"] == 1 and 0 < about["kept"] < about["total"]
    three = play(3, lambda comm: probe(trained("infobatch"), comm, output=tmp_path / "3.h5",
                                       options=Options(what=("sharpness",)))[1])
    assert {found.about["selection"] for found in three} == {about["selection"]}


def test_a_table_can_say_what_is_kept(trained, tmp_path, capsys):
    run, words = str(trained("a")), ["--what", "sharpness", "--samples", "50"]
    assert cli.main(["score", run, "-o", str(tmp_path / "scores.h5")]) == 0
    assert cli.main(["select", str(tmp_path / "scores.h5"), "--fraction", "0.5"]) == 0
    assert cli.main(["probe", run, "-o", str(tmp_path / "p.h5"),
                     "--selection", str(tmp_path / "selection.h5"), *words]) == 0
    about = read_probe(tmp_path / "p.h5").about
    assert (about["policy"], about["kept"], about["total"]) == ("static", 719, 1438)
    assert cli.main(["probe", run, "-o", str(tmp_path / "p.h5"), *words]) == 2
    assert "holds a probe of selection" in capsys.readouterr().err


def test_a_table_of_the_same_selection_may_lie_elsewhere(trained, tmp_path):
    run = str(trained("a"))
    words = ["probe", run, "-o", str(tmp_path / "p.h5"), "--what", "sharpness", "--samples", "1000000",
             "--selection"]
    assert cli.main(["score", run, "-o", str(tmp_path / "scores.h5")]) == 0
    assert cli.main(["select", str(tmp_path / "scores.h5"), "--fraction", "0.5"]) == 0
    assert cli.main([*words, str(tmp_path / "selection.h5")]) == 0
    (tmp_path / "selection.h5").rename(tmp_path / "moved.h5")
    assert cli.main([*words, str(tmp_path / "moved.h5")]) == 0
    assert "selection_epoch" not in read_probe(tmp_path / "p.h5").about


@pytest.mark.parametrize("settings, ranks, batch", [
    ({"global_batch": 60}, 1, 240), ({"global_batch": 61}, 2, 124), ({"batch": 32}, 8, 128),
    ({"batch": 200}, 1, 512), ({"batch": 200, "micro": 8}, 1, 32)])
def test_so_many_samples_go_forward_as_have_fit_in_training(settings, ranks, batch):
    passes = {"pass": {"micro": {"samples": settings["micro"]}}} if "micro" in settings else {}
    train = {key: value for key, value in settings.items() if key != "micro"}
    assert batch_of(Config(data={"path": "packed.h5"}, train=train, **passes), ranks) == batch


@pytest.mark.parametrize("newer", [False, True])
def test_matrix_products_are_those_of_float32(trained, tmp_path, monkeypatch, newer):
    """Whichever of torch's two interfaces has asked for less, and they are as before afterwards."""
    seen, look, products = set(), Loss.shared, torch.backends.cuda.matmul
    monkeypatch.setattr(Loss, "shared", lambda loss: (seen.add(products.fp32_precision), look(loss))[1])
    torch.set_float32_matmul_precision("highest" if newer else "medium")
    if newer:
        products.fp32_precision = "tf32"
    try:
        probe(trained("everything"), SerialComm(), output=tmp_path / "p.h5",
              options=Options(samples=20, what=("sharpness",)))
        assert seen == {"ieee"} and products.fp32_precision == "tf32"
        assert newer or torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("ranks", [2, 3])
def test_points_divided_over_ranks_have_the_values_of_one(trained, tmp_path, ranks):
    options = Options(**QUICK, other=str(trained("b")))
    one = probe(trained("a"), SerialComm(), output=tmp_path / "one.h5", options=options)[1]
    for found in [*(found for _, found in play(ranks, lambda comm: probe(trained("a"), comm, output=tmp_path
                                                                         / "p.h5", options=options))),
                  read_probe(tmp_path / "p.h5")]:
        assert found.about["ranks"] == ranks
        assert all(found.about[name] == value for name, value in one.about.items() if name != "ranks")
        for name, part in one.sets.items():
            for group in ("slice1d", "slice2d"):
                same(part[group], found.sets[name][group], 1e-6)
        same(one.sets, found.sets, 1e-4)
        same({**one.samples, "xy": np.abs(one.samples["xy"])},
             {**found.samples, "xy": np.abs(found.samples["xy"])}, 1e-3)


def test_two_real_ranks_measure_what_one_does(trained, tmp_path, hpcfilter):
    words = [word for name, value in QUICK.items() for word in (f"--{name}", str(value))]
    for ranks in (1, 2):
        done = ok(hpcfilter(ranks, "probe", trained("a"), "--other", trained("b"),
                            "-o", tmp_path / f"{ranks}.h5", *words))
        assert ("largest eigenvalues" in done.stdout and str(tmp_path / f"{ranks}.h5") in done.stdout
                and done.stdout.count("sharpness") == 1)
    one, two = (read_probe(tmp_path / f"{ranks}.h5") for ranks in (1, 2))
    assert (one.about["ranks"], two.about["ranks"]) == (1, 2) and one.about["weights"] == two.about["weights"]
    assert one.about["sets"] == two.about["sets"] == {"full": 150, "filtered": 150}
    same(one.sets, two.sets, 1e-4)
    assert np.array_equal(one.samples["index"], two.samples["index"])


def test_a_probe_says_what_it_will_cost(trained, tmp_path, capsys):
    words = ["probe", str(trained("a")), "-o", str(tmp_path / "p.h5"), "--points", "5", "--directions", "2",
             "--grid", "3", "--probes", "2"]
    assert cli.main([*words, "--samples", "100", "--what", "slices"]) == 0
    assert cli.main([*words, "--samples", "100", "--what", "slices,curvature", "--eigenvalues", "5"]) == 0
    first, second = (line for line in capsys.readouterr().err.splitlines() if line.startswith("probe: "))
    assert (first == "probe: 38 points and about 0 Hessian products to come: "
            "38 forward passes or more over 100 samples, shared by the ranks")
    assert "probe: 0 points and about 64 Hessian products" in second
    assert (cli.main([*words, "--samples", "100", "--what", "slices"]) == 0
            and "forward passes" not in capsys.readouterr().err)


@pytest.mark.parametrize("words, problem", [
    (["--what", "curvature,shape"],
     "probe: --what: unknown 'shape'; known: curvature, slices, map, sharpness, barrier"),
    (["--what", "barrier"], "--what: barrier needs the run folder of other weights, --other"),
    (["--points", "50"], "--points: got 50, expected an odd number from 3 on"),
    (["--grid", "1"], "--grid: got 1, expected an odd number"),
    (["--span", "0"], "--span: got 0.0, expected a number above 0"),
    (["--rho", "nan"], "--rho: got nan, expected a number above 0"),
    (["--probes", "1"], "--probes: got 1, expected 2 or more"),
    (["--samples", "0"], "expected a number from 1 on"),
    (["--batch", "0"], "expected a number from 1 on"),
    (["--epoch", "7"], "no checkpoint of epoch 7; there are: 0, 1"),
    (["--what", "barrier", "--other", "nowhere"], "nowhere: no checkpoints there"),
    (["--selection", "nowhere.h5"], "nowhere.h5: cannot read"),
    (["--set", "score.name=el2n"], "has trained with loss, got el2n"),
    (["--set", "model.width=8"], "it belongs to another model"),
    (["-o", "nowhere/probe.h5"], "nowhere/probe.h5: cannot be the file to write: no folder nowhere")])
def test_bad_input_is_one_line(trained, capsys, tmp_path, monkeypatch, words, problem):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["probe", str(trained("a")), "-o", "p.h5", "--samples", "20",
                     "--what", "sharpness", *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and problem in said[0]


def test_a_damaged_file_is_refused(trained, tmp_path):
    path, found = probe(trained("everything"), SerialComm(), output=tmp_path / "p.h5",
                        options=Options(samples=20, what=("map",)))
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-1],
                    whole[:999] + bytes([whole[999] ^ 1]) + whole[1000:], b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError):
            read_probe(path)
    for wrong in ({"xy": found.samples["xy"][:-1]}, {"lowest": np.array([10**6])},
                  {"image_of": found.samples["image_of"][:-1]}):
        write_probe(path, type(found)(found.about, found.sets, {**found.samples, **wrong}))
        with pytest.raises(InputError):
            read_probe(path)
