"""`make demo`, shortened: it says what it will do, trains on two real ranks, and ends with sentences
that the results say."""

import json

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.verdict import difference, verdict
from hpcfilter.study.report import read_run


def own(folder):
    """Colour images of two classes that the brightness tells apart."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    images = rng.random((200, 8, 8, 3)) * 100 + 100 * labels[:, None, None, None]
    np.savez(folder / "own.npz", images=images.astype(np.uint8), labels=labels)
    return folder / "own.npz"


def demo(tmp_path, capfd, *words):
    """The lines of a shortened demo, in whose folder everything is left."""
    assert main(["demo", "--epochs", "2", "--folder", str(tmp_path / "demo"), *map(str, words)]) == 0
    return capfd.readouterr().out.splitlines()


def table(lines):
    header = next(number for number, line in enumerate(lines) if line.startswith("run "))
    return lines[header:header + 3]


@pytest.mark.parametrize("data", ["digits", "regression"])
def test_the_demo_says_first_what_it_will_do_and_last_what_came_out(data, tmp_path, regression,
                                                                    warm_ranks, capfd):
    source = {"digits": "digits", "regression": regression}[data]
    lines = demo(tmp_path, capfd, "--data", source, "--seeds", 2)
    policy, measure = ("kakurenbo", "accuracy") if data == "digits" else ("random", "test loss")
    assert lines[0].startswith(f"demo: 4 short trainings of {source} on 2 real ranks, 2 without a filter and "
                               "2 with one: ")
    said = [line for line in lines if line.startswith("training ")]
    assert len(said) == 4 and all(measure in line and line.endswith(" s") for line in said)
    assert not [line for line in lines if line.startswith("epoch ")]
    header, none, filtered = table(lines)
    for name in ("accuracy", "passes saved", "select s", "train s", "score s"):
        assert name in header
    assert none.startswith("none") and filtered.startswith(policy)
    assert read_run(tmp_path / "demo" / f"{policy}-seed1")[0]["ranks"] == 2
    assert any(line.startswith(f"{measure.capitalize()} ") and "(mean and deviation of 2 seeds)" in line
               for line in lines)
    assert any(line.startswith("That is a mean difference of ") for line in lines)
    picture = (tmp_path / "demo" / "demo.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10000
    assert "Landscape of the loss" not in (tmp_path / "demo" / "report.html").read_text()


@pytest.mark.nightly
def test_the_demo_of_own_images_with_a_probe(tmp_path, warm_ranks, capfd):
    lines = demo(tmp_path, capfd, "--data", own(tmp_path), "--seeds", 1, "--probe")
    assert "then a probe of the landscape" in lines[0] and "measuring the landscape of the loss ..." in lines
    assert (lines.count("measuring the landscape of the loss ...") == 1
            and not [line for line in lines if "trace:" in line])
    assert "Landscape of the loss" in (tmp_path / "demo" / "report.html").read_text()
    assert any("one seed cannot tell it from noise" in line for line in lines)


def test_bad_words_of_the_demo_are_one_line(tmp_path, capsys):
    assert main(["demo", "--data", str(tmp_path / "nothing.h5"), "--folder", str(tmp_path / "demo")]) == 2
    assert "nothing.h5" in capsys.readouterr().err


def test_a_difference_is_noise_when_seeds_alone_make_it():
    assert difference([99.0, 98.0, 98.5], [98.5, 98.25, 98.0], 359) == \
        "That is a mean difference of 0.9 test images of 359: within the noise of a seed."
    assert difference([99.0, 98.0, 98.5], [89.0, 88.0, 88.6], 100, "row") == \
        "That is a mean difference of 10 test rows of 100: more than the noise of a seed explains."
    assert (difference([99.0], [98.0], 100) == "That is a mean difference of 1 test image of 100; "
            "one seed cannot tell it from noise.")
    assert (difference([0.5, 0.5], [0.25, 0.25]) == "That is a mean difference of 0.2500: "
            "more than the noise of a seed explains.")


def test_of_a_run_that_has_diverged_no_accuracy_is_told(tmp_path):
    pair = [tmp_path / "none", tmp_path / "random"]
    for folder in pair:
        folder.mkdir()
        end = {"kind": "end", "test_loss": None, "accuracy": None}
        rows = [{"kind": "run"}, {"kind": "epoch", "epoch": 0, "passes": 0.75, "looks": 0.0}, end]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert (verdict([pair], 10) == "With random: 25 % fewer passes (forward and backward).\n"
            "A run has diverged, so nothing is said of the accuracy.")
