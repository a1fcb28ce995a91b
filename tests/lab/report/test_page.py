"""The page without a browser: what it is made of, its tables, and charts that Plotly takes."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from html.parser import HTMLParser

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs
from tests.lab.report import samples

from ravine.lab.report import charts as shared
from ravine.lab.report import columns, html, table
from ravine.lab.report.costs import milliseconds
from ravine.lab.report.page import charts
from ravine.lab.report.table import hardware

SAMPLES = ("full", "minimal", "hostile", "combined")


class Page(HTMLParser):
    """What a page loads, its table rows, its scripts, and its text outside of these."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.rows: list[list[str]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "script" in self._open:
            self.scripts[-1] += data
        elif "style" not in self._open:
            self.text += data
            if {"td", "th"} & set(self._open):
                self.rows[-1][-1] += data.strip()


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: html(getattr(samples, name)()) for name in SAMPLES}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_page_loads_nothing_and_has_plotly_once(pages: dict[str, str], name: str) -> None:
    page = Page(pages[name])
    assert [load for load in page.loads if not load.startswith(("data:", "#"))] == []
    style = re.findall(r"<style>(.*?)</style>", pages[name], re.DOTALL)[0]
    assert "url(" not in style and "@import" not in style
    assert sum(len(script) > 1_000_000 for script in page.scripts) == 1
    assert len(page.scripts) == 4


@pytest.mark.parametrize("name", SAMPLES)
def test_every_figure_is_one_that_plotly_takes(name: str) -> None:
    made = charts(getattr(samples, name)())
    for chart in made.values():
        for view in chart.views:
            go.Figure(view.figure)  # raises for an unknown property or a wrong value
            go.Figure(layout={"template": shared.theme(dark=True)})
            json.dumps(view.figure, allow_nan=False)


def test_the_verdict_comes_first(pages: dict[str, str]) -> None:
    result, text = samples.full(), Page(pages["full"]).text
    sentences = ["muon trained best", result["warnings"][0], "steps to target", "Only the right end", "The command"]
    places = [text.index(sentence) for sentence in sentences]
    assert places == sorted(places)


def test_how_it_was_done_can_be_repeated(pages: dict[str, str]) -> None:
    result, page = samples.full(), Page(pages["full"])
    assert all(text in page.text for text in (result["command"], *result["hashes"].values(), *result["notes"]))
    assert "a scanned page, and there is no OCR" in page.text
    toml = re.findall(r'<pre id="study"[^>]*>(.*?)</pre>', pages["full"], re.DOTALL)[0]
    wanted = copy.deepcopy(result["study"])
    del wanted["budget"]["steps"]  # None is what TOML does not have
    assert tomllib.loads(toml.replace("&#34;", '"')) == wanted


def test_the_table_has_a_row_for_each_arm_best_first(pages: dict[str, str]) -> None:
    result = samples.full()
    cells = table(result)
    names = [column.name for column in columns(result)]
    assert names[:4] == ["final loss", "accuracy", "settings", "steps to target"] and "bytes/s" in names
    assert list(cells) == ["muon", "adamw", "sgd:momentum=0.9", "lion:lr=10"]
    final = result["arms"]["adamw"]["final_loss"]
    assert cells["adamw"][0].text == f"{final['mean']:.3f} ± {final['std']:.3f} (5)"
    assert [cell.text for cell in cells["lion:lr=10"]][:3] == ["–", "–", "lr=10 (given)"]
    assert cells["lion:lr=10"][-1].text == "0 / 5" and cells["sgd:momentum=0.9"][-1].text == "1 / 2"
    assert cells["muon"][2].text.endswith("(at edge: lr)")
    shown = [row for row in Page(pages["full"]).rows if len(row) == len(names) + 1][1:]
    assert [row[1:] for row in shown[:4]] == [[cell.text for cell in row] for row in cells.values()]


