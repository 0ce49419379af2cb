"""The report's page in a real browser: drawn, usable, and alone on the network."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_modules.commands.report import main
from tests.report_helpers import CODECS, IMAGES, SIZE, write_records

selenium = pytest.importorskip("selenium", reason="selenium is not installed: pip install -e .[dev]")

from selenium import webdriver  # noqa: E402
from selenium.webdriver import ActionChains, Keys  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,1000"),
)
TITLES = ("AVIF", "JPEG", "WebP")
PLOTS = ("sample_psnr", "sample_ssim")

Browser = webdriver.Chrome


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_records(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def page(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    main([str(material / "records"), "-o", str(folder)])
    # Alone: whatever it needs from the files beside it, it will miss.
    alone = tmp_path_factory.mktemp("alone") / "index.html"
    shutil.copyfile(folder / "index.html", alone)
    return alone


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    driver = shutil.which("chromedriver")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if driver is None or chromium is None:
        pytest.skip("chromium and chromedriver are not installed: the page cannot be opened")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


@pytest.fixture
def browser(session: Browser, page: Path) -> Iterator[Browser]:
    """The page, freshly opened; at the end of every test, nothing was asked of anybody and nothing went wrong."""
    session.get("about:blank")
    session.get_log("performance")
    session.get_log("browser")
    session.get(page.as_uri())
    wait(session, "return document.querySelectorAll('.plot .scatterlayer .trace').length === 6")
    yield session
    requests = [json.loads(entry["message"])["message"] for entry in session.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in requests if m["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in urls  # the log is on
    assert not [url for url in urls if url != page.as_uri() and not url.startswith(("data:", "blob:"))]
    assert not [entry for entry in session.get_log("browser") if entry["level"] == "SEVERE"]


def wait(browser: Browser, script: str, *args: Any) -> Any:
    return WebDriverWait(browser, 20).until(lambda b: b.execute_script(script, *args))


def visible(browser: Browser, curve: str) -> list[Any]:
    script = (
        "return arguments[0].map(id => document.getElementById('plot-' + id).data.find("
        "t => t.meta.role === 'mean' && t.meta.curve === arguments[1]).visible ?? true)"
    )
    return browser.execute_script(script, PLOTS, curve)


def legend(browser: Browser, plot: str, curve: str) -> Any:
    entries = browser.find_elements(By.CSS_SELECTOR, f"#plot-{plot} .legend .traces")
    (entry,) = [e for e in entries if e.find_element(By.CSS_SELECTOR, ".legendtext").text == curve]
    toggle = entry.find_element(By.CSS_SELECTOR, ".legendtoggle")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", toggle)
    return toggle


def test_curves_are_drawn(browser: Browser) -> None:
    for plot in PLOTS:
        lines = browser.find_elements(By.CSS_SELECTOR, f"#plot-{plot} .scatterlayer .trace path.js-line")
        assert len(lines) == len(CODECS) and all("L" in str(line.get_attribute("d")) for line in lines)
        assert len({line.value_of_css_property("stroke") for line in lines}) == len(CODECS)
        markers = browser.find_elements(By.CSS_SELECTOR, f"#plot-{plot} .scatterlayer .trace .point")
        assert len(markers) == 4 * len(CODECS)
    text = browser.find_element(By.ID, "plot-sample_psnr").text
    assert "PSNR (dB) ↑" in text and "rate (bits per pixel)" in text


def test_pointer_shows_codec_and_setting(browser: Browser) -> None:
    script = "return document.querySelector('#plot-sample_psnr .scatterlayer .trace .point')"
    point = browser.execute_script(script)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", point)
    ActionChains(browser).move_to_element(point).perform()
    shown = wait(browser, "return document.querySelector('#plot-sample_psnr .hoverlayer .hovertext')?.textContent")
    trace = browser.execute_script(
        "return document.getElementById('plot-sample_psnr').data.find(t => t.y.length == 4)"
    )
    quality, rate, value, count = trace["customdata"][0]
    assert quality == "quality = 15" and count == "<br>mean of 2 images"
    assert all(word in shown for word in ("AVIF", quality, f"{rate} bpp", f"PSNR {value}", "mean of 2 images"))


def test_legend_toggles_a_curve_everywhere(browser: Browser) -> None:
    legend(browser, "sample_psnr", "JPEG").click()
    wait(browser, "return document.querySelectorAll('.plot .scatterlayer .trace').length === 4")
    assert visible(browser, "JPEG") == ["legendonly"] * 2
    assert visible(browser, "WebP") == [True] * 2
    legend(browser, "sample_ssim", "JPEG").click()
    wait(browser, "return document.querySelectorAll('.plot .scatterlayer .trace').length === 6")
    assert visible(browser, "JPEG") == [True] * 2


def test_double_click_shows_a_curve_alone(browser: Browser) -> None:
    for expected in ([["legendonly"] * 2, [True] * 2], [[True] * 2, [True] * 2]):
        ActionChains(browser).double_click(legend(browser, "sample_psnr", "WebP")).perform()
        WebDriverWait(browser, 20).until(
            lambda b, expected=expected: [visible(b, "AVIF"), visible(b, "WebP")] == expected
        )


def test_legend_by_keyboard(browser: Browser) -> None:
    toggle = legend(browser, "sample_psnr", "AVIF")
    assert (toggle.get_attribute("role"), toggle.get_attribute("aria-checked")) == ("switch", "true")
    browser.execute_script("arguments[0].focus()", toggle)
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    wait(browser, "return document.activeElement.getAttribute('aria-checked') === 'false'")
    assert browser.execute_script("return document.activeElement.getAttribute('aria-label')") == "AVIF"
    assert visible(browser, "AVIF") == ["legendonly"] * 2
    ActionChains(browser).send_keys(Keys.SPACE).perform()
    wait(browser, "return document.activeElement.getAttribute('aria-checked') === 'true'")
    assert visible(browser, "AVIF") == [True] * 2


def test_logarithmic_rate(browser: Browser) -> None:
    def places() -> np.ndarray:
        """Of AVIF's points; a line leaves out points that lie on it."""
        script = "return [...arguments[0].querySelectorAll('.point')].map(p => p.getAttribute('transform'))"
        trace = browser.find_element(By.CSS_SELECTOR, "#plot-sample_psnr .scatterlayer .trace")
        return np.array([re.findall(r"[\d.]+", text) for text in browser.execute_script(script, trace)], dtype=float)

    linear = places()
    for kind, other in (("log", "linear"), ("linear", "log")):
        button = browser.find_element(By.CSS_SELECTOR, f"button[data-rate={kind}]")
        button.click()
        types = [f"document.getElementById('plot-{plot}')._fullLayout.xaxis.type === '{kind}'" for plot in PLOTS]
        wait(browser, f"return {' && '.join(types)}")
        assert button.get_attribute("aria-pressed") == "true"
        pressed = browser.find_element(By.CSS_SELECTOR, f"button[data-rate={other}]").get_attribute("aria-pressed")
        assert pressed == "false"
        assert np.allclose(places(), linear, atol=0.5) == (kind == "linear")
        if kind == "log":
            ticks = browser.find_elements(By.CSS_SELECTOR, "#plot-sample_psnr .xtick text")
            labels = [float(tick.text) for tick in ticks]
            assert len(labels) >= 3 and labels == sorted(labels)
            middles = [tick.location["x"] + tick.size["width"] / 2 for tick in ticks]
            slope = np.diff(middles) / np.diff(np.log(labels))
            assert np.allclose(slope, slope.mean(), rtol=0.1)


