"""The pages of `pdcode report` in headless Chromium, started once: marks, zoom, sorting, themes, paper."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import traces
from playwright.sync_api import Browser, Page, sync_playwright

import pdcode
from pdcode.__main__ import main

pytestmark = pytest.mark.slow
LONG_MS = 100_000
MARK = """id => {  // ends of the frame of what is chosen in a figure; null if there is none
  const figure = document.getElementById(id);
  const view = Bokeh.index.roots.find(view => view.paint && figure.contains(view.el));
  const {visible, left, right, bottom, top} = view.model.center.find(each => each.name === "selection");
  return visible ? [left, right, bottom, top] : null;
}"""
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
    """Pages about a run, about it beside a run without a slow worker, and about a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    traces.simulate(folder / "a.h5", 0.5)
    traces.simulate(folder / "b.h5", 0.5, slow=())
    assert main(["report", "--quick", str(folder / "a.h5")]) == 0
    job = {"problem": {"kind": "softmax", "data": "digits"}, "stop": {"loss": 0.5, "seconds": 60.0}}
    schemes, saved = ["uncoded:all", "uncoded:async"], folder / "c.h5"
    pdcode.compare(job, schemes, workers=3, seeds=2, output=saved, progress=False)
    assert main(["report", str(saved)]) == 0
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


def drag(page: Page, figure: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag from one place in the frame of a figure to another, as fractions."""
    page.locator(f"#{figure}").scroll_into_view_if_needed()
    box = page.evaluate(f"""() => {{
        const figure = document.getElementById("{figure}");
        const view = Bokeh.index.roots.find(view => view.paint && figure.contains(view.el));
        const {{x, y}} = view.el.getBoundingClientRect(), {{left, top, width, height}} = view.frame.bbox;
        return [x + left, y + top, width, height];
    }}""")
    at = [(box[0] + box[2] * across, box[1] + box[3] * down) for across, down in (start, end)]
    page.mouse.move(*at[0])
    page.mouse.down()
    if start != end:
        page.mouse.move(*((one + other) / 2 for one, other in zip(*at, strict=True)))
        page.mouse.move(*at[1])
    page.mouse.up()


def chosen(page: Page) -> list[str]:
    """Return the first cells of the rows that are marked."""
    return page.locator("tr.chosen td:first-child").all_inner_texts()


def test_a_mark_in_one_picture_marks_the_others(page: Page) -> None:
    assert page.evaluate(MARK, "slow-when") is None
    drag(page, "slow-when", (0.4, 7.4 / 8), (0.6, 7.7 / 8))
    wait(page, f"({MARK})('slow-when') !== null")
    left, right, *ends = page.evaluate(MARK, "slow-when")
    assert (left, right) == pytest.approx((200, 300), abs=2)  # of 500 ms
    assert sorted(ends) == [6.5, 7.5]
    for figure, unit in (("timeline", 1e-3), ("loss-time", 1), ("rate", 1), ("latency", 1)):
        assert page.evaluate(MARK, figure)[:2] == pytest.approx((left * unit, right * unit))
    assert sorted(page.evaluate(MARK, "timeline")[2:]) == [6.5, 7.5]
    first, last = page.evaluate(RANGE)
    assert 0.15 < first < 0.2
    assert 0.3 < last < 0.35
    assert chosen(page) == ["7", "worker 7", "7"]
    assert page.evaluate(MARK, "account-workers") is not None
    told = page.locator("output").inner_text()
    assert told.startswith("worker 7 · ")
    assert "loss " in told
    assert " tasks in the timeline: computing " in told
    page.keyboard.press("Escape")
    assert chosen(page) == []
    assert page.evaluate(MARK, "timeline") is None
    # and the other way round
    drag(page, "loss-time", (0.2, 0.5), (0.4, 0.5))
    wait(page, f"({MARK})('slow-when') !== null")
    assert page.evaluate(MARK, "slow-when")[:2] == pytest.approx((80, 160), abs=2)  # of 400 ms
    assert page.locator("output").inner_text().startswith("all workers · ")
    page.locator("#time-0").get_by_role("button", name="Mark worker 3").press("Enter")
    assert chosen(page) == ["3", "worker 3", "3"]
    assert sorted(page.evaluate(MARK, "slow-when")[2:]) == [2.5, 3.5]
    page.get_by_role("button", name="clear").click()
    assert page.locator("output").inner_text() == ""
    page.get_by_role("button", name="Mark this interval everywhere").click()
    assert page.evaluate(MARK, "loss-time")[:2] == pytest.approx([1e3 * end for end in page.evaluate(RANGE)])


def test_a_click_on_a_slice_says_what_it_was(page: Page) -> None:
    drag(page, "timeline", (0.5, 8.0 / 11.4), (0.5, 8.0 / 11.4))
    wait(page, "document.querySelector('output').innerText !== ''")
    told = page.locator("output").inner_text()
    assert re.match(r"worker 7 \(slow\): task \d+, (injected delay|computing) for [\d.]+ m?s, ", told)
    assert chosen(page) == ["7", "worker 7", "7"]
    drag(page, "slow-when", (0.5, 2.5 / 8), (0.5, 2.5 / 8))  # a cell
    wait(page, "document.querySelector('output').innerText.startsWith('worker 2 ')")


@pytest.mark.parametrize("page", [("both.html", {})], indirect=True)
def test_the_loss_is_drawn_against_something_else(page: Page) -> None:
    label = """() => {
        const figure = document.getElementById("loss-time");
        const {model} = Bokeh.index.roots.find(view => view.paint && figure.contains(view.el));
        return [model.below[0].axis_label, Math.round(model.x_range.end)];
    }"""
    assert page.evaluate(label)[0] == "time, ms"
    pressed = page.locator("#loss-time [aria-pressed=true]")
    assert pressed.inner_text() == "time"
    page.locator("#loss-time").get_by_role("button", name="updates").click()
    assert pressed.inner_text() == "updates"
    name, last = page.evaluate(label)
    assert name == "updates"
    assert last > 600


@pytest.mark.parametrize("page", [("both.html", {})], indirect=True)
def test_several_runs_begin_with_the_first_and_their_verdicts(page: Page) -> None:
    assert re.match(r"[ab] reaches loss \S+ first, after ", page.locator("h1").inner_text())
    before, after = page.locator("dl.verdict").first.locator("dd").all_inner_texts()
    assert "worker 7 is " in before
    assert " as slow as the others " in before
    assert "no worker is slow" in after
    rates = page.locator("#comparison-0 table").nth(1).locator("tr").nth(2).locator("td").all_inner_texts()
    assert float(rates[2].partition("×")[0]) > 1.05  # of updates a second


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


@pytest.mark.parametrize("page", [("a.html", {}), ("both.html", {}), ("c.html", {})], indirect=True)
def test_charts_are_images_with_a_text_and_no_nameless_stops(page: Page) -> None:
    told = page.locator("figure [role=img]").evaluate_all("all => all.map(each => each.ariaLabel)")
    assert len(told) == page.locator("figure").count()
    assert all(len(each) > 20 for each in told)
    assert page.locator("h1").count() == 1
    wait(page, "Bokeh.index.roots.every(view => !view.paint || view.canvas_view.events_el.tabIndex === -1)")
    assert {"BUTTON"} <= {*page.evaluate(STOPS)} <= {"A", "BUTTON", "SUMMARY"}