def test_figures_of_cost_that_nobody_has_have_no_column() -> None:
    headings, rows = hardware(samples.minimal())
    assert headings == [] and rows == {"adamw": [], "sgd": []}
    headings, rows = hardware(samples.full())
    assert "MFU" in [name for name, _ in headings]
    by_name = dict(zip([name for name, _ in headings], rows["muon"], strict=True))
    assert by_name["step, ms"].text == "111" and by_name["FLOP per byte"].text == "5.2 M"
    assert by_name["state by type"].text == "float32 3.32 MiB, int64 128 B"


def test_the_time_of_a_step_comes_from_the_runs_where_it_was_not_measured() -> None:
    result = samples.full() | {"cost": None}
    spent = milliseconds(result, "muon")
    assert spent is not None and spent["step"] == pytest.approx(111.4) and spent["optimizer"] == pytest.approx(19.4)


def test_every_pair_has_a_row(pages: dict[str, str]) -> None:
    result = samples.full()
    rows = [row for row in Page(pages["full"]).rows if " − " in "".join(row[:1]) or "−" in "".join(row[:1])]
    assert len(rows) == len(result["pairs"]) == 6
    assert [row[-1] for row in rows] == ["p < 0.001"] + ["not tested"] * 5


def test_curves_are_means_over_the_seeds_within_their_band() -> None:
    result = samples.full()
    by_step, by_joule = (charts(result)["curves"].views[i].figure["data"] for i in (0, 4))
    runs = [run["curve"]["loss"] for run in result["arms"]["adamw"]["runs"]]
    band, mean = by_step[0], by_step[1]
    assert mean["y"] == pytest.approx([sum(marks) / 5 for marks in zip(*runs, strict=True)], rel=1e-5)
    assert band["y"][: len(mean["y"])] == pytest.approx([max(marks) for marks in zip(*runs, strict=True)], rel=1e-5)
    assert band["y"][len(mean["y"]) :] == pytest.approx([min(m) for m in zip(*runs, strict=True)][::-1], rel=1e-5)
    assert by_joule[1]["x"][-1] == pytest.approx(result["arms"]["adamw"]["joules_per_run"])
    assert [trace["meta"]["arm"] for trace in by_step] == [0, 0, 1, 1, 2, 2], "lion never came to an end"


def test_seeds_that_were_evaluated_at_other_steps_share_what_they_have() -> None:
    result = samples.full()
    run = result["arms"]["adamw"]["runs"][0]
    run["curve"] = {axis: values[::2] for axis, values in run["curve"].items()}
    mean = charts(result)["curves"].views[0].figure["data"][1]
    assert mean["x"] == run["curve"]["step"]


def test_trials_that_diverged_are_crosses_above_all_others() -> None:
    view = charts(samples.full())["sensitivity"].views[0].figure
    crosses = [trace for trace in view["data"] if trace["marker"]["symbol"] == "x"]
    others = [y for trace in view["data"] if trace["marker"]["symbol"] != "x" for y in trace["y"]]
    assert len(crosses) == 3 and all(y > max(others) for trace in crosses for y in trace["y"])
    stars = [trace for trace in view["data"] if trace["marker"]["symbol"] == "star"]
    assert [trace["x"][0] for trace in stars] == [
        samples.full()["arms"][label]["best"]["settings"]["lr"] for label in ("adamw", "muon", "sgd:momentum=0.9")
    ]


def test_heat_maps_of_a_grid_show_the_measurements_themselves() -> None:
    result = samples.full()
    arm = result["arms"]["muon"]
    arm["trials"] = [
        {"settings": {"lr": lr, "weight_decay": decay}, "loss": lr + decay, "diverged": lr == decay, "failed": None,
         "seed": 1, "phase": "search"}
        for lr in (0.1, 0.2, 0.4) for decay in (0.01, 0.1)
    ]  # fmt: skip
    view = next(view for view in charts(result)["heat-maps"].views if view.name.startswith("muon"))
    field = view.figure["data"][0]
    assert field["z"] == [[0.11, 0.21, 0.41], [None, 0.3, 0.5]]
    assert view.figure["layout"]["xaxis"]["ticktext"] == ["0.1", "0.2", "0.4"]


