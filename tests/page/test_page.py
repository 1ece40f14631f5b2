"""The report of the drills in a browser without a screen: complete, self-contained, readable on every screen."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from drills.report import page as report_page
from drills.results import DrillReport
from tests.unit.drill_reports import everything, example, odd, passed, report

_CHROMIUM = "/usr/bin/chromium-headless-shell"
#: It runs in a container as whoever calls, and has to ask nobody for anything.
_QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")
_CHART_TEXTS = Path(__file__).with_name("chart_texts.js").read_text()
_WIDTHS = {"desk": 1280, "phone": 390}
#: Least contrast of text, as WCAG AA wants it.
_CONTRAST = 4.5
_REPORTS: dict[str, Callable[[], DrillReport]] = {
    "example": example,
    "everything": everything,
    "odd": lambda: report(*odd()),
    "one": lambda: report(passed()),
    "none": report,
}


@dataclass
class _Opened:
    """A page that was loaded, and what the browser had to say about it."""

    page: Page
    said: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


_Open = Callable[..., _Opened]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=_CHROMIUM, args=list(_QUIET))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("pages")

    def file(name: str) -> Path:
        path = folder / f"{name}.html"
        if not path.exists():
            path.write_text(report_page.render(_REPORTS[name]()), encoding="utf-8")
        return path

    return file


@pytest.fixture
def load(browser: Browser, files: Callable[[str], Path]) -> Iterator[_Open]:
    contexts = []

    def opened(name: str, screen: str = "desk", scheme: Any = "light", fragment: str = "") -> _Opened:
        context = browser.new_context(viewport={"width": _WIDTHS[screen], "height": 900}, color_scheme=scheme)
        contexts.append(context)
        result = _Opened(context.new_page())
        result.page.on("console", lambda message: result.said.append(message.text))
        result.page.on("pageerror", lambda error: result.said.append(str(error)))
        result.page.on("request", lambda request: result.requests.append(request.url))
        result.page.goto(f"{files(name).as_uri()}{fragment}")
        return result

    yield opened
    for context in contexts:
        context.close()


def _open_all(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")


@pytest.mark.parametrize("name", [name for name in _REPORTS if name != "everything"])
def test_nothing_is_fetched_and_no_error_is_said(load: _Open, name: str) -> None:
    opened = load(name)
    _open_all(opened.page)
    opened.page.wait_for_load_state("networkidle")
    assert opened.said == []
    assert [url.partition("://")[0] for url in opened.requests] == ["file"]


def test_browser_does_tell_of_requests_and_errors(browser: Browser, tmp_path: Path) -> None:
    """The counterpart: what the test above looks for would be seen."""
    file = tmp_path / "bad.html"
    file.write_text("<img src='picture.png'><script>undefined.nothing</script>")
    page = browser.new_page()
    said, requests = [], []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri())
    assert len(said) == 1
    assert len(requests) == 2
    page.close()


# Everything is drawn once, which takes a while on a machine with other things to do.
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["example", "everything", "odd"])
def test_every_drill_has_its_section_with_charts_checks_and_events(load: _Open, name: str) -> None:
    expected = _REPORTS[name]()
    page = load(name).page
    _open_all(page)
    sections = page.locator("details.drill")
    assert sections.count() == len(expected.drills)
    assert page.locator(".summary td.verdict").count() == len(expected.drills)
    found = sections.evaluate_all(
        """sections => sections.map(section => {
            const boxes = [...section.querySelectorAll('.chart.wide svg')].map(svg => svg.getBoundingClientRect());
            return {
                status: section.dataset.status,
                title: section.querySelector('h3').textContent.trim(),
                charts: boxes.filter(box => box.width > 500 && box.height > 150).length,
                checks: [...section.querySelectorAll('.checks tbody tr')].map(row => [
                    row.cells[1].textContent, row.cells[0].textContent.includes('passed'), row.cells[2].textContent]),
                events: section.querySelectorAll('.events tbody tr').length,
                phases: section.querySelectorAll('.phases tbody tr').length,
            };
        })"""
    )
    for drill, section in zip(expected.drills, found, strict=True):
        assert section["status"] == drill.status
        assert section["title"].startswith(drill.name)
        assert section["charts"] == (drill.status != "skipped")
        assert sorted(section["checks"]) == sorted([check.name, check.passed, check.detail] for check in drill.checks)
        assert section["events"] == min(len(drill.events), report_page.EVENTS)
        assert section["phases"] == len(drill.phases)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("name", "screen"), list(itertools.product(_REPORTS, _WIDTHS)))
def test_nothing_is_wider_than_the_screen(load: _Open, name: str, screen: str) -> None:
    page = load(name, screen).page
    _open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= _WIDTHS[screen]
    # Also what a parent would cut off.
    beyond = page.evaluate(
        """width => [...document.querySelectorAll('body *')]
            .filter(element => !element.closest('svg') && !element.closest('thead'))
            .filter(element => element.getBoundingClientRect().right > width + 1)
            .map(element => element.outerHTML.slice(0, 120))""",
        _WIDTHS[screen],
    )
    assert beyond == []


def test_summary_fits_on_paper(load: _Open) -> None:
    page = load("example").page
    page.emulate_media(media="print")
    # A4 without its margins, in CSS pixels.
    page.set_viewport_size({"width": 688, "height": 1016})
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    widths = page.locator(".summary tbody th").evaluate_all("cells => cells.map(cell => cell.offsetWidth)")
    assert min(widths) >= 128
    assert page.locator("details[open] .chart.wide svg").is_visible()


def test_no_data_is_no_good_news(load: _Open) -> None:
    """A run in which nothing was compared shows no zero."""
    tiles = load("none").page.locator(".tiles dd:not(.note)")
    assert tiles.all_inner_texts() == ["no data"] * 4
    assert load("example").page.locator(".tiles dd:not(.note)").all_inner_texts() == ["43", "3", "1", "2.44 s"]


@pytest.mark.parametrize(("screen", "scheme"), list(itertools.product(_WIDTHS, ["light", "dark"])))
def test_page_is_accessible(load: _Open, screen: str, scheme: str) -> None:
    """Contrast, names, headings, tables, as axe judges them."""
    page = load("example", screen, scheme).page
    _open_all(page)
    violations, judged = _audit(page)
    assert violations == []
    assert judged > 300


def test_audit_does_tell_of_low_contrast(load: _Open) -> None:
    page = load("example").page
    page.add_style_tag(content=":root { --muted: #a9b0ba !important; --chart-muted: #a9b0ba !important }")
    assert [rule for rule, *_ in _audit(page)[0]] == ["color-contrast"]
    assert {"fault", "median"} <= {text["text"] for text in _texts_of_charts(page) if text["contrast"] < _CONTRAST}


def _audit(page: Page) -> tuple[list[tuple[str, ...]], int]:
    """Return what axe objects to, and at how many places it could judge the contrast."""
    found = Axe().run(page, options={"resultTypes": ["violations", "passes"]})
    violations = [
        (rule["id"], *(node["html"][:200] for node in rule["nodes"])) for rule in found.response["violations"]
    ]
    judged = sum(len(rule["nodes"]) for rule in found.response["passes"] if rule["id"] == "color-contrast")
    return violations, judged


@pytest.mark.parametrize(("screen", "scheme"), list(itertools.product(_WIDTHS, ["light", "dark"])))
def test_text_of_charts_is_readable(load: _Open, screen: str, scheme: str) -> None:
    """Axe leaves SVG alone: contrast against what lies below each text, and no tiny letters."""
    page = load("example", screen, scheme).page
    _open_all(page)
    texts = _texts_of_charts(page)
    assert {"fault", "master", "replica", "silent", "▼ inject 5.0 s"} <= {text["text"] for text in texts}
    assert [text for text in texts if text["contrast"] < _CONTRAST] == []
    assert [text for text in texts if text["pixels"] < 9] == []


def _texts_of_charts(page: Page) -> list[dict[str, Any]]:
    """Return each visible text of the charts with its contrast to what is drawn below it and its size in pixels."""
    texts: list[dict[str, Any]] = page.evaluate(_CHART_TEXTS)
    return texts


def test_failed_drills_are_open_and_links_open_others(load: _Open) -> None:
    page = load("example").page
    is_open = "parts => parts.filter(part => part.open).map(part => part.id)"
    assert page.locator("details.drill").evaluate_all(is_open) == ["power-loss-3"]
    page.locator(".summary a", has_text="kill-master").click()
    expect(page.locator("#kill-master-1")).to_have_attribute("open", "")
    page.get_by_role("button", name="open all").click()
    assert len(page.locator("details.drill").evaluate_all(is_open)) == 5
    page.get_by_role("button", name="failed only").click()
    assert page.locator("details.drill").evaluate_all(is_open) == ["power-loss-3"]
    page.get_by_role("button", name="close all").click()
    assert page.locator("details.drill").evaluate_all(is_open) == []
    assert load("example", fragment="#switchover-4").page.locator("#switchover-4").evaluate("part => part.open")


def test_text_of_others_stays_text(load: _Open) -> None:
    opened = load("odd")
    _open_all(opened.page)
    assert opened.page.title().startswith("Failover drills")
    assert opened.page.locator("script").count() == 1
    assert opened.page.locator(".events b").count() == 0
    assert opened.page.get_by_text("2,700 more in drills.json").is_visible()
    assert opened.page.locator("h3", has_text="<script>alert('&')</script>").count() == 1


@pytest.mark.timeout(400)
def test_page_of_75_runs_is_small(files: Callable[[str], Path]) -> None:
    assert len(everything().drills) == 75
    assert files("everything").stat().st_size < 10_000_000
