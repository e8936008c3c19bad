"""The report in a real browser: charts are drawn, tables sort and filter, nothing is fetched."""

import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reported import add, results_of, usual

from raylab.report.report import keep, report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), "")
MAX_RENDER_S = 10.0  # 3 on the cores it was built on, 5 on half as fast ones; 30 would be a defect
NUM_MANY = 2_000
AA_CONTRAST = 4.5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed on this machine"),
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def usual_page(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("usual")
    results = usual(place / "results")
    return Path(keep(report([results.location]), [results.location]))


class Opened:
    """A page that was opened, with all that it said and asked for."""

    def __init__(self, browser, file: Path, **context) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        began = time.perf_counter()
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-drawn]", state="attached", timeout=60_000)
        self.seconds = time.perf_counter() - began

    def column(self, k: int) -> list[str]:
        return self.page.eval_on_selector_all(
            ".sortable tbody tr",
            f"rows => rows.filter(row => !row.hidden).map(row => row.cells[{k}].textContent)",
        )


@pytest.fixture
def opened(browser, usual_page) -> Iterator[Opened]:
    seen = Opened(browser, usual_page, viewport={"width": 1200, "height": 900})
    yield seen
    seen.context.close()


def test_nothing_goes_wrong_and_nothing_is_fetched(opened, usual_page):
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [usual_page.as_uri()]


def test_every_chart_is_drawn(opened):
    charts = opened.page.query_selector_all(".chart")
    assert len(charts) >= 9
    for chart in charts:
        chart.scroll_into_view_if_needed()
        pixels = np.asarray(Image.open(io.BytesIO(chart.screenshot())).convert("RGB"), np.int16)
        colourful = np.ptp(pixels, axis=2) > 40
        assert colourful.sum() > 50, chart.get_attribute("aria-label")


def test_names_that_are_markup_stand_in_the_charts_as_they_are(opened):
    texts = opened.page.locator(".chart svg text").all_text_contents()
    together = "\n".join(texts)
    assert "기쁨 과 웃음" in together
    assert "<script>alert" in together
    assert "a & <b>b</b>" in together
    assert opened.page.query_selector_all(".chart svg a") == []


def test_a_click_sorts_and_a_second_one_turns_it_round(opened):
    heads = opened.page.eval_on_selector_all(".sortable th", "all => all.map(h => h.textContent)")
    k = heads.index("mean accuracy, %")
    button = opened.page.locator(".sortable th button").nth(k)
    button.click()
    rising = [float(cell.split()[0]) for cell in opened.column(k) if cell != "–"]
    assert rising == sorted(rising)
    assert len(rising) == 6
    button.click()
    falling = [float(cell.split()[0]) for cell in opened.column(k) if cell != "–"]
    assert falling == rising[::-1]
    assert opened.page.locator(".sortable th").nth(k).get_attribute("aria-sort") == "descending"


def test_the_table_is_sorted_by_keyboard_alone(opened):
    opened.page.locator(".tools input").first.focus()
    for _ in range(3):  # the scrolling table, its first head, its second one
        opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.textContent") == "augment"
    opened.page.keyboard.press("Enter")
    assert opened.column(1) == ["light"] * 3 + ["none"] * 3
    assert opened.page.locator(".sortable th").nth(1).get_attribute("aria-sort") == "ascending"


def test_the_filter_keeps_rows_that_have_every_word(opened):
    opened.page.locator(".tools input").first.fill("LIGHT 0.001")
    assert len(opened.column(0)) == 1
    assert opened.page.locator(".found").first.text_content() == "1 of 6"
    opened.page.locator(".tools input").first.fill("")
    assert len(opened.column(0)) == 6


def luminance(colour: tuple[float, float, float]) -> float:
    parts = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


