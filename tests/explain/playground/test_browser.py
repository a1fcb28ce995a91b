"""The playground in a browser: by mouse, finger and keyboard, line by line, from an address, by day and by night."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.explain.javascript.running import Case, by_numpy
from tests.explain.playground.conftest import Opened

from ravine.explain.trace import trace
from ravine.explain.typeset import number
from ravine.registry import lookup

Open = Callable[..., Opened]
PHONE = {"viewport": {"width": 375, "height": 720}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}
TWO = "#on=ravine&from=-9,1&use=sgd;lr=0.02&use=adamw;lr=0.5;weight_decay=0.01&show=1&t=0"


def values(page: Any) -> list[str]:
    """The values of all lines that have run, without their equals signs."""
    return [text.removeprefix("= ") for text in page.locator("#lines .value").all_inner_texts()]


def start(page: Any) -> tuple[float, float]:
    x, y = (float(page.locator(f"#start-{name}").input_value()) for name in "xy")
    return x, y


def test_the_page_is_quiet_and_asks_for_nothing(opened: Open) -> None:
    it = opened("", reduced_motion="reduce")
    assert it.said == [] and it.elsewhere == []
    assert it.page.locator("#chips .name").all_inner_texts() == ["SGD", "Momentum", "AdamW", "Muon"]
    assert it.page.locator("#landscapes button[aria-pressed=true]").inner_text().lower() == "ravine"
    painted = "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    for canvas in ("#ground", "#losses"):
        assert it.page.locator(canvas).evaluate(painted) > 20, canvas
    # Whatever came into the page, nothing but its own scripts would run, and nothing would be fetched.
    it.page.evaluate("""async () => {
        const script = document.createElement('script');
        script.textContent = 'window.injected = true';
        document.body.append(script);
        await fetch('https://example.invalid/').catch(() => {});
    }""")
    assert it.page.evaluate("window.injected") is None
    assert len([said for said in it.said if "Content Security Policy" in said]) >= 2


def test_the_numbers_of_every_line_are_those_of_the_rule(desk: Opened) -> None:
    desk.go(TWO.replace("t=0", "t=3"))
    settings = dict(lookup("adamw").defaults) | {"lr": 0.5, "weight_decay": 0.01, "decay": "lr"}
    told = by_numpy(lookup("adamw"), Case("adamw", settings, (-9.0, 1.0), "ravine", 3, 3)).told[2]
    assert desk.page.locator("#lines-title").inner_text() == "Step 3"
    assert values(desk.page)[2:] == [number(x) for *_, line in told for x in line]
    shown = desk.page.locator("#lines .substituted").all_inner_texts()[2:]
    assert shown == [text for line in told for text in line[3]]


def test_the_numbers_are_those_of_ravine_trace(desk: Opened) -> None:
    """Along x the ravine is ½ x², and what a rule does to each element does not depend on the other."""
    desk.go(TWO)
    step = trace("adamw", "0.5*x**2", -9.0, 1, lr=0.5, weight_decay=0.01).steps[0]
    for _ in step.lines:
        desk.page.locator("#line").click()
    desk.settle()
    assert values(desk.page)[::2] == [number(line.value) for line in step.lines]
    assert desk.page.locator("#lines .substituted").all_inner_texts()[2::2] == [x.substituted for x in step.lines[1:]]


def test_one_line_after_the_other(desk: Opened) -> None:
    page = desk.page
    desk.go(TWO)
    count = page.locator("#lines li.line").count()
    assert count == 6 and page.locator("#lines li.waiting").count() == 6
    for k in range(1, count + 1):
        page.locator("#line").click()
        desk.settle()
        assert page.locator("#lines li.line:not(.waiting)").count() == k
        current = page.locator("#lines [aria-current=step]")
        assert current.count() == 1 and current.evaluate("e => [...e.parentNode.children].indexOf(e)") == k - 1
        assert page.locator("#said").inner_text().startswith("Step 1: ")
    assert page.locator("#now").inner_text() == "1 of 150"
    page.locator("#line").click()
    desk.settle()
    assert page.locator("#lines-title").inner_text() == "Step 2"
    assert page.locator("#lines li.line:not(.waiting)").count() == 1


def test_steps_run_pause_and_reset(desk: Opened) -> None:
    page = desk.page
    desk.go(TWO)
    for button, now in (("#forward", 1), ("#forward", 2), ("#back", 1), ("#reset", 0)):
        page.locator(button).click()
        desk.settle()
        assert page.locator("#now").inner_text() == f"{now} of 150"
    page.locator("#speed").evaluate("e => { e.value = 100 }")
    page.locator("#run").click()
    assert page.locator("#run").inner_text() == "Pause"
    desk.until("document.querySelector('#now').textContent === '150 of 150'")
    assert page.locator("#run").inner_text() == "Run"
    settings = dict(lookup("sgd").defaults) | {"lr": 0.02, "decay": "l2"}
    x, y = by_numpy(lookup("sgd"), Case("sgd", settings, (-9.0, 1.0), "ravine", 150)).path[-1]
    loss = float(f"{0.5 * (x**2 + 50 * y**2):.3g}")
    assert page.locator("#chips .loss").first.inner_text() == f"f = {number(loss)}"


def test_the_start_is_dragged_by_mouse(desk: Opened) -> None:
    page = desk.page
    desk.go(TWO)
    before, losses = start(page), page.locator("#chips .loss").all_inner_texts()
    page.locator("#start").scroll_into_view_if_needed()
    box = page.locator("#start").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 120, y + 60, steps=4)
    page.mouse.up()
    desk.settle()
    after = start(page)
    assert after[0] > before[0] + 1 and after[1] < before[1] - 0.2
    moved = page.locator("#start").bounding_box()
    assert abs(moved["x"] - box["x"] - 120) < 2 and abs(moved["y"] - box["y"] - 60) < 2
    assert page.locator("#chips .loss").all_inner_texts() != losses
    assert f"from={after[0]:g},{after[1]:g}" in desk.hash


def test_a_set_up_is_shared_by_its_address(desk: Opened, opened: Open) -> None:
    desk.go(
        "#on=himmelblau&from=0.5,-1&use=lookahead(adamw);lr=0.3;lookahead.k=3&use=lion;lr=0.05;decay=l2;weight_decay=0.1&show=0&t=7"
    )
    desk.page.locator("#line").click()
    desk.page.locator("#line").click()
    desk.settle()
    desk.page.locator("#copy").click()
    desk.page.wait_for_selector("#note:has-text('copied')")
    link = desk.page.evaluate("navigator.clipboard.readText()")
    assert link.startswith("file:") and "line=2" in link and "lookahead.k=3" in link
    again = opened("#" + link.partition("#")[2])
    assert again.said == [] and not again.page.locator("#note").is_visible()
    for place in ("#now", "#lines", "#chips", "#title"):
        assert again.page.locator(place).inner_text() == desk.page.locator(place).inner_text(), place
    assert again.page.locator("[id='setting-lookahead.k']").input_value() == "3"
    assert again.page.locator("#wrapper").input_value() == "lookahead"
    assert again.hash == "#" + link.partition("#")[2]


def test_a_link_that_cannot_be_understood_is_said(desk: Opened) -> None:
    desk.go("#on=alps&from=a,b&use=adamm;lr=1&use=adamw;lr=-1&use=sgd;speed=3&t=0")
    note = desk.page.locator("#note").inner_text()
    for part in (
        "no landscape “alps”",
        "“a,b” is not two numbers",
        "no optimizer “adamm”",
        "lr must be at least 0",
        "no setting speed=3",
    ):
        assert part in note
    assert desk.page.locator("#chips .name").all_inner_texts() == ["AdamW", "SGD"]


def test_settings_change_the_path_and_wrong_ones_are_said(desk: Opened) -> None:
    page = desk.page
    desk.go(TWO.replace("t=0", "t=20"))
    before = page.locator("#chips .loss").all_inner_texts()
    page.locator("#setting-lr").fill("0.1")
    desk.settle()
    after = page.locator("#chips .loss").all_inner_texts()
    assert after[0] == before[0] and after[1] != before[1]
    assert "use=adamw;lr=0.1;" in desk.hash
    page.locator("#setting-beta1").fill("1.5")
    assert page.locator("#complaint").inner_text() == "beta1 must be at least 0 and below 1, got 1.5."
    assert page.locator("#setting-beta1").get_attribute("aria-invalid") == "true"
    desk.settle()
    assert page.locator("#chips .loss").all_inner_texts() == after
    page.locator("#setting-beta1").fill("0.5")
    assert not page.locator("#complaint").is_visible()
    page.locator("#decay").select_option("l2")
    desk.settle()
    assert page.locator("#lines li.line").count() == 7, "the gradient's decay has a line of its own"


def test_optimizers_are_added_wrapped_and_removed(desk: Opened) -> None:
    page = desk.page
    desk.go(TWO.replace("t=0", "t=30"))
    page.locator("#add").click()
    desk.until("document.querySelectorAll('#chips .chip:not(.add)').length === 3")
    page.locator("#rule").select_option("adamw")
    page.locator("#wrapper").select_option("lookahead")
    desk.settle()
    assert page.locator("#title").inner_text() == "LookaheadAdamW"
    assert page.locator("#lines .section").all_inner_texts() == ["lookahead › adamw", "lookahead"]
    desk.until("!document.querySelector('#find').disabled")
    assert float(page.locator("#setting-lr").input_value()) > 0.01, "a learning rate has been found"
    page.locator("#remove").click()
    desk.settle()
    assert page.locator("#chips .chip:not(.add)").count() == 2


def test_another_landscape_has_learning_rates_that_suit_it(desk: Opened) -> None:
    page = desk.page
    desk.go(TWO)
    page.locator("#landscapes button", has_text="beale").click()
    desk.until("!document.querySelector('#find').disabled && !location.hash.includes('lr=0.02')")
    page.locator("#time").evaluate("e => { e.value = e.max; e.dispatchEvent(new Event('input')) }")
    desk.settle()
    for text in page.locator("#chips .loss").all_inner_texts():
        assert float(text.removeprefix("f = ").replace("−", "-")) < 0.05


def test_by_keyboard_alone(opened: Open) -> None:
    it = opened(TWO)
    page = it.page
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        focus = page.evaluate("document.activeElement.id || document.activeElement.textContent.slice(0, 20)")
        if focus.strip().startswith("Playground"):
            break  # once around: the page itself
        outlined = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outlined != "none", focus
        reached.append(focus)
    assert {"start", "run", "line", "time", "rule", "setting-lr", "find", "copy"} <= set(reached)
    page.locator("#start").focus()
    before = start(page)
    for key in ("ArrowRight", "ArrowUp", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    it.settle()
    assert start(page) == pytest.approx((before[0] + 0.018 * 14, before[1] + 0.02 * 3.4), abs=1e-4)
    for key, now in (("s", 1), ("s", 2), ("b", 1), ("l", 1), ("r", 0)):
        page.keyboard.press(key)
        it.settle()
        assert page.locator("#now").inner_text().startswith(f"{now} of"), key
    page.locator("#chips button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#title").inner_text() == "SGD"
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"


def test_everything_has_a_name_for_screen_readers(desk: Opened) -> None:
    desk.go(TWO)
    nameless = desk.page.evaluate("""() => {
        const all = [...document.querySelectorAll('button, input, select, canvas[role], section, ol')];
        const named = e => e.labels?.length || e.ariaLabel || e.getAttribute('aria-labelledby') || e.textContent.trim();
        return all.filter(e => !named(e)).map(e => e.outerHTML);
    }""")
    assert nameless == []
    assert desk.page.locator("#said").get_attribute("aria-live") == "polite"
    assert desk.page.locator("#start").get_attribute("aria-label") == "Start: x −9, y 1"


def test_dark_by_preference_and_by_the_button(opened: Open) -> None:
    page = opened(TWO, color_scheme="dark").page
    ground = "getComputedStyle(document.body).backgroundColor"
    corner = """(() => {
        const c = document.querySelector('#ground');
        return [...c.getContext('2d').getImageData(c.width - 30, 30, 1, 1).data];
    })()"""
    dark = page.evaluate(ground), np.mean(page.evaluate(corner)[:3])
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    page.locator("#theme").click()
    page.wait_for_timeout(300)
    light = page.evaluate(ground), np.mean(page.evaluate(corner)[:3])
    assert dark[0] == "rgb(13, 17, 23)" and light[0] == "rgb(245, 246, 248)"
    assert dark[1] < 110 < 150 < light[1]
    page.reload()
    page.wait_for_selector("main[data-ready]", state="attached")
    assert page.evaluate(ground) == light[0], "the choice is kept"


def test_on_a_phone_nothing_is_cut_off_and_the_buttons_stay(opened: Open) -> None:
    it = opened(TWO.replace("t=0", "t=5"), **PHONE)
    page = it.page
    assert it.said == []
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    for name in ("run", "line", "back", "forward", "reset"):
        box = page.locator(f"#{name}").bounding_box()
        assert box["height"] >= 40 and box["y"] + box["height"] <= 720
    page.locator("#line").tap()
    page.wait_for_timeout(300)
    box = page.locator("#lines [aria-current=step]").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= page.locator("#run").bounding_box()["y"]


def test_the_start_is_dragged_by_a_finger(opened: Open) -> None:
    it = opened(TWO, **PHONE)
    before, box = start(it.page), it.page.locator("#start").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    finger = it.page.context.new_cdp_session(it.page)
    for kind, points in (
        ("touchStart", [(x, y)]), ("touchMove", [(x + 20, y + 10)]), ("touchMove", [(x + 60, y + 30)]),
        ("touchEnd", []),
    ):  # fmt: skip
        touches = [{"x": u, "y": v} for u, v in points]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
    it.settle()
    assert start(it.page)[0] > before[0] + 1 and start(it.page)[1] < before[1] - 0.1
    assert it.page.evaluate("scrollY") == 0, "the page does not scroll under the finger"


def test_it_plays_by_itself_unless_motion_is_not_wanted(opened: Open) -> None:
    still = opened("", reduced_motion="reduce")
    assert still.page.locator("#run").inner_text() == "Run"
    moving = opened("", reduced_motion="no-preference")
    moving.until("parseInt(document.querySelector('#now').textContent) > 2")
    assert re.match(r"\d+ of 150", moving.page.locator("#now").inner_text())
