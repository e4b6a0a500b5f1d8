"""Every policy and every score in real training runs on the digits: the command line from end to end, on one
and on two real ranks."""

import shutil

import numpy as np
import pytest
from law_cases import CASES

from hpcfilter.cli import main
from hpcfilter.data import read_table, write_table
from hpcfilter.select.policies import POLICIES
from hpcfilter.select.scores import SCORES
from hpcfilter.study.report import read_run

EPOCHS = 5
TRAIN = {"epochs": EPOCHS, "global_batch": 60}
# which a file alone would tell nothing of a run
ROWS = {name: CASES["static cut" if name == "static" else name] for name in POLICIES}


def train(path, folder, *words):
    assert main(["train", str(path), "--run-dir", str(folder), *words]) == 0
    return read_run(folder)


@pytest.fixture(scope="module")
def irreducible(tmp_path_factory, digits):
    """Losses of another network, as rho wants them."""
    folder = tmp_path_factory.mktemp("irreducible")
    (folder / "run.toml").write_text(f'seed = 9\n[data]\npath = "{digits}"\n[model]\nwidth = 4\n[train]\n'
                                     'epochs = 1\nglobal_batch = 60\n')
    train(folder / "run.toml", folder / "run")
    assert main(["score", str(folder / "run")]) == 0
    return str(folder / "run" / "scores.h5")


@pytest.fixture
def case(config, digits, irreducible):
    """case(policy, **tables) -> path of a run config in which it hides something, after epochs of looking
    where it cuts once. filter: a table of its own, of the whole run."""
    def write(policy, looks=None, epochs=EPOCHS, **tables):
        row = ROWS[policy]
        chosen = {"policy": policy, **row.hides, **({"irreducible": irreducible} if policy == "rho" else {})}
        looks = row.looks if looks is None else looks
        if looks and "filter" not in tables:
            rest = {"epochs": epochs - looks, "weights": "fresh" if row.anew else "kept", "filter": chosen}
            tables = {"phase": [{"epochs": looks}, rest], "train": {**TRAIN, "epochs": None}, **tables}
        if row.score != "auto":
            tables["score"] = {"name": row.score} if isinstance(row.score, str) else row.score
        return config(digits, **{"filter": {"policy": "none"} if "phase" in tables else chosen,
                                 "train": TRAIN, "optim": {"lr": 0.1}, "checkpoint": {"keep": 9}, **tables})
    return write


@pytest.mark.parametrize("policy", POLICIES)
def test_a_run_and_the_same_run_stopped_and_resumed(tmp_path, case, policy, monkeypatch):
    """Laws 5 and 8: the weights are the same, bit for bit; every observation has arrived."""
    path = case(policy)
    _, epochs, end = train(path, tmp_path / "run")
    assert epochs[-1]["accuracy"] > 0.5 and (policy == "none") == all(row["hidden"] == 0 for row in epochs)
    # nothing is observed from a cut on
    columns, *_ = read_table(tmp_path / "run" / "checkpoints" / f"epoch-{EPOCHS - 1:05d}" / "scores.h5")
    assert columns["seen"].sum() == sum(row["kept"] + row["refreshed"]
                                        for row in epochs[: ROWS[policy].looks or None])
    for epoch in range(3, EPOCHS):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"epoch-{epoch:05d}")
    shutil.copytree(tmp_path / "run", tmp_path / "inside")
    # whose deadline has passed: it leaves inside the epoch, where some networks begin anew
    with monkeypatch.context() as job:
        job.setenv("HPCFILTER_DEADLINE", "1")
        train(path, tmp_path / "inside", "--resume")
    assert list((tmp_path / "inside" / "checkpoints").glob("epoch-00003-step-0000*"))
    for folder in ("run", "inside"):
        _, resumed, again = train(path, tmp_path / folder, "--resume")
        assert (again["weights"] == end["weights"]
                and [row["selection"] for row in resumed] == [row["selection"] for row in epochs])


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != "none"])
def test_nothing_to_hide_is_the_baseline_bit_for_bit(tmp_path, case, irreducible, policy):
    """Law 3, by the digest of the final weights; what cuts once has a phase of looking before it,
    with the weights kept."""
    nothing = {"policy": policy, **CASES[policy].nothing,
               **({"irreducible": irreducible} if policy == "rho" else {})}
    if CASES[policy].looks:
        tables = {"phase": [{"epochs": 1}, {"epochs": 2, "filter": nothing}],
                  "train": {**TRAIN, "epochs": None}, "filter": {"policy": "none"}}
    else:
        tables = {"filter": nothing, "train": {**TRAIN, "epochs": 3}}
    weights = [train(path, tmp_path / str(number))[2]["weights"] for number, path in enumerate((
        case("none", train={**TRAIN, "epochs": 3}), case(policy, **tables)))]
    assert weights[0] == weights[1]