COLOURS_OF_TEXT = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.99) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest("script, style, noscript") || e.closest(".heatmaplayer, .hm")) continue;
    const style = getComputedStyle(e);
    const colour = e.closest("svg") ? style.fill : style.color;
    if (rgb(colour).length < 3) continue;
    found.push([e.textContent.slice(0, 40), rgb(colour).slice(0, 3), behind(e)]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(browser, usual_page, scheme):
    seen = Opened(browser, usual_page, color_scheme=scheme)
    found = seen.page.evaluate(COLOURS_OF_TEXT)
    faint = [(t, round(contrast(c, b), 2)) for t, c, b in found if contrast(c, b) < AA_CONTRAST]
    paper = next(b for _, _, b in found)
    seen.context.close()
    assert len(found) > 200
    assert faint == []
    assert (luminance(paper) < 0.05) == (scheme == "dark")


def test_charts_follow_a_change_to_dark(opened):
    line = ".chart .scatterlayer .js-line"
    before = opened.page.eval_on_selector(line, "e => getComputedStyle(e).stroke")
    opened.page.emulate_media(color_scheme="dark")
    deadline = time.monotonic() + 30
    while opened.page.eval_on_selector(line, "e => getComputedStyle(e).stroke") == before:
        assert time.monotonic() < deadline, "the charts stayed light"


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_wider_than_a_narrow_window(browser, usual_page, width):
    seen = Opened(browser, usual_page, viewport={"width": width, "height": 800})
    overflow = seen.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    seen.context.close()
    assert overflow <= 0


def test_it_prints(opened):
    pdf = opened.page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 50_000


@pytest.fixture(scope="module")
def many_page(tmp_path_factory) -> Path:
    """A sweep of 2,000 trials, of which 300 have stored predictions."""
    place = tmp_path_factory.mktemp("many")
    results = results_of(place, "many", search={"random": {"num_trials": NUM_MANY}})
    rng = np.random.default_rng(0)
    for i in range(NUM_MANY):
        lr = float(10 ** rng.uniform(-5, -1))
        drop = float(rng.uniform(0, 0.5))
        augment = str(rng.choice(["none", "flip", "light", "strong"]))
        accuracy = 0.85 - 0.06 * abs(np.log10(lr) + 3) - 0.1 * drop + float(rng.normal(0, 0.01))
        accuracy = round(max(0.2, accuracy), 4)
        config = {"lr": lr, "drop_rate": drop, "augment": augment, "epochs": 20}
        add(results, accuracy, num_epochs=20, predicted=i < 300, **config)
    results.flush()
    return Path(keep(report([results.location]), [results.location]))


def test_two_thousand_trials_are_drawn_in_seconds(browser, many_page):
    seconds: list[float] = []
    while len(seconds) < 6 and min(seconds, default=np.inf) > MAX_RENDER_S:  # others work here too
        seen = Opened(browser, many_page, viewport={"width": 1200, "height": 900})
        assert seen.said == []
        assert seen.page.evaluate("document.querySelectorAll('.sortable tbody tr').length") == 2000
        seconds.append(seen.seconds)
        seen.context.close()
    assert many_page.stat().st_size < 8 * 10**6
    assert min(seconds) < MAX_RENDER_S, seconds


def test_all_of_many_rows_are_sorted_and_shown_when_asked_for(browser, many_page):
    seen = Opened(browser, many_page)
    assert len(seen.column(0)) == 100
    seen.page.locator(".sortable th button").first.click()
    assert seen.column(0)[0] == "2000"
    seen.page.locator("button.all").click()
    assert len(seen.column(0)) == 2000
    seen.page.locator(".tools input").first.fill("strong")
    assert 300 < len(seen.column(0)) < 700
    seen.context.close()


def test_several_sweeps_have_tables_of_their_own(browser, tmp_path):
    first = usual(tmp_path / "a", "first")
    second = usual(tmp_path / "b", "second", data="other")
    places = [first.location, second.location]
    seen = Opened(browser, Path(keep(report(places), places)))
    inputs = seen.page.locator(".tools input")
    assert inputs.count() == 2
    inputs.nth(1).fill("light")
    counts = seen.page.locator(".found").all_text_contents()
    seen.context.close()
    assert counts == ["6 of 6", "3 of 6"]
    assert seen.said == []
