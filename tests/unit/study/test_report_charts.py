"""What the charts and thumbnails of `hpcfilter report` are made of, apart from the page."""

import numpy as np
import pytest
from pages import invent_run, invent_samples

from hpcfilter.study.report.charts import LONGEST, label, plain, short
from hpcfilter.study.report.curves import curves
from hpcfilter.study.report.embedding import embedding
from hpcfilter.study.report.runs import read_record
from hpcfilter.study.report.thumbnails import _uri, thumbnails


def test_names_and_numbers_from_outside():
    assert plain("a\nb\x00\udcff\u202ec") == "a\ufffdb\ufffd\ufffd\ufffdc"
    assert (plain("\ud800") == "\ufffd" and len(plain("x" * 10**6)) == LONGEST
            and label("<b>&") == "&lt;b&gt;&amp;")
    assert short([1 / 3, np.nan, np.inf, None, np.float32(2)], 2) == [0.33, None, None, None, 2.0]


def test_losses_where_a_run_has_no_accuracy(tmp_path):
    records = [read_record(invent_run(tmp_path / name, accuracy=name == "a")) for name in "ab"]
    chart = curves(records, ["a", "b"])[0]
    assert chart.title == "Test loss" and chart.views[0].data[0]["y"][0] == 2.0
    assert chart.views[2].data[1]["x"][:2] == [0.7, 1.25], "seconds since the start"


def test_worst_classes_and_noise_scales(tmp_path):
    records = [read_record(invent_run(tmp_path / name, noise=name == "a")) for name in "ab"]
    charts = {chart.key: chart.views[0].data for chart in curves(records, ["a", "b"])}
    assert [trace["y"][0] for trace in charts["worst"]] == [24.0, 24.0]
    assert [trace["y"][:3] for trace in charts["noise"]] == [[None, 100.0, 200.0], []]
    assert "noise" not in {chart.key for chart in curves(records[1:], ["b"])}


def test_a_picture_of_one_channel_is_that_of_none():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert _uri(pixels[..., None]) == _uri(np.stack([pixels, 255 - pixels], -1)) == _uri(pixels)
    assert _uri(np.stack([pixels] * 5, -1)) == _uri(np.stack([pixels] * 3, -1))


@pytest.mark.parametrize("drawn, words", [
    (10, "all 10 samples."),
    (None, "10 of 99 samples: some drawn by hash, and those at the ends and around the threshold."),
    (10, "10 of 99 samples, drawn by hash."),
    (7, "10 of 99 samples: 7 drawn by hash, and the 3 at the ends and around the threshold.")])
def test_the_map_says_which_samples_it_shows(drawn, words):
    column = {} if drawn is None else {"drawn": np.arange(10) < drawn}
    chart = embedding("map", "run", invent_samples(total=10 if words.startswith("all") else 99, **column))
    assert chart.note == f"The map shows {words}"


def test_unknown_importance_has_no_rank():
    samples = invent_samples(importance=np.array([np.nan, *range(9)], np.float32), kept=np.array([1, 0] * 5))
    kept, hidden, unknown = embedding("map", "run", samples).views[0].data
    assert (kept["marker"]["color"], hidden["marker"]["color"]) == ([0.125, 0.375, 0.625, 0.875],
                                                                    [0.0, 0.25, 0.5, 0.75, 1.0])
    assert (unknown["name"], unknown["rows"],
            unknown["marker"]["color"]) == ("not known", [0], "var(--muted)")
    nothing = embedding("map", "run",
                        invent_samples(importance=np.full(10, np.nan, np.float32))).views[0].data
    assert [trace["name"] for trace in nothing] == ["not known"]


def test_numbers_that_are_predicted():
    low, high = thumbnails(invent_samples(), 200)
    assert low[1:2] + high[1:2] == ("The 3 samples of lowest importance.",
                                    "The sample of highest importance.")
    assert [one.target for one in low[2]][:2] == ["target 3, predicted 2", "target 3.11, predicted 2.11"]
    assert low[2][0].alt == "sample 0, target 3, predicted 2, kept"
    before = invent_samples(prediction=np.full(10, -1))
    assert (thumbnails(before, 200)[0][2][0].target == "target 3"
            and "predicted" not in embedding("map", "run", before).columns["text"][0])
    assert not thumbnails(invent_samples(label=np.full(10, -1.0), prediction=np.full(10, np.nan)),
                          200)[0][2][0].target, "not one number"
