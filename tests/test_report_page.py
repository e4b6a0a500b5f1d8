"""The page of `hpcfilter report`: what is on it, what is said of what is missing, what a data set cannot do to it; and in a real browser, offline."""

import html.parser
import io
import json
import re
import sys
from collections import Counter

import numpy as np
import pytest
from pages import NASTY, invent_probe, invent_run

from benchmarks import screenshot
from benchmarks.__main__ import main as benchmarks
from hpcfilter.cli import main
from hpcfilter.errors import InputError
from hpcfilter.report.charts import LONGEST, label, plain, short
from hpcfilter.report.curves import MOST, curves
from hpcfilter.report.page import page
from hpcfilter.report.runs import read_record


class Reader(html.parser.HTMLParser):
    """What a browser takes the page for: counts of elements, their attributes, the texts, and the scripts by type."""

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
        return json.loads(self.scripts[0][1])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A probed run of five nasty classes, and one of another policy that was not probed."""
    folder = tmp_path_factory.mktemp("runs")
    probed = invent_run(folder / "<i>kakurenbo")
    invent_probe(probed)
    return [probed, invent_run(folder / "none & nothing", policy="none", scores=False, seed=1)]


@pytest.fixture(scope="module")
def text(runs):
    return page(runs)


def test_what_is_written_where(tmp_path, runs, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = invent_run(tmp_path / "run")
    assert main(["report", str(run)]) == 0 and capsys.readouterr().out == f"{run}/report.html: open it in a browser\n"
    assert main(["report", *map(str, runs)]) == 0 and capsys.readouterr().out == "report.html: open it in a browser\n"
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>") and (run / "report.html").exists()
    assert main(["report", str(run), "-o", "own.html", "--picture", "own.svg"]) == 0
    assert capsys.readouterr().out == "own.html: open it in a browser\nown.svg: drawn\n"
    for words in (["--text"], ["--format", "text"], ["--format", "csv"], ["--picture", "p.svg"]):
        assert main(["report", str(run), *words]) == 0 and "passes saved" in capsys.readouterr().out
    assert main(["report", str(run), "-o", "own.txt"]) == 0 and (tmp_path / "own.txt").read_text().startswith("run  ")
    assert main(["report", str(run), "-o", "/nowhere/own.html"]) == 2 and "/nowhere/own.html: cannot be written" in capsys.readouterr().err
    assert main(["report", str(run), "--text", "--format", "csv"]) == 2 and "not allowed with" in capsys.readouterr().err
    assert main(["report", str(run), str(run), "-o", "twice.html"]) == 0


def test_without_plotly_or_pillow(tmp_path, runs, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    without = Reader(page(runs))
    assert without.says("No pictures: writing them needs Pillow") and not without.elements["img"] and without.says("importance")
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert main(["report", str(runs[0])]) == 2
    assert "report: the page needs plotly: pip install 'hpcfilter[report]'; or give --text" in capsys.readouterr().err


def test_everything_is_on_the_page(text):
    seen = Reader(text)
    assert set(seen.specs()) == {"quality", "hidden", "threshold", "phases0", "phases1", "scores0", "map0", "lines0-loss", "lines0-barrier",
                                 "planes0-full", "planes0-filtered"}
    for words in ("2 runs compared", "97.01 %", "test accuracy", "28.0 %", "passes saved", "4 (2 per node)", "000000000000", "torch 2.13.0",
                  "Lowest importance", "Around the threshold", "Highest importance", "31.2, 12.5, 8.1", "240 ± 12",
                  "300 of 1,281,167 samples, drawn by hash",
                  "4,096 of 1,281,167 samples, drawn by hash; over 2,048 of 896,816 kept samples"):
        assert seen.says(words), words
    assert [view["name"] for view in seen.specs()["map0"]["views"]] == ["score", "class", "kept"]
    pictures = [value for name, value in seen.attributes if name == "src"]
    assert len(pictures) == seen.elements["img"] == 72 and all(value.startswith("data:image/png;base64,") for value in pictures)
    assert all(value for name, value in seen.attributes if name == "alt")
    assert not re.findall(r'(?:src|href)="(?!data:image/png|#)', text.partition('<script type="application/json"')[0])


def test_what_is_missing_is_said(runs, text):
    seen = Reader(text)
    assert seen.says("No selection of this run has left a histogram of its scores.")
    assert seen.says(f"no landscape yet: hpcfilter probe '{runs[1]}' makes them")
    alone = Reader(page(runs[1:]))
    assert alone.says("No threshold: none of these runs has a policy that cuts at one.") and set(alone.specs()) == {"quality", "hidden", "phases0"}


@pytest.mark.parametrize("how", [
    {"classes": None}, {"pictures": False}, {"sets": ()}, {"sets": ("full",), "curvature": False}, {"drawn": 41, "colour": False},
    {"classes": [str(number) for number in range(1000)], "drawn": 3000}], ids=str)
def test_probes_of_all_kinds(tmp_path, how):
    run = invent_run(tmp_path / "run", accuracy=how.get("classes", ()) is not None)
    invent_probe(run, **how)
    seen = Reader(page([run]))
    views = [view["name"] for view in seen.specs()["map0"]["views"]]
    assert views == (["score", "kept"] if how.get("classes", ()) is None else ["score", "class", "kept"])
    assert ("planes0-full" in seen.specs()) == (how.get("sets") != ()) and bool(seen.elements["img"]) == how.get("pictures", True)
    for spec in seen.specs().values():
        check(spec)


def test_plotly_knows_every_word(text):
    for spec in Reader(text).specs().values():
        check(spec)


def check(spec):
    """Raises ValueError for what plotly does not know."""
    import plotly.graph_objects as go

    for view in spec["views"]:
        data = [{**trace, **{name: [values[row] for row in rows] for name, values in spec["columns"].items() if rows}}
                for trace in view["data"] for rows in [trace.pop("rows", None)]]
        figure = go.Figure(data, spec["layout"])
        figure.update_layout(view["layout"])
        assert figure.data


def test_nothing_of_a_data_set_becomes_markup(text):
    seen = Reader(text)
    assert [kind for kind, _ in seen.scripts] == ["application/json", None, None]
    assert not [name for name, _ in seen.attributes if name.startswith("on")] and not seen.elements["i"]
    assert seen.says("<i>kakurenbo") and seen.says("<script>alert(1)</script>") and seen.says("{{ 7 * 7 }}")
    for spec in seen.specs().values():
        for view in (*spec["views"], spec["columns"]):
            assert "<script" not in json.dumps(view) and "<img" not in json.dumps(view) and "<i>" not in json.dumps(view)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'") and len(re.findall(r"'sha256-[^']{44}'", html.unescape(policy))) == 2


def test_names_and_numbers_from_outside():
    assert plain("a\nb\x00\udcff\u202ec") == "a\ufffdb\ufffd\ufffd\ufffdc"
    assert plain("\ud800") == "\ufffd" and len(plain("x" * 10**6)) == LONGEST and label("<b>&") == "&lt;b&gt;&amp;"
    assert short([1 / 3, np.nan, np.inf, None, np.float32(2)], 2) == [0.33, None, None, None, 2.0]


def test_long_runs_are_thinned_and_it_is_said(tmp_path):
    run = invent_run(tmp_path / "long", epochs=MOST + 500)
    seen = Reader(page([run]))
    line = seen.specs()["quality"]["views"][0]["data"][0]
    assert len(line["x"]) == MOST and (line["x"][0], line["x"][-1]) == (1, MOST + 500) and line["mode"] == "lines"
    assert seen.says("long: 2,000 epochs are drawn, evenly spaced over all of them.")
    assert len(seen.specs()["scores0"]["views"]) == 60 and seen.says("60 of 2,499 epochs, evenly spaced.")
    assert "stackgroup" in seen.specs()["phases0"]["views"][0]["data"][0]


def test_losses_where_a_run_has_no_accuracy(tmp_path):
    records = [read_record(invent_run(tmp_path / name, accuracy=name == "a")) for name in "ab"]
    chart = curves(records, ["a", "b"])[0]
    assert chart.title == "Test loss" and chart.views[0].data[0]["y"][0] == 2.0
    assert chart.views[2].data[1]["x"][:2] == [0.7, 1.25], "seconds since the start"


def test_damaged_probes_are_refused(tmp_path, capsys):
    run = invent_run(tmp_path / "run")
    (run / "probe.h5").write_bytes(b"nonsense")
    assert main(["report", str(run)]) == 2 and "probe.h5" in capsys.readouterr().err


@pytest.mark.timeout(240)
def test_a_real_run_that_was_really_probed(tmp_path, digits, config, capsys):
    run = tmp_path / "run"
    assert main(["train", str(config(digits, filter={"policy": "kakurenbo", "fraction": 0.3}, train={"epochs": 3})), "--run-dir", str(run)]) == 0
    few = ["--what", "slices,map", "--samples", "60", "--points", "3", "--grid", "3", "--directions", "1"]
    assert main(["probe", str(run), *few]) == 0 and main(["report", str(run)]) == 0, capsys.readouterr().err
    seen = Reader((run / "report.html").read_text())
    assert {"quality", "hidden", "threshold", "phases0", "scores0", "map0", "lines0-loss", "planes0-full"} <= set(seen.specs())
    assert seen.says("of 1,438 samples, drawn by hash") and seen.says("60 of 1,438 samples, drawn by hash") and seen.elements["img"] > 20
    assert sum(seen.specs()["scores0"]["views"][-1]["data"][0]["y"]) == read_record(run).epochs[-1]["hidden"] > 0
    for spec in seen.specs().values():
        check(spec)


# In a browser.

@pytest.fixture(scope="module")
def driver():
    try:
        with screenshot.browser() as driver:
            yield driver
    except InputError as error:
        pytest.skip(f"no browser: {error}")


@pytest.fixture(scope="module")
def path(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(text)
    return path


@pytest.mark.timeout(240)
def test_in_a_browser(driver, path, runs):
    drain(driver)
    screenshot.show(driver, path)
    empty = "return [...document.querySelectorAll('.plot')].filter(plot => !plot.querySelector('.overplot path')).map(plot => plot.id)"
    assert driver.execute_script(empty) == []
    for button in driver.find_elements("css selector", "button[data-view]"):
        driver.execute_script("arguments[0].click()", button)
    slide(driver, "scores0", 0)
    assert driver.find_element("css selector", ".slider output").text == "epoch 2"
    driver.execute_script("document.querySelector('input[data-run=\"1\"]').click()")
    assert driver.execute_script("return document.querySelectorAll('#quality .scatterlayer .trace').length") == 1
    requests, problems = drain(driver)
    assert requests == {"file"} and problems == []


@pytest.mark.timeout(240)
def test_in_a_browser_class_names_are_texts(driver, path):
    screenshot.show(driver, path)
    title = driver.title
    driver.execute_script("document.querySelector('[data-chart=map0][data-view=\"1\"]').click()")
    legend = driver.execute_script("return [...document.querySelectorAll('#map0 .legendtext')].map(text => text.textContent)")
    assert set(legend) == {plain(name) for name in NASTY}
    driver.execute_script("Plotly.Fx.hover('map0', [{curveNumber: 2, pointNumber: 0}])")
    hover = driver.execute_script("return document.querySelector('#map0 .hoverlayer').textContent")
    assert "label " in hover and any(plain(name) in hover for name in NASTY)
    assert {bold.text for bold in driver.find_elements("css selector", ".thumb b")} == {plain(name) for name in NASTY}
    assert driver.title == title and "owned" not in title and driver.execute_script("return document.scripts.length") == 3


@pytest.mark.timeout(240)
def test_in_a_browser_at_night(driver, path):
    screenshot.show(driver, path)
    looks = []
    for dark in (False, True):  # the page is not loaded again
        screenshot.night(driver, dark)
        driver.execute_async_script("setTimeout(arguments[0], 1500)")
        paper, ink, muted, tick = driver.execute_script(
            "const look = (what) => getComputedStyle(document.querySelector(what));"
            "return [look('body').backgroundColor, look('body').color, look('.muted').color, look('#quality .xtick text').fill]")
        assert contrast(paper, ink) > 12 and contrast(paper, muted) > 4.5 and contrast(paper, tick) > 4.5
        looks.append((paper, ink, tick))
    assert all(day != night for day, night in zip(*looks, strict=True))


@pytest.mark.timeout(240)
def test_in_a_browser_on_a_phone(driver, path):
    screenshot.show(driver, path, width=360)
    assert driver.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]") == [360, 360]
    assert driver.execute_script("return [...document.querySelectorAll('.plot .main-svg')].every(svg => svg.getBoundingClientRect().right <= 360)")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("words, brightness", [([], range(200, 256)), (["--dark", "--width", "800"], range(0, 60))])
def test_a_screenshot_by_a_command(driver, runs, tmp_path, capsys, words, brightness):
    from PIL import Image

    assert benchmarks(["screenshot", *map(str, runs), "-o", str(tmp_path / "page.png"), *words]) == 0, capsys.readouterr().err
    picture = Image.open(io.BytesIO((tmp_path / "page.png").read_bytes())).convert("L")
    levels = np.asarray(picture)
    assert picture.width == (800 if words else 1200) and picture.height > 3000
    assert int(np.median(levels)) in brightness and len(np.unique(levels)) > 100, "not blank"


def drain(driver):
    """(schemes of what was asked for since the last time, problems on the console)."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return {url.partition(":")[0] for url in urls} - {"data", "blob"}, driver.get_log("browser")


def slide(driver, key, value):
    driver.execute_script("const slider = document.querySelector(`input[data-chart=${arguments[0]}]`); slider.value = arguments[1];"
                          "slider.dispatchEvent(new Event('input'))", key, value)


def contrast(one, other):
    """The ratio of WCAG 2 of two colours "rgb(r, g, b)"."""
    light = []
    for colour in (one, other):
        parts = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
        light.append(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])
    return (max(light) + 0.05) / (min(light) + 0.05)
