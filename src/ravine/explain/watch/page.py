"""Recordings as a page that opens without a network, and as a table in the terminal."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ravine.explain.typeset import number
from ravine.explain.watch.charts import charts
from ravine.explain.watch.recording import Recording
from ravine.lab.report.charts import recolouring, theme

COLUMNS = {
    "weight_norm": "‖θ‖", "gradient_rms": "gradient RMS", "update_rms": "update RMS", "decay_rms": "decay RMS",
    "relative_update": "update / θ", "step_size": "median step",
}  # fmt: skip


def html(recordings: Sequence[Recording]) -> str:
    """The page.

    Raises:
        ValueError: where no recording holds a sample.
    """
    from plotly.offline import get_plotlyjs

    if not any(recording.samples for recording in recordings):
        raise ValueError("there is no sample in the recording yet: the first is taken at step 1")
    drawn = charts(recordings)
    environment = Environment(
        loader=PackageLoader("ravine.explain.watch"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    folder = files("ravine.explain.watch") / "templates"
    scripts = {
        "plotly": str(get_plotlyjs()).replace("</script", "<\\/script"),
        "page": (folder / "watch.js").read_text(encoding="utf-8"),
    }
    allowed = " ".join(f"'sha256-{_digest(text)}'" for text in scripts.values())
    return environment.get_template("watch.html.jinja").render(
        recordings=recordings,
        charts=drawn,
        columns=COLUMNS,
        number=_shown,
        drawn={
            "charts": [{"id": c.id, "views": [view.figure for view in c.views], "legend": c.legend} for c in drawn],
            "themes": {"light": theme(False), "dark": theme(True)},
            "recolouring": recolouring(),
        },
        scripts={name: Markup(text) for name, text in scripts.items()},
        policy="default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; base-uri 'none'; "
        f"form-action 'none'; script-src {allowed}",
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _shown(value: Any) -> str:
    return "–" if value is None else number(value, 3)


def print_recording(recording: Recording, console: Console) -> None:
    """The last sample of a recording, a line for each parameter."""
    if not recording.samples:
        console.print(Text(f"{recording.name}: no sample yet; the first is taken at step 1"))
        return
    last = recording.samples[-1]
    rates = ", ".join(f"{rule} {number(lr)}" for rule, lr in last["lr"].items())
    console.print(
        Text(f"{recording.name}: {len(recording.samples)} samples to step {last['step']}; lr {rates}", style="bold")
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("parameter", style="cyan", no_wrap=True)
    for words in COLUMNS.values():
        table.add_column(words, justify="right")
    for name, values in last["parameters"].items():
        table.add_row(Text(name), *(Text(_shown(values[key])) for key in COLUMNS))
    console.print(table)