def test_single_images_on_demand(browser: Browser) -> None:
    count = "return document.querySelectorAll('#plot-sample_psnr .scatterlayer .point').length"
    means = 4 * len(CODECS)
    assert browser.execute_script(count) == means
    browser.find_element(By.CSS_SELECTOR, "input[data-per-image]").click()
    everything = means + means * len(IMAGES)
    wait(browser, f"{count} === {everything}")
    legend(browser, "sample_psnr", "JPEG").click()  # a hidden codec's images are hidden too
    wait(browser, f"{count} === {everything * 2 // 3}")
    browser.find_element(By.CSS_SELECTOR, "input[data-per-image]").click()
    wait(browser, f"{count} === {means * 2 // 3}")


def test_anchor_changes_the_tables(browser: Browser) -> None:
    def rows() -> dict[str, list[str]]:
        tables = browser.find_elements(By.CSS_SELECTOR, "[data-against] table.report")
        (shown,) = [table for table in tables if table.is_displayed() and "PSNR" in table.text]
        cells = [
            [c.text for c in r.find_elements(By.TAG_NAME, "td")] for r in shown.find_elements(By.TAG_NAME, "tr")[1:]
        ]
        return {row[0]: row[1:] for row in cells}

    select = Select(browser.find_element(By.CSS_SELECTOR, "select[data-anchor]"))
    assert [option.text for option in select.options] == list(TITLES)
    assert select.first_selected_option.text == "JPEG"
    against_jpeg = rows()
    assert set(against_jpeg) == {"AVIF", "WebP"}
    select.select_by_visible_text("WebP")
    against_webp = rows()
    assert set(against_webp) == {"AVIF", "JPEG"}
    # Cubic: the rate ratio over the same range is the same one, seen from the other side.
    there, back = (float(t.replace("−", "-")) for t in (against_jpeg["WebP"][0], against_webp["JPEG"][0]))
    assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1, abs=1e-3)


