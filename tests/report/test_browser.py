"""The page in a real browser: no console error, no request, no serious finding of axe-core, nothing wider than a phone."""

import browser
import pytest
from report_pages import hostile
from report_runs import METHODS, write_run

from frpo_verl.report import cli

REASON = browser.why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=str(REASON))]
VIEWS = [(size, scheme) for size in browser.SIZES for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def chromium():
    opened = browser.Browser()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """One run; four methods of three seeds; a run whose texts are scripts; a page that reloads itself."""
    home = tmp_path_factory.mktemp("pages")
    found = {name: home / f"{name}.html" for name in ("one", "several", "hostile")}
    assert cli.main([str(write_run(home / "frpo")), "--out", str(found["one"])]) == 0
    seeds = [str(write_run(home / f"{m}-seed{i}", m, i, steps=24, validations=2)) for m in METHODS for i in range(3)]
    assert cli.main([*seeds, "--group", "--out", str(found["several"])]) == 0
    assert cli.main([str(hostile(home / "hostile")), "--out", str(found["hostile"])]) == 0
    return found


@pytest.mark.parametrize("name", ["one", "several", "hostile"])
def test_console_requests_and_width(chromium, pages, name):
    for size, scheme in VIEWS:
        chromium.open(pages[name], size, scheme)
        assert chromium.console() == []
        assert chromium.requests() == [pages[name].resolve().as_uri()]
        assert chromium.run("document.documentElement.scrollWidth") <= browser.SIZES[size][0]
        assert chromium.run("document.querySelectorAll('figure > svg').length") >= 15
        background = chromium.run("getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
        line = chromium.run("getComputedStyle(document.querySelector('figure > svg path[style*=c0]')).stroke")
        assert line == {"light": "rgb(0, 103, 165)", "dark": "rgb(86, 177, 238)"}[scheme]


@pytest.mark.parametrize("name, size, scheme", [("one", "phone", "dark"), ("several", "desktop", "light")])
def test_axe_finds_nothing(chromium, pages, name, size, scheme):
    chromium.open(pages[name], size, scheme)
    chromium.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert [(v["id"], v["impact"], v["nodes"][0]["html"]) for v in chromium.axe()] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_every_kind_of_element(chromium, pages, scheme):
    """The page with warnings, notes, marked settings and shaded tokens, in the scheme that the test above leaves out."""
    chromium.open(pages["hostile"], "phone", scheme)
    chromium.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = chromium.axe({"runOnly": ["color-contrast"]})
    assert [(v["id"], v["impact"], v["nodes"][0]["html"]) for v in found] == []


def test_a_keyboard_reaches_the_verdict_and_the_numbers(chromium, pages):
    from selenium.webdriver.common.keys import Keys

    chromium.open(pages["one"])
    body = chromium.driver.find_element("tag name", "body")
    body.send_keys(Keys.TAB)
    assert chromium.run("document.activeElement.textContent") == "Skip to the verdict"
    assert chromium.run("document.activeElement.getBoundingClientRect().left >= 0")
    chromium.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert chromium.run("document.activeElement.id") == "main"
    chromium.run("document.querySelector('figure summary').focus()")
    chromium.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert chromium.run("document.querySelector('figure details').open") is True


def test_a_watched_page_reloads_itself_until_it_is_told_not_to(chromium, pages, tmp_path, monkeypatch):
    from selenium.webdriver.support.ui import WebDriverWait

    def stop(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.time, "sleep", stop)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "data": {"critic/score/mean": 0.5}}\n')
    page = tmp_path / "report.html"
    assert cli.main([str(tmp_path), "--watch", "2"]) == 0
    monkeypatch.undo()
    chromium.open(page)
    assert chromium.run("document.title") == f"{tmp_path.name}: report" and chromium.console() == []
    page.write_text(page.read_text().replace(f"<title>{tmp_path.name}", "<title>newer"))
    WebDriverWait(chromium.driver, 90).until(lambda driver: driver.title == "newer: report")
    # in one piece: between two commands the page may reload once more
    assert chromium.run("(document.getElementById('reload').click(), sessionStorage.getItem('reload'))") == "off"
    chromium.driver.refresh()
    assert chromium.run("document.getElementById('reload').checked") is False
