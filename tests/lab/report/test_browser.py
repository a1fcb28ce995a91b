"""The page in a browser: drawn, quiet, usable by mouse, keyboard and thumb, by day and by night."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.lab.report import samples
from tests.lab.report.conftest import Opened

Open = Callable[..., Opened]

CHARTS = ["curves", "final", "sensitivity", "heat-maps", "pareto", "step", "training"]

PHONE = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}


@pytest.fixture(scope="module")
def desk(opening: Open) -> Iterator[Opened]:
    """The full page on a desk. Each test leaves all arms shown and does not mind what else the others did."""
    made = opening("full", permissions=["clipboard-read", "clipboard-write"])
    yield made
    assert made.said == [] and made.elsewhere == []
    made.page.context.close()


def lines(page: Any, chart: str = "curves") -> int:
    """How many lines a chart shows: of an arm with a band, two."""
    return int(page.locator(f"#{chart} .scatterlayer .trace .lines path.js-line").count())


def column(page: Any, number: int) -> list[str]:
    return [text.strip() for text in page.locator(f"#results tbody tr > :nth-child({number})").all_inner_texts()]


def test_the_page_is_quiet_and_every_chart_is_drawn(desk: Opened) -> None:
    it = desk
    assert it.said == []
    assert it.elsewhere == []
    assert [chart.get_attribute("id") for chart in it.page.locator(".chart").all()] == CHARTS
    for chart in CHARTS:
        marks = it.page.locator(f"#{chart} .trace .point, #{chart} .hm image, #{chart} .js-line")
        assert marks.count() > 0, chart
        assert it.page.locator(f"#{chart} .main-svg").first.bounding_box()["height"] > 100, chart


def test_the_smallest_result_has_a_page_too(opened: Open) -> None:
    it = opened("minimal")
    assert it.said == []
    assert [chart.get_attribute("id") for chart in it.page.locator(".chart").all()] == ["curves", "final", "training"]
    assert column(it.page, 2) == ["2.017 (1)", "–"]
    # Whatever came into the page, nothing but its own scripts would run, and nothing would be fetched.
    it.page.evaluate("""async () => {
        const script = document.createElement('script');
        script.textContent = 'window.injected = true';
        document.body.append(script);
        const image = new Image();
        image.src = 'https://example.invalid/x.png';
        document.body.append(image);
        await fetch('https://example.invalid/').catch(() => {});
    }""")
    assert it.page.evaluate("window.injected") is None
    assert len([said for said in it.said if "Content Security Policy" in said]) >= 3


def test_views_are_chosen_by_buttons(desk: Opened) -> None:
    page = desk.page
    titles = []
    choices = page.locator("[data-chart=curves]")
    for i in range(choices.count()):
        choices.nth(i).click()
        assert choices.nth(i).get_attribute("aria-pressed") == "true"
        titles.append(page.locator("#curves .xtitle").text_content())
        assert lines(page) == 6
    assert titles == ["step", "bytes of data", "seconds of training", "floating-point operations", "joules"]
    assert page.locator("[data-chart=curves][aria-pressed=true]").count() == 1


def test_a_curve_is_toggled_through_the_legend_everywhere(desk: Opened) -> None:
    page = desk.page
    legend = page.locator("section:has(#curves) .legend button")
    assert legend.all_inner_texts() == ["adamw", "muon", "sgd:momentum=0.9"]
    before = page.locator("#curves .ytick").all_text_contents()
    legend.nth(2).click()
    page.wait_for_function("document.querySelectorAll('#training .scatterlayer .js-line').length === 2")
    assert lines(page) == 4
    assert page.locator("section:has(#pareto) .legend [aria-pressed=false]").all_inner_texts() == ["sgd:momentum=0.9"]
    assert page.locator("#curves .ytick").all_text_contents() != before, "the axis follows what is shown"
    legend.nth(2).focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('#training .scatterlayer .js-line').length === 3")
    assert lines(page) == 6


def test_hovering_tells_the_loss_and_the_spread(desk: Opened) -> None:
    page = desk.page
    page.locator("[data-chart=curves]").first.click()
    page.evaluate("Plotly.Fx.hover('curves', [{curveNumber: 1, pointNumber: 12}])")
    text = page.locator("#curves .hoverlayer").text_content()
    assert "adamw" in text and "step 300" in text and "5 seeds:" in text


def test_the_table_is_sorted_by_click(desk: Opened) -> None:
    page = desk.page
    heading = page.locator("#results thead th", has_text="optimizer")
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    shares = [float(text.rstrip("%")) for text in column(page, 10)]
    assert shares == sorted(shares) and len(set(shares)) == 4
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(text.rstrip("%")) for text in column(page, 10)] == shares[::-1]
    assert page.locator("#results [aria-sort]").count() == 1


def test_the_table_is_sorted_by_keyboard_and_unknown_figures_stay_last(desk: Opened) -> None:
    page = desk.page
    button = page.locator("#results thead button", has_text="steps to target")
    button.focus()
    for key in ("Enter", "Space"):
        page.keyboard.press(key)
        steps = column(page, 5)
        assert steps[0] == "240" and steps[-1] == "–"
    assert page.locator("#results thead th", has_text="steps to target").get_attribute("aria-sort") == "descending"


def test_dark_by_preference_and_by_the_button(opened: Open) -> None:
    page = opened("minimal", color_scheme="dark").page
    ground = "getComputedStyle(document.body).backgroundColor"
    paper = "getComputedStyle(document.querySelector('#curves .main-svg')).backgroundColor"
    line = "document.querySelector('#curves .js-line').style.stroke"
    dark = [page.evaluate(code) for code in (ground, paper, line)]
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    page.locator("#theme").click()
    page.wait_for_function(f"{line} === 'rgb(0, 114, 178)'")
    light = [page.evaluate(code) for code in (ground, paper, line)]
    assert dark == ["rgb(13, 17, 23)", "rgb(22, 27, 34)", "rgb(74, 163, 232)"]
    assert light == ["rgb(246, 247, 249)", "rgb(255, 255, 255)", "rgb(0, 114, 178)"]
    page.reload()
    page.wait_for_selector("main:not([aria-busy])")
    assert page.evaluate(ground) == light[0], "the choice is kept"


def one_way_only(page: Any) -> bool:
    fits = "[...document.querySelectorAll('.chart')].every(c => c.scrollWidth <= c.clientWidth)"
    return bool(page.evaluate(f"document.documentElement.scrollWidth === 360 && {fits}"))


def test_on_a_phone_the_arm_stays_while_its_figures_scroll(opened: Open) -> None:
    it = opened("full", **PHONE)
    page = it.page
    assert it.said == [] and one_way_only(page)
    arm = page.locator("#results tbody th").first
    page.evaluate("document.querySelector('#results').parentElement.scrollLeft = 400")
    box = arm.bounding_box()
    assert 0 <= box["x"] < 40 and box["width"] < 160
    assert page.locator("#results tbody td").first.bounding_box()["x"] < 0


def test_several_studies_say_where_they_differ(opened: Open) -> None:
    it = opened("combined", **PHONE)
    assert it.said == [] and one_way_only(it.page)
    assert it.page.locator(".said strong").inner_text().startswith("No verdict: the studies differ in trials")
    assert it.page.locator("tr.differs").all_inner_texts() == ["trials\t8\t12"]
    assert it.page.locator("#results tbody tr").count() == 8


def test_hostile_text_is_text(opened: Open) -> None:
    it = opened("hostile", **PHONE)
    page = it.page
    assert it.said == [] and it.elsewhere == [] and one_way_only(page)
    assert page.title().startswith("adamw, muon")
    assert page.locator("main img, main script").count() == 0
    words = re.sub(r"\s+", " ", samples.HOSTILE)
    for place in ("h1", ".verdict", ".warnings", "#results", "#pairs", "#command", "section:has(#curves) .legend"):
        assert words in re.sub(r"\s+", " ", page.locator(place).inner_text()), place
    # In charts too: neither markup nor templates are taken for such.
    page.evaluate("Plotly.Fx.hover('curves', [{curveNumber: 5, pointNumber: 12}])")
    said = re.sub(r"\s+", " ", page.locator("#curves .hoverlayer").text_content())
    assert "<script>" in said and "%{x}" in said and "<b>bold</b>" in said
    assert "<script>" in page.locator("#final .yaxislayer-above").text_content()


def test_the_command_is_copied(desk: Opened) -> None:
    page = desk.page
    page.locator("[data-copy=command]").click()
    page.wait_for_selector("#copied:has-text('Copied')")
    assert page.evaluate("navigator.clipboard.readText()") == samples.full()["command"]


def test_routing_opens(desk: Opened) -> None:
    page = desk.page
    page.locator("summary", has_text="16 tensors").click()
    assert page.locator("details[open] tbody tr").count() == 18


def test_without_scripts_all_but_the_charts_is_there(opened: Open, browser: Any, pages: dict[str, Any]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(pages["full"].as_uri())
    assert page.locator("noscript").is_visible()
    assert page.locator(".verdict").is_visible() and page.locator("#results tbody tr").count() == 4
    context.close()
