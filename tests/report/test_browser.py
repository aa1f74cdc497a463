"""The page in a real browser: it loads nothing, complains about nothing, sorts, and fits on a phone."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

DESKTOP, PHONE = (1280, 900), (375, 812)

Open = Callable[..., Page]

SORT_EVERYTHING = """
() => [...document.querySelectorAll("table")].map((table) =>
  [...table.tHead.rows[0].cells].map((heading) => {
    const read = () => [...table.tBodies[0].rows].map((row) => {
      const cell = row.cells[heading.cellIndex];
      return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
    });
    const orders = [read()];
    const signs = [];
    for (let time = 0; time < 2; time += 1) {
      heading.querySelector("button").click();
      orders.push(read());
      signs.push(heading.getAttribute("aria-sort"));
    }
    return { orders, signs, sorted: table.querySelectorAll("[aria-sort]:not([aria-sort=none])").length };
  }))
"""
"""Clicks on every heading of every table twice; of each, the column before and after, and what the heading says."""


@pytest.fixture
def show(browser: Browser, page_file: Path) -> Iterator[Open]:
    """Opens the report of the full bundle; whatever the browser requests or complains about fails the test."""
    requests: list[str] = []
    complaints: list[str] = []
    contexts = []

    def opened(size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> Page:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(page_file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()] * len(contexts)
    assert complaints == []


def until(come_true: Callable[[], bool]) -> None:
    """Waits for what the browser does in its own time."""
    deadline = time.monotonic() + 20
    while not come_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_is_loaded_and_nothing_overflows(show: Open, size: tuple[int, int], dark: bool) -> None:
    page = show(size, dark=dark)

    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    assert page.locator("section").count() == page.locator("nav a").count() > 5
    shown = page.locator("figure.chart svg:visible")
    assert shown.count() == page.locator("figure.chart:visible").count() > 3
    widest = max(box["width"] for each in shown.all() if (box := each.bounding_box()))
    assert size[0] / 2 < widest <= size[0] - 32


def luminance(page: Page, what: str, element: str = "document.body") -> float:
    """Brightness of a colour on the page, from 0 to 255."""
    colour: str = page.evaluate(f"getComputedStyle({element}).{what}")
    return sum(float(part) for part in colour.strip("rgb()").split(",")[:3]) / 3


def test_dark_is_dark_in_the_page_and_in_its_drawings(show: Open) -> None:
    light, dark = show(), show(dark=True)

    label = "document.querySelector('.wide svg .role-axis-label text')"
    assert luminance(light, "backgroundColor") > 240
    assert luminance(dark, "backgroundColor") < 40
    assert luminance(light, "fill", label) < 120 < luminance(dark, "fill", label)


def test_print_is_white_in_the_dark_too_and_leaves_out_what_is_for_the_screen(show: Open) -> None:
    page = show(dark=True)
    page.emulate_media(media="print", color_scheme="dark")

    assert luminance(page, "backgroundColor") == 255
    assert not page.locator("nav").is_visible()
    assert page.locator("table").first.is_visible()
    assert page.pdf(format="A4")[:5] == b"%PDF-"


def test_every_table_sorts_by_every_column_both_ways(show: Open) -> None:
    tables = show().evaluate(SORT_EVERYTHING)

    assert len(tables) > 8
    for column in (column for table in tables for column in table):
        before, *orders = column["orders"]
        assert column["signs"] == ["ascending", "descending"]
        assert column["sorted"] == 1
        for order, down in zip(orders, (False, True), strict=True):
            assert sorted(map(str, order)) == sorted(map(str, before)), "no row is lost"
            figures = [value for value in order if not isinstance(value, str)]
            assert figures == sorted(figures, reverse=down)
            assert order[: len(figures)] == figures, "what says nothing comes last"


def test_words_sort_as_words(show: Open) -> None:
    page = show()
    table = page.locator("#environment table").last
    names = table.locator("tbody tr > :first-child")
    heading = table.locator("thead button").first
    heading.click()
    up = names.all_inner_texts()
    heading.click()

    assert up == sorted(up, key=str.casefold) != sorted(up, key=str.casefold, reverse=True)
    assert names.all_inner_texts() == up[::-1]


def test_headings_sort_by_the_keyboard(show: Open) -> None:
    page = show()
    heading = page.locator("thead th").first
    heading.locator("button").focus()
    page.keyboard.press("Enter")

    assert heading.get_attribute("aria-sort") == "ascending"


def test_what_a_mark_stands_for_is_said_under_the_pointer(show: Open) -> None:
    page = show()
    bar = page.locator("#latency .wide svg [aria-roledescription='bar']").first
    bar.scroll_into_view_if_needed()

    def said() -> bool:  # scrolling, which ends some time after it began, takes the words away
        page.mouse.move(1, 1)
        bar.hover()
        return page.locator("#tip").is_visible()

    until(said)
    assert page.locator("#tip").inner_text().startswith("onnx fp32: 10.0")
    page.mouse.move(1, 1)
    assert not page.locator("#tip").is_visible()


def test_sections_are_reached_by_their_names(show: Open) -> None:
    page = show()
    page.locator("nav a", has_text="Certificates").click()
    top = "document.querySelector('#certificates').getBoundingClientRect().top"
    until(lambda: abs(page.evaluate(top)) < 200)
