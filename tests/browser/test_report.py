"""The page of `pdcode report` in headless Chromium, started once: zoom, sorting, themes, paper, two runs."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import traces
from playwright.sync_api import Browser, Page, sync_playwright

from pdcode.__main__ import main

pytestmark = pytest.mark.slow
LONG_MS = 100_000
RANGE = """() => {
  const figure = document.getElementById("timeline");
  const range = Bokeh.index.roots.find(view => figure.contains(view.el)).model.x_range;
  return [range.start, range.end];
}"""
PIXELS = """() => {  // of the canvases of the timeline
  const found = [], seek = node => {
    if (node instanceof HTMLCanvasElement) found.push(node.toDataURL());
    for (const each of [...node.children, ...(node.shadowRoot?.children ?? [])]) seek(each);
  };
  seek(document.getElementById("timeline"));
  return found.join();
}"""
STOPS = """() => {  // kinds of elements at which Tab stops
  const found = new Set(), seek = node => {
    if (node.tabIndex >= 0) found.add(node.tagName);
    for (const each of [...node.children, ...(node.shadowRoot?.children ?? [])]) seek(each);
  };
  seek(document.body);
  return [...found].sort();
}"""
PAPER = "getComputedStyle(document.body).backgroundColor"


def wait(page: Page, expression: str) -> None:
    """Wait until an expression is true; `wait_for_function` needs `eval`, which the page forbids."""
    for _ in range(LONG_MS // 20):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    raise AssertionError(expression)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages about a run, and about it beside a run without a slow worker."""
    folder = tmp_path_factory.mktemp("pages")
    traces.simulate(folder / "a.h5", 0.5)
    traces.simulate(folder / "b.h5", 0.5, slow=())
    assert main(["report", "--quick", str(folder / "a.h5")]) == 0
    both = [str(folder / "a.h5"), str(folder / "b.h5"), "-o", str(folder / "both.html")]
    assert main(["report", "--quick", *both]) == 0
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"], timeout=LONG_MS)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, folder: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Open a page, by default that about a run; no complaint may be left, and nothing else be loaded."""
    name, options = getattr(request, "param", ("a.html", {}))
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    context.set_default_timeout(LONG_MS)
    shown, complaints, loaded = context.new_page(), list[str](), list[str]()
    shown.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else 0)
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    shown.on("request", lambda each: loaded.append(each.url))
    shown.goto((folder / name).as_uri())
    wait(shown, "Bokeh.documents.length > 0 && Bokeh.documents.every(each => each.is_idle)")
    yield shown
    assert complaints == []
    assert [url for url in loaded if not url.startswith(("data:", "blob:"))] == [(folder / name).as_uri()]
    context.close()


def test_the_timeline_zooms_and_moves(page: Page) -> None:
    begin, end = page.evaluate(RANGE)
    seen = page.evaluate(PIXELS)
    page.get_by_role("button", name="Zoom in").click()
    assert page.evaluate(RANGE) == pytest.approx([begin + (end - begin) / 4, end - (end - begin) / 4])
    wait(page, f"({PIXELS})() !== {seen!r}")
    page.get_by_role("button", name="Later").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(RANGE)[0] == pytest.approx((begin + end) / 2)
    page.locator("#timeline").get_by_role("button", name="all").click()
    first, last = page.evaluate(RANGE)
    assert first < 0.01  # the whole run is here
    assert last > 0.49
    page.locator("#timeline .bk-Figure").hover()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    wait(page, f"({RANGE})()[1] < {last}")


def column(page: Page, section: str, place: int) -> list[str]:
    """Return the texts of a column of the first table of a section."""
    return page.locator(f"#{section}-0 table").first.locator(f"td:nth-child({place})").all_inner_texts()


def test_tables_sort_by_mouse_and_keyboard(page: Page) -> None:
    assert column(page, "time", 1) == [*"01234567"]
    page.locator("#time-0").get_by_role("button", name="median").click()
    heading = page.locator("#time-0 th[aria-sort]")
    assert heading.get_attribute("aria-sort") == "descending"
    assert column(page, "time", 1)[0] == "7"  # tens of ms before ms
    heading.get_by_role("button").focus()
    page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column(page, "time", 1)[-1] == "7"
    assert page.evaluate("document.activeElement.matches(':focus-visible')")
    page.locator("#latencies-0").get_by_role("button", name="99 %").click()
    assert column(page, "latencies", 1)[:2] == ["task", "delay"]
    page.locator("#staleness-0").get_by_role("button", name="updates").click()
    first = [int(each.partition("-")[0]) for each in column(page, "staleness", 1)]
    assert first == sorted(first, reverse=True)  # of intervals such as 2-3


PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True}


@pytest.mark.parametrize(
    ("page", "dark"),
    [
        (("a.html", {"color_scheme": "light"}), False),
        (("a.html", {"color_scheme": "dark"}), True),
        (("both.html", {"color_scheme": "dark", **PHONE}), True),
    ],
    indirect=["page"],
)
def test_themes_and_paper(page: Page, dark: bool) -> None:
    assert page.evaluate(PAPER) == ("rgb(21, 23, 26)" if dark else "rgb(255, 255, 255)")
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    pixels = PIXELS.replace("timeline", "loss-time")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    seen = page.evaluate(pixels)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(PAPER) == "rgb(255, 255, 255)"
    drawn: Any = page.evaluate(pixels)
    assert (drawn != seen) == dark  # the labels are dark on paper
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(pixels) == seen
    if dark:
        assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize("page", [("a.html", {**PHONE, "is_mobile": True})], indirect=True)
def test_fingers_scroll_the_page_and_move_the_timeline(page: Page) -> None:
    devtools = page.context.new_cdp_session(page)

    def swipe(across: int, up: int) -> None:
        page.evaluate("document.getElementById('timeline').scrollIntoView()")
        for step in range(11):
            kind = "touchMove" if step else "touchStart"
            point = {"x": 250 - across * step / 10, "y": 180 - up * step / 10}
            devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    wait(page, "Bokeh.index.roots.every(view => !view.paint || view.canvas_view.events_el.style.touchAction)")
    begin, _ = page.evaluate(RANGE)
    page.evaluate("document.getElementById('timeline').scrollIntoView()")
    top = page.evaluate("scrollY")
    swipe(0, 120)
    wait(page, f"scrollY > {top}")
    assert page.evaluate(RANGE)[0] == begin
    swipe(100, 0)
    wait(page, f"({RANGE})()[0] > {begin}")


@pytest.mark.parametrize("page", [("both.html", {})], indirect=True)
def test_two_runs_begin_with_their_verdicts(page: Page) -> None:
    before, after = page.locator("dl.verdict").first.locator("dd").all_inner_texts()
    assert "worker 7 is " in before
    assert " as slow as the others " in before
    assert "no worker is slow" in after
    changed = dict(zip(*(column_of_changes(page, place) for place in (1, 4)), strict=True))
    assert float(changed["updates a second"].removesuffix("×")) > 1.05


def column_of_changes(page: Page, place: int) -> list[str]:
    return page.locator("#comparison-0 table").nth(1).locator(f"td:nth-child({place})").all_inner_texts()


@pytest.mark.parametrize(
    ("page", "height"),
    [(("a.html", {"viewport": {"width": 1280, "height": 800}}), 800), (("a.html", PHONE), 800)],
    indirect=["page"],
)
def test_the_first_screen_has_verdict_and_heat_map(page: Page, height: int) -> None:
    verdict, heat_map = (
        page.locator(each).first.bounding_box() for each in ("dl.verdict", "#slow-when .drawn")
    )
    assert verdict is not None
    assert heat_map is not None
    assert verdict["y"] + verdict["height"] <= heat_map["y"]
    assert heat_map["y"] + heat_map["height"] <= height
    account = page.locator("#account .drawn").first.bounding_box()
    assert account is not None
    wide = page.viewport_size["width"] > 1000
    assert not wide or account["y"] + account["height"] <= height


@pytest.mark.parametrize("page", [("a.html", {}), ("both.html", {})], indirect=True)
def test_charts_are_images_with_a_text_and_no_nameless_stops(page: Page) -> None:
    told = page.locator("figure [role=img]").evaluate_all("all => all.map(each => each.ariaLabel)")
    assert len(told) == page.locator("figure").count()
    assert all(len(each) > 20 for each in told)
    assert page.locator("h1").count() == 1
    wait(page, "Bokeh.index.roots.every(view => !view.paint || view.canvas_view.events_el.tabIndex === -1)")
    assert page.evaluate(STOPS) == ["A", "BUTTON", "SUMMARY"]
