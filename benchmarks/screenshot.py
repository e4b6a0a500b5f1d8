"""The page of `hpcfilter report` in a headless browser: a picture of the whole of it.

Needs chromium, its driver, selenium and Pillow.

    python -m benchmarks screenshot runs/demo/none runs/demo/kakurenbo -o page.png [--dark] [--width 1200]
"""

import argparse
import base64
import io
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from hpcfilter.base.errors import InputError
from hpcfilter.study.report.page import page

COLOURS = 128  # a third of the bytes, for a picture that is kept
SECONDS = 60  # for anything that the browser does


def main(words):
    parser = argparse.ArgumentParser(prog="python -m benchmarks screenshot", description=__doc__)
    parser.add_argument("runs", nargs="+", help="run folders")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .png to write")
    parser.add_argument("--dark", action="store_true", help="as in dark mode")
    parser.add_argument("--width", type=int, default=1200,
                        help="of the window, in pixels; a phone has 360 (default 1200)")
    words = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder, browser() as driver:
        path = Path(folder) / "report.html"
        path.write_text(page(words.runs), "utf-8")
        show(driver, path, words.width, words.dark)
        with Image.open(io.BytesIO(picture(driver))) as whole:
            whole.convert("RGB").quantize(COLOURS).save(words.output, "PNG", optimize=True)
    print(f"{words.output}: {words.width} pixels wide")


@contextmanager
def browser():
    """A headless Chromium that is cut off from all networks, as a selenium driver. Raises InputError where a
    part of it is missing."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    try:
        from selenium import webdriver
    except ImportError:
        raise InputError("needs selenium: pip install selenium") from None
    if None in programs:
        raise InputError("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                 "--disable-background-networking", "--hide-scrollbars", "--mute-audio"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    try:
        driver.set_page_load_timeout(SECONDS)
        driver.set_script_timeout(SECONDS)
        driver.execute_cdp_cmd("Network.enable", {})
        driver.execute_cdp_cmd("Network.emulateNetworkConditions",
                               {"offline": True, "latency": 0, "downloadThroughput": 0,
                                "uploadThroughput": 0})
        yield driver
    finally:
        driver.quit()


def show(driver, path, width=1200, dark=False):
    """Open a page of `hpcfilter report` and wait until all charts are drawn. width: of the window in pixels,
    below 600 that of a phone."""
    from selenium.webdriver.support.ui import WebDriverWait

    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    night(driver, dark)
    driver.get(Path(path).absolute().as_uri())
    WebDriverWait(driver, SECONDS).until(
        lambda driver: driver.execute_script("return document.documentElement.dataset.drawn") == "all")


def night(driver, dark):
    """Turn dark mode on or off."""
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})


def picture(driver):
    """The whole page as a PNG. Returns bytes."""
    width, height = driver.execute_script("return [window.innerWidth, document.documentElement.scrollHeight]")
    whole = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    taken = driver.execute_cdp_cmd("Page.captureScreenshot",
                                   {"format": "png", "captureBeyondViewport": True, "clip": whole})
    return base64.b64decode(taken["data"])