def test_between_trials_colours_stay_within_what_was_measured() -> None:
    result = samples.full()
    losses = [t["loss"] for t in result["arms"]["muon"]["trials"] if t["loss"] is not None]
    view = next(view for view in charts(result)["heat-maps"].views if view.name.startswith("muon"))
    field = view.figure["data"][0]
    cells = [cell for row in field["z"] for cell in row]
    assert min(losses) - 1e-3 <= min(cells) and max(cells) <= field["zmax"] + 1e-3


def test_the_pareto_front_leaves_out_who_is_beaten_and_who_was_lost() -> None:
    view = charts(samples.full())["pareto"].views[0].figure
    front = view["data"][0]
    assert front["x"] == [6.1, 19.4], "sgd is cheaper but lost two seeds"
    symbols = {trace["name"]: trace["marker"]["symbol"] for trace in view["data"][1:]}
    assert symbols["sgd:momentum=0.9"] == "diamond-open" and symbols["adamw"] == "circle"


def test_the_parts_of_a_step_add_up() -> None:
    view = charts(samples.full())["step"].views[0].figure
    assert [trace["name"] for trace in view["data"]] == ["data", "forward", "backward", "optimizer", "rest"]
    assert [sum(parts) for parts in zip(*(t["x"] for t in view["data"]), strict=True)] == pytest.approx(
        [98.1, 111.4, 94.2, 96.0]
    )


def test_losses_far_apart_are_on_a_logarithmic_axis() -> None:
    result = samples.full()
    for run in result["arms"]["adamw"]["runs"]:
        run["curve"]["loss"] = [loss / 1e4 for loss in run["curve"]["loss"]]
    layout = charts(result)["curves"].views[0].figure["layout"]
    assert layout["yaxis"]["type"] == "log" and "range" not in layout["yaxis"]
    assert layout["shapes"][0]["y0"] == 1.975 and layout["annotations"][0]["y"] == pytest.approx(0.29557, abs=1e-4)


def test_data_counted_in_steps_has_one_axis_for_both() -> None:
    views = charts(samples.full() | {"unit": "step"})["curves"].views
    assert [view.name for view in views] == ["steps", "seconds", "FLOPs", "joules"]
    names = [column.name for column in columns(samples.full() | {"unit": "step"})]
    assert names.count("steps to target") == 1


def test_eighty_arms_look_different() -> None:
    looks = shared.styles(80)
    assert len({(look.colour, look.dash) for look in looks}) == 40
    assert len(set(looks)) == 80


def test_many_arms_do_not_make_a_page_much_larger() -> None:
    result = samples.full()
    result["arms"] = {f"arm{i}": result["arms"]["adamw"] for i in range(12)}
    result |= {"baseline": "arm0", "cost": None, "pairs": []}
    assert len(html(result)) - len(get_plotlyjs()) < 500_000


@pytest.mark.parametrize("text", ["<b>x</b>", "a & b", "%{x} %{meta.arm}", "line\nbreak", "x < y > z", "<a href='x'>"])
def test_labels_are_plain_to_plotly(text: str) -> None:
    escaped = shared.plain(text)
    assert "<" not in escaped and "%{" not in escaped and "\n" not in escaped
    assert "<br>" not in shared.plain("<br>") and shared.wrapped(text).replace("<br>", "").count("<") == 0


def test_long_labels_take_three_lines_at_most() -> None:
    lines = shared.wrapped("lookahead(cautious(adamw)):weight_decay=0.1,decay=schedule,beta2=0.95,eps=1e-6").split(
        "<br>"
    )
    assert len(lines) == 3 and all(len(line) <= 28 for line in lines) and lines[-1].endswith("…")
    assert shared.wrapped("adamw") == "adamw"