def test_beginning_anew(tmp_path, case):
    """After the restart the network and the learning rate are those of a first epoch, and what
    is hidden stays hidden."""
    _, epochs, _ = train(case("forget", looks=3, epochs=8, schedule={"warmup_epochs": 0}), tmp_path / "run")
    rates, kept = [row["lr"] for row in epochs], [row["kept"] for row in epochs]
    assert rates[3] > rates[2] and rates == sorted(rates[:3], reverse=True) + sorted(rates[3:], reverse=True)
    assert epochs[3]["accuracy"] < epochs[2]["accuracy"] and kept == [1438] * 3 + [1438 - 431] * 5
    assert len({row["selection"] for row in epochs[3:]}) == 1


@pytest.mark.parametrize("policy", ["infobatch", "bls", "ccs"])
def test_two_real_ranks(tmp_path, case, hpcfilter, policy):
    """On real ranks with Horovod; going on from one checkpoint, another number of ranks selects the same."""
    path = case(policy)
    done = hpcfilter(2, "train", path, "--run-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    whole = read_run(tmp_path / "run")[1]
    assert whole[-1]["accuracy"] > 0.5 and any(row["hidden"] for row in whole)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / f"epoch-{EPOCHS - 1:05d}")
    done = hpcfilter(3, "train", path, "--run-dir", tmp_path / "run", "--resume")
    assert done.returncode == 0, done.stderr
    last = read_run(tmp_path / "run")[1][-1]
    assert all(last[key] == whole[-1][key] for key in ("selection", "batches", "lr", "kept"))


def test_guards_in_a_run(tmp_path, case):
    """Everything switched on: cheaper refreshes cost fewer looks, and no class falls below its floor."""
    guards = {"policy": "kakurenbo", "fraction": 0.6, "tau": 0.0, "class_floor": 0.5, "noise": 0.05,
              "noise_warmup": 1, "noise_patience": 1, "refresh": "slice", "refresh_every": 3,
              "lr": "effective"}
    _, epochs, end = train(case("kakurenbo", filter=guards), tmp_path / "run")
    assert (sum(row["refreshed"] for row in epochs) < 0.5 * sum(row["hidden"] for row in epochs)
            and end["accuracy"] > 0.5)
    assert all(row["moved_back"] > 0 for row in epochs[1:])


@pytest.mark.parametrize("name", [name for name in SCORES if name != "centroid"])
def test_every_score_in_training_and_in_a_forward_pass(tmp_path, case, name):
    """A run with the score, and a look with `hpcfilter score`, whose memory goes on from the run's."""
    epochs = 6 if name == "difference" else 3
    path = case("two_sided", filter={"policy": "two_sided", "high": 0.0}, train={**TRAIN, "epochs": epochs})
    words = ["--set", f"score.name={name}", *(["--set", "score.window=2"] if name == "dyn_unc" else [])]
    assert train(path, tmp_path / "run", *words)[1][-1]["hidden"] > 0
    assert main(["score", str(tmp_path / "run")]) == 0
    columns, about, _ = read_table(tmp_path / "run" / "scores.h5")
    assert about["score"] == name
    assert not np.isnan(columns["importance"]).any() and len(np.unique(columns["importance"])) > 1
    memory, *_ = read_table(tmp_path / "run" / "checkpoints" / f"epoch-{epochs - 1:05d}" / "scores.h5")
    if name == "batch_loss":
        assert np.array_equal(columns["importance"],
                              memory["importance"]), "a look at one sample is no batch loss"
    if name == "aum":
        # the margin of the last look alone
        look = columns["importance"] * (memory["memory.looks"] + 1) - memory["memory.margins"]
        assert ((look < 0) == (columns["correct"] > 0)).mean() > 0.99


def test_scores_that_one_look_does_not_give(tmp_path, case, capsys):
    train(case("none", train={**TRAIN, "epochs": 1}), tmp_path / "run")
    for words, message in (
            (["score.name=batch_loss"], "score.name: batch_loss is taken while a network trains; the run"),
            (["score.name=dyn_unc"], "score.name: dyn_unc is not known after one look; it needs 10")):
        assert main(["score", str(tmp_path / "run"), "--set", *words]) == 2
        assert message in capsys.readouterr().err
    unknown = {"importance": (np.float32, [np.full(100, np.nan, np.float32)])}
    write_table(tmp_path / "s.h5", 100, unknown, {"data": "any"})
    assert main(["select", str(tmp_path / "s.h5"), "--fraction", "0.3"]) == 2
    assert ("0 of 100 samples have an importance, expected at least the 30 that are to "
            "be hidden" in capsys.readouterr().err)


