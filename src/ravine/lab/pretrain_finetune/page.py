"""The result as a page that needs nothing else, not even scripts, and as lines in a terminal."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ravine.lab.report.charts import COLOURS, DARK_COLOURS
from ravine.lab.report.text import UNKNOWN, mean_and_spread, number, settings, signed, size
from ravine.lab.results.statistics import SIGNIFICANCE, p_text

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 70, 170, 20, 50
TICKS = 5
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Nothing runs and nothing is fetched, whatever text the page is made of."""


def html(result: Mapping[str, Any]) -> str:
    """The report as a page: verdict, the four cells, the bases, each stage with a link to its own report, cost."""
    environment = Environment(
        loader=PackageLoader("ravine.lab.pretrain_finetune"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": number, "signed": signed, "p": p_text, "bytes": size, "settings": settings}
    style = (files("ravine.lab.report") / "templates" / "page.css").read_text(encoding="utf-8")
    page = environment.get_template("page.html.jinja").render(
        result=result,
        effects=effects(result),
        chart=chart(result),
        spread=mean_and_spread,
        said=_sentences(result["verdict"]["text"]),
        significance=SIGNIFICANCE,
        policy=POLICY,
        style=Markup(style),
        palette=list(zip(COLOURS, DARK_COLOURS, strict=True))[:2],
        made=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )
    return page.lstrip()


def effects(result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any] | None]]:
    """Each effect in words, with its figures; the question's first."""
    first, second = result["optimizers"]
    words = {
        "mismatch": "mismatch penalty: mixed cells − those that keep their optimizer",
        "switching_first": f"after {first}: post-training with {second} − with {first}",
        "switching_second": f"after {second}: post-training with {first} − with {second}",
        "pretraining": f"pre-training: {first} − {second}",
        "post_training": f"post-training: {first} − {second}",
    }
    return [(text, result["effects"][name]) for name, text in words.items()]


def chart(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The interaction as lines of an SVG: one for each base, a bold one for the mean of each pre-training optimizer.

    Parallel lines are no interaction. None where a cell has no loss.
    """
    lines: list[dict[str, Any]] = []
    for i, pretrained in enumerate(result["optimizers"]):
        cells = [cell for cell in result["cells"] if cell["pretrained"] == pretrained]
        if any(cell["mean"] is None for cell in cells):
            return None
        for base in zip(*(cell["values"] for cell in cells), strict=True):
            kept = [[loss for loss in losses if loss is not None] for losses in base]
            if all(kept):
                lines.append({"arm": i, "bold": False, "losses": [sum(losses) / len(losses) for losses in kept]})
        lines.append({"arm": i, "bold": True, "label": pretrained, "losses": [cell["mean"] for cell in cells]})
    losses = [loss for line in lines for loss in line["losses"]]
    low, high = min(losses), max(losses)
    margin = 0.06 * (high - low) or 1e-6
    low, high = low - margin, high + margin

    def height(loss: float) -> float:
        return round(TOP + (high - loss) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    inner = WIDTH - LEFT - RIGHT
    places = [LEFT + 0.15 * inner, LEFT + 0.85 * inner]
    for line in lines:
        line["points"] = [(place, height(loss)) for place, loss in zip(places, line["losses"], strict=True)]
    ticks = [low + (high - low) * k / (TICKS - 1) for k in range(TICKS)]
    return {
        "lines": lines,
        "ticks": [(height(tick), f"{tick:.4g}") for tick in ticks],
        "columns": list(zip(places, result["optimizers"], strict=True)),
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
    }


def print_result(result: Mapping[str, Any], report: Path, console: Console) -> None:
    """The verdict, what to be warned of, the four cells, the effects, and where the page is."""
    console.print(Text(result["verdict"]["text"], style="bold"))
    for warning in result["warnings"]:
        console.print(Text(f"Warning: {warning}", style="yellow"))
    console.print()
    cells = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    cells.add_column(Text(f"final loss, {result['loss_name']}"), style="dim", no_wrap=True)
    for post_trained in result["optimizers"]:
        cells.add_column(Text(f"post-trained with {post_trained}"), justify="right")
    for pretrained in result["optimizers"]:
        row = [cell for cell in result["cells"] if cell["pretrained"] == pretrained]
        shown = [f"{mean_and_spread(cell['mean'], cell['std'])} ({cell['n']})" for cell in row]
        cells.add_row(Text(f"pre-trained with {pretrained}"), *map(Text, shown))
    console.print(cells)
    console.print()
    found = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name in ("effect", "estimate", "95 % interval", "p"):
        found.add_column(name, justify="left" if name == "effect" else "right")
    for words, effect in effects(result):
        found.add_row(Text(words), *(Text(text) for text in _figures(effect)))
    console.print(found)
    console.print()
    console.print(Text(f"report: {report}"), soft_wrap=True)


def _sentences(text: str) -> tuple[str, str]:
    """The first sentence, and the rest."""
    first, stop, rest = text.partition(". ")
    return first + stop, rest


def _figures(effect: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if effect is None:
        return UNKNOWN, UNKNOWN, p_text(None)
    low, high = effect["interval"]
    return signed(effect["estimate"]), f"{signed(low)} to {signed(high)}", p_text(effect["p"])
