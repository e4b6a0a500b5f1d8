"""Invented run folders with everything that the page of `hpcfilter report` shows: rows of metrics.jsonl, and
a probe.h5; and a reader of the page."""

import html.parser
import json
from collections import Counter

import numpy as np
import pytest

from hpcfilter.data.probed import Probe, write_probe

NASTY = ["<script>alert(1)</script>", "</script><img src=x onerror=\"document.title='owned'\">",
         "<b>bold</b> & %{x} $x$", "{{ 7 * 7 }}", "plain"]


class Reader(html.parser.HTMLParser):
    """What a browser takes the page for: counts of elements, their attributes, the texts,
    and the scripts by type."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.texts, self.scripts = Counter(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements[tag] += 1
        self.attributes += attrs
        if tag == "script":
            self.scripts.append([dict(attrs).get("type"), ""])

    def handle_data(self, data):
        if self.lasttag == "script" and self.scripts:
            self.scripts[-1][1] += data
        else:
            self.texts.append(data)

    def says(self, text):
        return text in " ".join(" ".join(self.texts).split())

    def specs(self):
        return json.loads(self.scripts[0][1], parse_constant=pytest.fail)  # a browser knows no NaN


def check(spec):
    """Raises ValueError for what plotly does not know."""
    import plotly.graph_objects as go

    for view in spec["views"]:
        data = [{**trace, **{name: [values[row] for row in rows] for name, values in spec["columns"].items()
                             if rows}} for trace in view["data"] for rows in [trace.pop("rows", None)]]
        figure = go.Figure(data, spec["layout"])
        figure.update_layout(view["layout"])
        assert figure.data


def invent_run(folder, epochs=12, policy="kakurenbo", samples=1000, scores=True, accuracy=True, seed=0,
               noise=False):
    """A run folder whose epochs from the second on hide 30 %. noise: whether with noise scales, of the first
    nothing is known. Returns the folder."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f'seed = {seed}\n[filter]\npolicy = "{policy}"\nfraction = 0.3\n'
                                        f'[train]\nepochs = {epochs}\n')
    rng, rows = np.random.default_rng(seed), []
    rows.append({"kind": "run", "ranks": 4, "ranks_per_node": 2, "global_batch": 64, "samples": samples,
                 "data": "d", "device": "cpu",
                 "machine": "there", "started": "2026-01-01T00:00:00", "first_epoch": 0,
                 "versions": {"python": "3.11", "torch": "2.13.0", "horovod": None}, "commit": "0" * 40})
    for epoch in range(epochs):
        hidden = round(0.3 * samples) if epoch and policy != "none" else 0
        seconds = {"select": 0.02, "rebalance": 0.01, "train": 0.5 - 0.15 * bool(hidden), "score": 0.05,
                   "evaluate": 0.08, "checkpoint": 0.04}
        threshold = 0.5 * 0.9**epoch if hidden else None
        right = 0.98 - 0.5 * 0.7**epoch - 0.01 * seed if accuracy else None
        rows.append({"kind": "epoch", "epoch": epoch, "kept": samples - hidden, "hidden": hidden, "steps": 10,
                     "accuracy": right, "worst_class": right and right / 2, "test_loss": 2 * 0.8**epoch,
                     "threshold": threshold, "passes": 0.72 * (epoch + 1), "looks": 0.3 * epoch,
                     "seconds": {**seconds, "total": sum(seconds.values())}})
        if noise:
            rows.append({"kind": "noise", "epoch": epoch, "batch": 64, "steps": 10,
                         "noise_scale": 100.0 * epoch or None})
        if scores:
            edges = np.sinh(np.linspace(0, 8, 61)) * 1e-3
            counts = (np.histogram(rng.lognormal(-2 - 0.2 * epoch, 1.3, samples), edges)[0] if epoch
                      else np.zeros(60, int))
            below = np.where(edges[1:] <= (threshold or 0), counts, 0)
            rows.append({"kind": "scores", "epoch": epoch,
                         "threshold": threshold, "edges": edges.tolist(), "counts": counts.tolist(),
                         "hidden": below.tolist(), "unknown": 0 if epoch else samples})
    rows.append({"kind": "end", "exit": 0, "weights": "00ff"})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def invent_probe(folder, classes=NASTY, drawn=300, total=1_281_167, pictures=True, channels=(3,),
                 sets=("full", "filtered"), curvature=True, **more):
    """The probe.h5 of a run folder. classes: their names, or None for a task without. drawn: samples of the
    map, nine in ten of them by hash.

    channels: what the shape of an image ends with. more: attributes of the root. Returns its path.
    """
    about = {"checkpoint": "epoch-00011", "epoch": 11, "weights": "00ff", "data": "d", "policy": "kakurenbo",
             "score": "loss", "fraction": 0.3, "ranks": 4, "options": {},
             "sets": dict(zip(sets, (4096, 2048), strict=False)), "total": total,
             "kept": total * 7 // 10, **more}
    landscape = {name: _landscape(number, curvature) for number, name in enumerate(sets)}
    samples = _samples(np.random.default_rng(1), classes or [], drawn, total, pictures, channels)
    write_probe(folder / "probe.h5", Probe(about, landscape, samples))
    return folder / "probe.h5"


def invent_samples(**values):
    """Ten samples of a Probe, of a task without classes."""
    columns = {"index": np.arange(10), "importance": np.arange(10, dtype=np.float32),
               "kept": np.ones(10, int), "xy": np.zeros((10, 2)), "label": np.linspace(3, 4, 10),
               "prediction": np.linspace(2, 3, 10)}
    return {**columns, "lowest": np.arange(3), "around": np.arange(0), "highest": np.array([9]),
            "classes": [], "total": 10, **values}


def _samples(rng, classes, drawn, total, pictures, channels):
    importance, cut = rng.lognormal(-2, 1.5, drawn).astype(np.float32), drawn * 3 // 10
    importance[0] = np.nan
    order = np.argsort(importance)
    kept = np.ones(drawn, np.uint8)
    kept[order[:cut]] = 0
    label = (rng.integers(0, len(classes), drawn) if classes
             else np.linspace(-3.5, 3.5, drawn).astype(np.float32))
    angle = 2 * np.pi * label / (len(classes) or 1)
    wrong = rng.random(drawn) < 0.15
    groups = {"lowest": order[:24], "around": order[cut - 12 : cut + 12], "highest": order[-25:-1][::-1]}
    rows = np.unique(np.concatenate(list(groups.values())))
    images = {"images": rng.integers(0, 255, (len(rows), 16, 16, *channels)).astype(np.uint8),
              "image_of": rows}
    index = np.sort(rng.choice(total, drawn, replace=False))
    return {"index": index, "importance": importance, "kept": kept, "loss": importance, "label": label,
            **groups, "xy": np.stack([3 * np.cos(angle), 3 * np.sin(angle)], 1) + rng.normal(size=(drawn, 2)),
            "confidence": rng.random(drawn, np.float32),
            "prediction": np.where(wrong, (label + 1) % len(classes), label) if classes
            else label - np.float32(0.25), **(images if pictures else {}),
            "drawn": (np.arange(drawn) % 10 > 0).astype(np.uint8), "total": total, "threshold": 0.1,
            "score": "loss", "classes": classes, "layout": "HWC" if channels else "HW"}


def _landscape(number, curvature):
    position, grid = np.linspace(-1, 1, 41), np.linspace(-1, 1, 21)
    loss = 0.1 * (1 + number) + np.array([2 + number, 3, 4])[:, None] * position**2
    loss[2, -5:] = np.nan  # not evaluated yet
    line = {"position": position, "loss": loss, "minima": np.array([1, 1, 1]),
            "roughness": np.array([0.1, 0.2, 0.3])}
    plane = {"a": grid, "b": grid, "minima": 1, "flat_share": 0.12, "loss": 0.1 + 3 * grid[:, None] ** 2
             + (1 + number) * grid**2 + 0.3 * np.sin(5 * grid)[:, None] ** 2}
    alpha = np.linspace(0, 1, 21)  # 1: this run, of loss 0.1; 0: the other, of loss 0.4
    way = {"alpha": alpha, "loss": 0.1 + 0.3 * (1 - alpha) + np.sin(np.pi * alpha), "barrier": 1.0,
           "other": "runs/<b>none"}
    more = {"eigenvalues": np.array([31.2, 12.5, 8.1]), "residuals": np.array([1e-3, 2e-3, 1e-2]),
            "trace": 240.0, "trace_error": 12.0, "sharpness": 0.8, "rho": 0.05, "barrier": way}
    return {"loss": 0.1, "slice1d": line, "slice2d": plane, **(more if curvature else {})}
