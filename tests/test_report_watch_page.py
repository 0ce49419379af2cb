"""The live page in a real browser: it shows what arrives, and keeps what the reader has chosen."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report_helpers import write_records
from tests.watch_helpers import PATIENCE, Watch, arrive, watching

pytest.importorskip("selenium", reason="selenium is not installed: pip install -e .[dev]")

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.test_report_page import PLOTS, Browser, legend, session, visible

__all__ = ["session"]  # the browser

DRAWN = (
    "return Object.fromEntries((document.getElementById('plot-sample_psnr')?.data ?? [])"
    ".filter(t => t.meta.role === 'mean').map(t => [t.name, t.x.length]))"
)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_records(tmp_path_factory.mktemp("material")) / "records"


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    (tmp_path / "runs").mkdir()
    with watching(tmp_path, tmp_path / "runs") as running:
        yield running


def until(browser: Browser, script: str, value: Any) -> None:
    """Wait for a script to return a value; a page that is just being replaced may have none of its own yet."""
    try:
        WebDriverWait(browser, PATIENCE, ignored_exceptions=(Exception,)).until(
            lambda b: b.execute_script(script) == value
        )
    except Exception:
        assert browser.execute_script(script) == value
        raise


def click(browser: Browser, selector: str) -> None:
    element = browser.find_element(By.CSS_SELECTOR, selector)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


def test_open_page_follows_and_keeps_what_was_chosen(
    session: Browser, watch: Watch, records: Path, tmp_path: Path
) -> None:
    browser, runs = session, tmp_path / "runs"
    session.get_log("performance")
    session.get_log("browser")
    browser.get(watch.address)
    until(browser, "return document.querySelector('#live').textContent.includes('Waiting for the first')", True)

    for codec in ("jpeg", "webp", "avif"):
        for quality in sorted(path.name for path in (records / codec).iterdir())[:3]:
            arrive(records / codec / quality, runs / codec / quality)
    until(browser, DRAWN, {"AVIF": 3, "JPEG": 3, "WebP": 3})
    links = browser.find_elements(By.CSS_SELECTOR, "a[href^='figures/'], a[href^='tables/'], a[href^='pictures/']")
    assert links and not [link for link in links if link.is_displayed()]  # there are no such files

    legend(browser, "sample_psnr", "JPEG").click()
    click(browser, "button[data-rate=log]")
    click(browser, "input[data-per-image]")
    Select(browser.find_element(By.CSS_SELECTOR, "select[data-anchor]")).select_by_visible_text("WebP")
    article = browser.find_elements(By.CSS_SELECTOR, ".match")[1]
    Select(article.find_elements(By.CSS_SELECTOR, ".swipe select")[1]).select_by_visible_text("WebP")
    click(browser, "#sample-points summary")
    browser.execute_script("Plotly.relayout('plot-sample_ssim', {'yaxis.range': [0.8, 0.9]})")
    browser.execute_script("window.scrollTo({top: 700, behavior: 'instant'})")
    assert visible(browser, "JPEG") == ["legendonly"] * 2
    time = "return document.querySelector('#live time').dateTime"
    before = browser.execute_script(time)

    (last,) = {path.name for path in (records / "avif").iterdir()} - {path.name for path in (runs / "avif").iterdir()}
    arrive(records / "avif" / last, runs / "avif" / last)
    until(browser, DRAWN, {"AVIF": 4, "JPEG": 3, "WebP": 3})
    until(browser, "return document.readyState", "complete")
    assert browser.execute_script(time) > before

    assert visible(browser, "JPEG") == ["legendonly"] * 2 and visible(browser, "AVIF") == [True] * 2
    types = "return arguments[0].map(id => document.getElementById('plot-' + id).layout.xaxis.type)"
    assert browser.execute_script(types, PLOTS) == ["log"] * 2
    assert browser.find_element(By.CSS_SELECTOR, "input[data-per-image]").is_selected()
    singles = "document.getElementById('plot-sample_psnr').data.filter(t => t.meta.role !== 'mean')"
    assert browser.execute_script(f"return {singles}.map(t => [t.meta.curve, t.visible])") == [
        *(["AVIF", True], ["JPEG", False], ["WebP", True])
    ]
    anchor = Select(browser.find_element(By.CSS_SELECTOR, "select[data-anchor]"))
    assert anchor.first_selected_option.text == "WebP"
    groups = browser.find_elements(By.CSS_SELECTOR, "[data-against]")
    assert [g.get_attribute("data-against") for g in groups if g.is_displayed()] == ["WebP"]
    swipes = [
        [Select(s).first_selected_option.text for s in article.find_elements(By.CSS_SELECTOR, ".swipe select")]
        for article in browser.find_elements(By.CSS_SELECTOR, ".match")
    ]
    assert swipes == [["Original", "AVIF"], ["Original", "WebP"]]
    assert browser.find_element(By.CSS_SELECTOR, "#sample-points details").get_attribute("open") is not None
    zoom = browser.execute_script("return document.getElementById('plot-sample_ssim').layout.yaxis.range")
    assert zoom == pytest.approx([0.8, 0.9])
    assert browser.execute_script("return document.getElementById('plot-sample_psnr').layout.yaxis.autorange")
    until(browser, "return window.scrollY", 700)

    # Its own server is all that the page ever asked.
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    asked = {url for url in urls if not url.startswith(("data:", "blob:"))}
    assert asked == {watch.address, watch.address + "state"}
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    refused = "fetch('http://localhost:9/').then(() => done('answered'), () => done('refused'))"
    assert browser.execute_async_script(f"const done = arguments[0]; {refused}") == "refused"
    blocked = [entry["message"] for entry in browser.get_log("browser")]
    assert any("Content Security Policy" in message for message in blocked)

    assert watch.interrupt() == 0
    until(browser, "return document.querySelector('#live').className", "lost")
    assert "Not live: no answer since" in browser.find_element(By.ID, "live").text
    assert browser.execute_script(DRAWN)["AVIF"] == 4  # what was there stays