def test_another_selection_file_under_the_same_name_is_refused(tmp_path, case, digits, capsys):
    train(case("none", train={**TRAIN, "epochs": 1}), tmp_path / "run")
    assert main(["score", str(tmp_path / "run")]) == 0
    select = ["select", str(tmp_path / "run" / "scores.h5"), "-o", str(tmp_path / "s.h5"), "--fraction"]
    path = case("static", filter={"policy": "static", "selection": str(tmp_path / "s.h5")})
    assert main([*select, "0.2"]) == 0
    train(path, tmp_path / "static")
    shutil.rmtree(tmp_path / "static" / "checkpoints" / f"epoch-{EPOCHS - 1:05d}")
    train(path, tmp_path / "static", "--resume")
    shutil.rmtree(tmp_path / "static" / "checkpoints" / f"epoch-{EPOCHS - 1:05d}")
    assert main([*select, "0.3"]) == 0
    assert main(["train", str(path), "--run-dir", str(tmp_path / "static"), "--resume"]) == 2
    assert "got a checkpoint of given" in capsys.readouterr().err


def test_centroids_of_a_finished_network(tmp_path, case, hpcfilter):
    """The same on one and two ranks up to the order of float sums; near the centre is easy."""
    train(case("none"), tmp_path / "run")
    tables = []
    for ranks in (1, 2):
        settings = ["--set", "score.name=centroid", "--set", "score.form=margin"]
        done = hpcfilter(ranks, "score", tmp_path / "run", *settings, "-o", tmp_path / f"{ranks}.h5")
        assert done.returncode == 0, done.stderr
        tables.append(read_table(tmp_path / f"{ranks}.h5")[0])
    np.testing.assert_allclose(tables[0]["importance"], tables[1]["importance"], rtol=1e-4, atol=1e-4)
    correct = tables[0]["correct"] > 0
    assert tables[0]["importance"][correct].mean() < tables[0]["importance"][~correct].mean()


def test_the_learned_filter(tmp_path, case, hpcfilter):
    """An autoencoder trained by the same loop, its reconstruction errors, both tails cut, and a
    network trained on the rest."""
    tables = {"model": {"name": "autoencoder", "width": 8, "latent": 16}, "optim": {"lr": 0.02},
              "loss": {"name": "reconstruction"}}
    path = case("none", **tables)
    done = hpcfilter(2, "train", path, "--run-dir", tmp_path / "encoder")
    assert done.returncode == 0, done.stderr
    _, epochs, end = read_run(tmp_path / "encoder")
    assert end["accuracy"] is None and epochs[-1]["test_loss"] < 0.7 * epochs[0]["test_loss"]
    assert main(["score", str(tmp_path / "encoder")]) == 0
    columns, *_ = read_table(tmp_path / "encoder" / "scores.h5")
    assert np.array_equal(columns["importance"], columns["loss"]) and set(columns) == {"importance", "loss"}
    assert main(["select", str(tmp_path / "encoder" / "scores.h5"), "--fraction", "0.2",
                 "--highest", "0.05"]) == 0
    keep, *_ = read_table(tmp_path / "encoder" / "selection.h5")
    order = np.argsort(columns["importance"], kind="stable")
    assert np.array_equal(np.flatnonzero(keep["keep"]), np.sort(order[287 : 1438 - 71]))
    path = case("static",
                filter={"policy": "static", "selection": str(tmp_path / "encoder" / "selection.h5")})
    assert train(path, tmp_path / "classifier")[1][0]["kept"] == 1438 - 287 - 71


def test_a_policy_with_classes_has_no_use_for_reconstruction(tmp_path, case, capsys):
    path = case("kakurenbo", model={"name": "autoencoder", "width": 4}, loss={"name": "reconstruction"})
    assert main(["train", str(path), "--run-dir", str(tmp_path / "run")]) == 2
    assert "kakurenbo needs class labels" in capsys.readouterr().err


def test_a_diverged_run_stops_with_one_line(tmp_path, case, capsys):
    assert main(["train", str(case("infobatch", optim={"lr": 1e9})), "--run-dir", str(tmp_path / "run")]) == 2
    assert "the network has diverged; lower optim.lr" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists(), "weights that are not finite are no checkpoint"
