"""The page in a real browser: nothing is fetched, nothing complains, everything can be seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.reporting import render_html
from tests.reporting import results
from tests.reporting.chromium import Chromium

pytestmark = pytest.mark.slow

_SPEED = ("latency-1", "trade-off", "start-up", "memory")
# The pictures of each page.
_PICTURES = {
    "validation": ("accuracy", *_SPEED),
    "comparison": ("ratios-2", *_SPEED),
    "server": ("ratios-2", *_SPEED),
    "pruning": ("left", "layers-left", "accuracy", "foretold"),
    "sensitivity": ("sensitivity", "sensitivity-speed"),
}
# Every picture, heading and verdict has a box inside the page, and text that is not cut off.
_BOXES = """
[...document.querySelectorAll('%s')].map(one => {
  const box = one.getBoundingClientRect();
  return [one.id || one.textContent.slice(0, 40), box.left, box.right, box.width, box.height];
})
"""
# Contrast (WCAG) of what is read against the card it stands on.
_CONTRAST = """
(() => {
  const light = text => {
    const rgb = text.match(/[\\d.]+/g).slice(0, 3).map(part => {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2];
  };
  const card = light(getComputedStyle(document.querySelector('header')).backgroundColor);
  return Math.min(...[...document.querySelectorAll(
    'h1, h2, .verdict, .value, .detail, figcaption, td, th, svg text, .badge'
  )].map(one => {
    const style = getComputedStyle(one);
    const ink = light(one.tagName === 'text' ? style.fill : style.color);
    return (Math.max(ink, card) + 0.05) / (Math.min(ink, card) + 0.05);
  }));
})()
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as opened:
        yield opened


@pytest.fixture(scope="module", params=list(_PICTURES))
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / f"{request.param}.html"
    result = getattr(results, request.param)()
    path.write_text(render_html(results.as_json(result)), encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_everything_is_seen(browser: Chromium, page: Path, width: int, dark: bool) -> None:
    """The verdict and every picture have their box inside a desktop's or a phone's window."""
    visit = browser.open(page, width=width, dark=dark)

    assert visit.requests == [page.as_uri()]
    assert visit.console == []
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    shown = browser.evaluate(
        _BOXES % "#verdict, #verdict h1, .verdict, .badge, figure svg, figcaption"
    )
    assert isinstance(shown, list)
    names = [row[0] for row in shown]
    assert {"verdict", *_PICTURES[page.stem]} <= set(names)
    for name, left, right, across, high in shown:
        assert across > 20, name
        assert high > 10, name
        assert left >= 0, name
        assert right <= width + 0.5, name
    assert browser.evaluate(_CONTRAST) >= 4.0


def test_tables_fit_a_phone(browser: Chromium, page: Path) -> None:
    """The last column, which holds the verdict, is seen without moving the table."""
    browser.open(page, width=375)
    browser.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")

    over = browser.evaluate(
        "[...document.querySelectorAll('.scroll')]"
        ".filter(one => one.scrollWidth > one.clientWidth + 1)"
        ".map(one => one.getAttribute('aria-label'))"
    )
    assert over == []


def test_the_verdict_is_on_the_first_screen(browser: Chromium, page: Path) -> None:
    """Verdict, sentence and key figures are seen on a phone without scrolling."""
    browser.open(page, width=375, height=812)

    assert browser.evaluate("document.querySelector('.figures').getBoundingClientRect().top") < 812
    assert (
        browser.evaluate("document.querySelector('.verdict').getBoundingClientRect().bottom") < 812
    )


def test_dark_mode_is_dark(browser: Chromium, page: Path) -> None:
    """Page and pictures take the colours of the mode that the reader has chosen."""
    colours = []
    for dark in (False, True):
        browser.open(page, width=1280, dark=dark)
        colours.append(
            browser.evaluate(
                "[getComputedStyle(document.body).backgroundColor,"
                " getComputedStyle(document.querySelector('figure svg text')).fill]"
            )
        )

    assert colours[0][0] != colours[1][0]
    assert colours[0][1] != colours[1][1]


def test_no_text_of_a_picture_leaves_it(browser: Chromium, page: Path) -> None:
    """Labels stay within their picture, also in the fonts of another system."""
    browser.open(page, width=1280)

    over = browser.evaluate(
        "[...document.querySelectorAll('figure svg')].flatMap(svg => {"
        " const room = svg.getBoundingClientRect();"
        " return [...svg.querySelectorAll('text')].filter(text => {"
        "  const box = text.getBoundingClientRect();"
        "  return box.left < room.left - 12 || box.right > room.right + 12;"
        " }).map(text => svg.id + ': ' + text.textContent); })"
    )
    assert over == []


def test_the_page_prints(browser: Chromium, page: Path) -> None:
    """A page for paper comes out whole."""
    browser.open(page, width=1280)

    assert browser.pdf().startswith(b"%PDF")
