"""The page of a report in a headless browser."""

import io
import json
import re

import numpy as np
import pytest
from pages import NASTY

from benchmarks import screenshot
from benchmarks.__main__ import main as benchmarks
from hpcfilter.base.errors import InputError
from hpcfilter.study.report.charts import plain


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
    empty = ("return [...document.querySelectorAll('.plot')].filter(plot => !plot.querySelector('.overplot "
             "path')).map(plot => plot.id)")
    assert driver.execute_script(empty) == []
    for button in driver.find_elements("css selector", "button[data-view]"):
        driver.execute_script("arguments[0].click()", button)
    slide(driver, "scores0", 0)
    assert driver.find_element("css selector", ".slider output").text == "epoch 2"
    driver.execute_script("document.querySelector('input[data-run=\"1\"]').click()")
    assert driver.execute_script("return document.querySelectorAll('#quality .scatterlayer "
                                 ".trace').length") == 1
    requests, problems = drain(driver)
    assert requests == {"file"} and problems == []


@pytest.mark.timeout(240)
def test_in_a_browser_class_names_are_texts(driver, path):
    screenshot.show(driver, path)
    title = driver.title
    driver.execute_script("document.querySelector('[data-chart=map0][data-view=\"1\"]').click()")
    legend = driver.execute_script("return [...document.querySelectorAll('#map0 .legendtext')].map(text => "
                                   "text.textContent)")
    assert set(legend) == {plain(name) for name in NASTY}
    driver.execute_script("Plotly.Fx.hover('map0', [{curveNumber: 2, pointNumber: 0}])")
    hover = driver.execute_script("return document.querySelector('#map0 .hoverlayer').textContent")
    assert "label " in hover and any(plain(name) in hover for name in NASTY)
    assert {bold.text
            for bold in driver.find_elements("css selector", ".thumb b")} == {plain(name) for name in NASTY}
    assert (driver.title == title and "owned" not in title
            and driver.execute_script("return document.scripts.length") == 3)


@pytest.mark.timeout(240)
def test_in_a_browser_at_night(driver, path):
    screenshot.show(driver, path)
    looks = []
    for dark in (False, True):  # the page is not loaded again
        screenshot.night(driver, dark)
        driver.execute_async_script("setTimeout(arguments[0], 1500)")
        paper, ink, muted, tick = driver.execute_script(
            "const look = (what) => getComputedStyle(document.querySelector(what));return "
            "[look('body').backgroundColor, look('body').color, look('.muted').color, look('#quality .xtick "
            "text').fill]")
        assert contrast(paper, ink) > 12 and contrast(paper, muted) > 4.5 and contrast(paper, tick) > 4.5
        looks.append((paper, ink, tick))
    assert all(day != night for day, night in zip(*looks, strict=True))


@pytest.mark.timeout(240)
def test_in_a_browser_on_a_phone(driver, path):
    screenshot.show(driver, path, width=360)
    assert driver.execute_script("return [document.documentElement.scrollWidth, "
                                 "window.innerWidth]") == [360, 360]
    assert driver.execute_script("return [...document.querySelectorAll('.plot .main-svg')].every(svg => "
                                 "svg.getBoundingClientRect().right <= 360)")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("words, brightness",
                         [([], range(200, 256)), (["--dark", "--width", "800"], range(0, 60))])
def test_a_screenshot_by_a_command(driver, runs, tmp_path, capsys, words, brightness):
    from PIL import Image

    assert benchmarks(["screenshot", *map(str, runs),
                       "-o", str(tmp_path / "page.png"), *words]) == 0, capsys.readouterr().err
    picture = Image.open(io.BytesIO((tmp_path / "page.png").read_bytes())).convert("L")
    levels = np.asarray(picture)
    assert picture.width == (800 if words else 1200) and picture.height > 3000
    assert int(np.median(levels)) in brightness and len(np.unique(levels)) > 50, "not blank"


def drain(driver):
    """(schemes of what was asked for since the last time, problems on the console)."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [message["params"]["request"]["url"]
            for message in messages if message["method"] == "Network.requestWillBeSent"]
    return {url.partition(":")[0] for url in urls} - {"data", "blob"}, driver.get_log("browser")


def slide(driver, key, value):
    driver.execute_script("const slider = document.querySelector(`input[data-chart=${arguments[0]}]`); "
                          "slider.value = arguments[1];slider.dispatchEvent(new Event('input'))", key, value)


def contrast(one, other):
    """The ratio of WCAG 2 of two colours "rgb(r, g, b)"."""
    light = []
    for colour in (one, other):
        parts = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
        light.append(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
                     @ [0.2126, 0.7152, 0.0722])
    return (max(light) + 0.05) / (min(light) + 0.05)