def test_pictures_are_enlarged_and_compared(browser: Browser, material: Path) -> None:
    article = browser.find_elements(By.CSS_SELECTOR, ".match")[1]
    assert "chelsea.png" in article.text
    browser.execute_script("arguments[0].scrollIntoView({block: 'start', behavior: 'instant'})", article)
    panels = article.find_elements(By.CSS_SELECTOR, ".panel")
    assert [panel.get_attribute("data-name") for panel in panels] == ["Original", *TITLES]
    original = np.array(Image.open(material / "originals" / "chelsea.png"))
    pixels = (
        "const c = arguments[0].querySelector('canvas');"
        "return [c.width, c.height, [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]]"
    )

    def enlarged() -> np.ndarray:
        width, height, data = browser.execute_script(pixels, panels[0])
        return np.array(data, dtype=np.uint8).reshape(height, width, 4)[..., :3]

    x, y, width, height = map(int, article.get_attribute("data-window").split(","))
    wait(
        browser,
        "return arguments[0].querySelector('canvas').getContext('2d').getImageData(0,0,1,1).data[3]",
        panels[0],
    )
    assert np.array_equal(enlarged(), original[y : y + height, x : x + width])
    frame = panels[2].find_element(By.CSS_SELECTOR, ".frame")  # of JPEG; the window moves in all panels
    left = -round(0.45 * frame.size["width"])
    up = -round(0.45 * frame.size["height"])
    ActionChains(browser).move_to_element_with_offset(frame, left, up).click().perform()
    assert np.array_equal(enlarged(), original[:height, :width])
    ActionChains(browser).send_keys(Keys.ARROW_RIGHT).send_keys(Keys.ARROW_DOWN).perform()
    assert np.array_equal(enlarged(), original[8 : 8 + height, 8 : 8 + width])

    swipe = article.find_element(By.CSS_SELECTOR, ".swipe")
    assert swipe.is_displayed()
    first, second = (Select(element) for element in swipe.find_elements(By.TAG_NAME, "select"))
    first.select_by_visible_text("AVIF")
    second.select_by_visible_text("WebP")
    below, above = swipe.find_elements(By.CSS_SELECTOR, ".stage img")
    assert (above.get_attribute("alt"), below.get_attribute("alt")) == ("chelsea.png, AVIF", "chelsea.png, WebP")
    stage = swipe.find_element(By.CSS_SELECTOR, ".stage")
    quarter = round(stage.size["width"] / 4)
    ActionChains(browser).move_to_element_with_offset(stage, quarter, 0).perform()
    wait(browser, "return Math.abs(arguments[0].value - 75) < 1", swipe.find_element(By.CSS_SELECTOR, "[type=range]"))
    assert above.value_of_css_property("clip-path").startswith("inset(0px 25")


def test_phone_width(browser: Browser) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        wait(browser, "return document.querySelector('.plot .main-svg').getBoundingClientRect().width < 390")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
        boxes = browser.execute_script(
            "return ['.legend', '.g-xtitle', '.modebar-container .modebar'].map(s => {"
            "const r = document.querySelector('#plot-sample_psnr ' + s).getBoundingClientRect();"
            "return [r.top, r.bottom]})"
        )
        (legend_top, _), (title_top, title_bottom), (_, buttons_bottom) = boxes
        assert buttons_bottom <= title_top < title_bottom <= legend_top + 1
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_labels_and_sizes(browser: Browser) -> None:
    unlabelled = browser.execute_script(
        "return [...document.querySelectorAll('select, input')].filter("
        "e => !e.labels.length && !e.getAttribute('aria-label')).length"
    )
    assert unlabelled == 0
    assert all(image.get_attribute("alt") for image in browser.find_elements(By.CSS_SELECTOR, ".panel img"))
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('.panel img')].map(i => [i.naturalWidth, i.naturalHeight])"
    )
    assert sizes == [list(SIZE)] * (len(IMAGES) * (1 + 2 * len(CODECS)))
