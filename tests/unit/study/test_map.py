"""The map of the samples: which ones it shows, where, and what the network makes of them."""

import numpy as np
from landscapes import same

from hpcfilter.comm import SerialComm
from hpcfilter.data import open_packed, read_probe, read_table
from hpcfilter.study.landscape import Options, probe
from hpcfilter.study.landscape.samples import principal
from hpcfilter.study.landscape.sets import chosen


def test_the_map_holds_the_ends_of_the_importance_and_what_the_network_makes_of_the_samples(trained,
                                                                                            digits, tmp_path):
    found = probe(trained("a"), SerialComm(), output=tmp_path / "p.h5",
                  options=Options(samples=300, what=("map",)))[1]
    samples, dataset = found.samples, open_packed(digits)
    importance = read_table(trained("a") / "checkpoints" / "epoch-00001" / "scores.h5")[0]["importance"]
    order, index = np.argsort(importance, kind="stable"), samples["index"]
    assert (np.array_equal(samples["importance"], importance[index])
            and np.array_equal(samples["label"], dataset.train.labels[index]))
    assert (np.array_equal(index[samples["lowest"]], order[:24])
            and set(index[samples["highest"]]) == set(order[-24:]))
    around = importance[index[samples["around"]]]
    assert (len(around) == 24 and (np.diff(around) >= 0).all()
            and around[11] <= samples["threshold"] < around[12])
    assert set(chosen(np.arange(1438), 300, 3)) <= set(index) and len(index) <= 300 + 72
    assert ((samples["prediction"] == samples["label"]).mean() > 0.7 and (0.1 <= samples["confidence"]).all()
            and (samples["confidence"] <= 1).all())
    assert found.about["kept"] < found.about["total"] == samples["total"] and set(samples["kept"]) == {0, 1}
    assert (np.array_equal(samples["images"], dataset.train.images[index[samples["image_of"]]])
            and len(samples["images"]) >= 100)
    assert (samples["classes"] == [str(n) for n in range(10)] and samples["layout"] == "HW"
            and samples["xy"].shape == (len(index), 2))
    same(samples, read_probe(tmp_path / "p.h5").samples)


def test_the_map_of_a_regression_has_neither_classes_nor_images(trained, tmp_path):
    samples = probe(trained("quadratic"), SerialComm(), output=tmp_path / "p.h5",
                    options=Options(samples=30, what=("map",)))[1].samples
    assert (samples["classes"] == [] and (samples["label"] == -1).all()
            and (samples["prediction"] == -1).all() and "images" not in samples)
    assert (np.isnan(samples["confidence"]).all() and np.isfinite(samples["loss"]).all()
            and not len(read_probe(tmp_path / "p.h5").samples["around"]))


def test_the_map_says_what_a_regression_has_predicted_and_what_was_drawn(trained, bench, tmp_path):
    samples = probe(trained("single"), SerialComm(), output=tmp_path / "p.h5",
                    options=Options(samples=10, what=("map",)))[1].samples
    work = bench("single")
    x, y = work.network.tensors(*work.dataset.train.rows(samples["index"]))
    np.testing.assert_allclose(samples["prediction"], work.network.model(x).detach().numpy()[:, 0], rtol=1e-5)
    np.testing.assert_allclose(samples["label"], y.numpy().reshape(-1), rtol=1e-6)
    assert samples["drawn"].sum() == 10 < len(samples["index"])
    assert (set(samples["index"][samples["drawn"] == 1])
            == set(chosen(np.arange(len(work.dataset.train)), 10, 3)))
    same(samples, read_probe(tmp_path / "p.h5").samples | {name: samples[name] for name in ("around",)})


def test_principal_components():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 8)).astype(np.float32) * [9, 5, 1, 1, 1, 1, 1, 1]
    xy = principal(features, np.arange(200) < 150)
    centred = features[:150] - features[:150].mean(0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    np.testing.assert_allclose(np.abs(xy[:150]), np.abs(centred @ axes.T), atol=1e-3)
    features[3] = np.nan
    assert (np.isnan(principal(features, np.ones(200, bool))[3]).all()
            and not principal(np.ones((5, 9), np.float32), np.ones(5, bool)).any())
    assert not principal(features[:, :1], np.ones(200, bool))[4:, 1].any()
