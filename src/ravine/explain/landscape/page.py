"""A landscape as an animation: one HTML file that opens without a network, on a phone and in the dark too."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ravine.explain.landscape.picture import levels_of, loss_range, moves_range
from ravine.explain.landscape.result import Result, Track
from ravine.explain.landscape.table import COLUMNS, rows
from ravine.lab.report.charts import COLOURS, DARK_COLOURS, recolouring, styles, theme

CELLS = 121
"""Values along each side of the ground, at most: a screen shows no more."""

GROUND = {"light": ["#BCCBDB", "#FFFFFF"], "dark": ["#34506E", "#161B22"]}
"""From the lowest to the highest."""

CONTOURS = {"light": "#9AA5B1", "dark": "#4A5562"}

STROKES = {"solid": "", "dash": "7 4", "dot": "2 4", "dashdot": "8 3 2 3"}


def page(result: Result) -> str:
    """The page; see `Result.html`."""
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=PackageLoader("ravine.explain.landscape"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    scripts = {"plotly": str(get_plotlyjs()).replace("</script", "<\\/script"), "page": _text("page.js")}
    looks = styles(len(result.tracks))
    drawn = json.dumps(_drawn(result), ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    made = environment.get_template("landscape.html.jinja").render(
        title=result.title,
        about=result.about,
        remarks=result.remarks,
        columns=COLUMNS,
        rows=rows(result),
        looks=looks,
        strokes=STROKES,
        palette=list(zip(COLOURS, DARK_COLOURS, strict=True)),
        steps=result.last,
        height_name=result.height_name,
        marks=sorted({name for name, _ in result.ground.marks}),
        drawn=Markup(drawn),
        style=Markup(_text("page.css")),
        scripts={name: Markup(text) for name, text in scripts.items()},
        # Nothing but these scripts runs, and nothing is ever fetched.
        policy="default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; base-uri 'none'; "
        f"form-action 'none'; script-src {' '.join(map(_digest, scripts.values()))}",
    )
    return made.lstrip()


def _drawn(result: Result) -> dict[str, Any]:
    """What the script draws, in plain values."""
    ground, levels = result.ground.thinned(CELLS), np.log10(levels_of(result))
    heights = np.log10(np.maximum(result.height(ground.heights), 10 ** levels[0]))
    level = None if result.minimum is None or result.level is None else result.level - result.minimum
    low, high, log = loss_range(result)
    return {
        "ground": {
            "x": _numbers(ground.x), "y": _numbers(ground.y), "heights": [_numbers(row) for row in heights],
            "from": float(levels[0]), "to": float(levels[-1]), "every": float(levels[1] - levels[0]),
            "xName": ground.x_name, "yName": ground.y_name, "sameScale": ground.same_scale,
            "marks": [{"name": name, "x": point[0], "y": point[1]} for name, point in ground.marks],
        },
        "arms": [_arm(result, track) for track in result.tracks],
        "looks": [{"colour": one.hex, "dash": one.dash, "symbol": one.symbol} for one in styles(len(result.tracks))],
        "lossName": result.height_name, "level": level, "lossRange": [low, high], "logLoss": log,
        "movesRange": list(moves_range(result)),
        "colours": {"ground": GROUND, "contours": CONTOURS}, "themes": {"light": theme(False), "dark": theme(True)},
        "recolouring": recolouring(),
    }  # fmt: skip


def _arm(result: Result, track: Track) -> dict[str, Any]:
    return {
        "name": track.name, "x": _numbers(track.points[:, 0]), "y": _numbers(track.points[:, 1]),
        "at": track.at.tolist(), "loss": _numbers(result.height(track.losses)), "moves": _numbers(track.moves),
    }  # fmt: skip


def _numbers(values: np.ndarray) -> list[float | None]:
    """Six digits: more than a screen can show."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]


def _text(name: str) -> str:
    return (files("ravine.explain.landscape") / "templates" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    """How a content security policy names a script that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
