"""The figures of a study as files: CSV for spreadsheets, PNG for slides."""

from __future__ import annotations

import csv
import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ravine.lab.files import require_writable_folder, write_atomically
from ravine.lab.report.charts import theme
from ravine.lab.report.costs import milliseconds
from ravine.lab.report.text import file_name
from ravine.registry import nearest

Rows = list[dict[str, Any]]

FORMATS = ("csv", "png")

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "msedge",
)

WIDTH, SCALE = 900, 2
"""Of pictures: pixels, and how many of the file's make one."""

ABOVE = 90
"""Pixels for title and legend, which on the page are beside the picture."""


def export(result: Mapping[str, Any], folder: str | os.PathLike[str], formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write the tables and charts of a result to files.

    Args:
        result: as in `result.json`.
        folder: made where it is missing; files of these names are replaced.
        formats: `"csv"`: runs, trials, curves, arms, pairs. `"png"`: every view of every chart.

    Returns:
        the files.

    Raises:
        ValueError: for another format, or a folder that cannot be written to.
        ImportError: for `"png"` without Kaleido.
        RuntimeError: for `"png"` without a browser.
    """
    for form in formats:
        if form not in FORMATS:
            raise ValueError(f"formats must be of {', '.join(FORMATS)}, got {form!r}{nearest(form, FORMATS)}")
    folder = Path(folder)
    require_writable_folder(folder, "folder")
    browser = _browser() if "png" in formats else ""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    if "csv" in formats:
        for name, rows in tables(result).items():
            written.append(folder / f"{name}.csv")
            write_atomically(written[-1], _csv(rows))
    return written + (_pictures(result, folder, browser) if "png" in formats else [])


def tables(result: Mapping[str, Any]) -> dict[str, Rows]:
    """The rows of each CSV file, by its name."""
    arms = result["arms"].items()
    return {
        "arms": [_arm(result, label, arm) for label, arm in arms],
        "trials": [
            {"arm": label, **{k: t[k] for k in ("phase", "seed", "loss", "diverged", "failed")}, **t["settings"]}
            for label, arm in arms for t in arm["trials"]
        ],
        "runs": [
            {"arm": label, **{k: r[k] for k in ("seed", "final_loss", "diverged", "diverged_at", "failed", "seconds")},
             **(r["metrics"] or {})}
            for label, arm in arms for r in arm["runs"]
        ],
        "curves": [
            {"arm": label, "seed": run["seed"], "split": split, "step": step, "units": units, "seconds": seconds,
             "loss": loss}
            for label, arm in arms for run in arm["runs"]
            for split, key in (("judging", "curve"), ("training", "training_curve")) if run[key]
            for step, units, seconds, loss in zip(
                *(run[key][axis] for axis in ("step", "units", "seconds", "loss")), strict=True
            )
        ],
        "pairs": [
            {**{k: pair[k] for k in ("a", "b", "difference")},
             **dict(zip(("low", "high"), pair["interval"] or (None, None), strict=True)),
             **{k: pair[k] for k in ("p", "p_corrected")}}
            for pair in result["pairs"]
        ],
    }  # fmt: skip


FIGURES = (
    "steps_to_target", "tokens_to_target", "seconds_to_target", "reached_target", "tokens_per_second",
    "seconds_per_run", "optimizer_share", "state_bytes_per_param", "peak_memory_bytes", "flops_per_unit", "mfu",
    "joules_per_run", "diverged_trials", "diverged_seeds", "failed_trials",
)  # fmt: skip
"""Of an arm, that are single numbers."""


def _arm(result: Mapping[str, Any], label: str, arm: Mapping[str, Any]) -> dict[str, Any]:
    final = arm["final_loss"]
    low, high = final["interval"] or (None, None)
    spent = milliseconds(result, label) or {}
    return {
        "arm": label, "optimizer": arm["optimizer"], "mean": final["mean"], "std": final["std"], "n": final["n"],
        "low": low, "high": high,
        **{f"best {name}": value for name, value in {**arm["settings"], **arm["best"]["settings"]}.items()},
        **{f"{name} {kind}": figure[kind] for name, figure in arm["metrics"].items() for kind in ("mean", "std")},
        **{name: arm[name] for name in FIGURES},
        **{f"{part} milliseconds": value for part, value in spent.items()},
        **{f"state bytes {dtype}": count for dtype, count in (arm["state_bytes_by_dtype"] or {}).items()},
    }  # fmt: skip


def _csv(rows: Rows) -> str:
    """All columns that any row has; empty where a figure is not known."""
    names = dict.fromkeys(name for row in rows for name in row)
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def figures(result: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """The name, without ending, and the figure of every view of every chart; no two names alike on any system."""
    from ravine.lab.report.page import charts

    taken: set[str] = set()
    for chart in charts(result).values():
        for view in chart.views:
            name = base = file_name(f"{chart.id}-{view.name}" if view.name else chart.id)
            count = 1
            while name.lower() in taken:
                count += 1
                name = f"{base}-{count}"
            taken.add(name.lower())
            layout = {**view.figure["layout"], "template": theme(dark=False), "width": WIDTH}
            layout["title"] = {"text": chart.title, "x": 0.02, "font": {"size": 16}}
            layout["margin"] = {**layout["margin"], "t": ABOVE}
            layout["height"] += ABOVE
            layout["legend"] = {**layout["legend"], "traceorder": "normal"}
            layout["showlegend"] = chart.legend is not None
            yield name, {"data": view.figure["data"], "layout": layout}


def _browser() -> str:
    """Path of the browser that draws the pictures; refuses early, before anything is written."""
    try:
        import kaleido  # noqa: F401
    except ImportError:
        raise ImportError('PNGs need Kaleido: pip install "ravine[png]"') from None
    named = os.environ.get("BROWSER_PATH")
    found = named or next(filter(None, map(shutil.which, BROWSERS)), None) or _elsewhere()
    if found is None or not Path(found).is_file():
        raise RuntimeError(
            "PNGs need Chromium or Chrome, and none was found: install one, or name it in the environment variable "
            "BROWSER_PATH"
        )
    return found


def _elsewhere() -> str | None:
    """Where macOS and Windows have their browsers, which are on no search path."""
    from choreographer.browsers.chromium import Chromium

    return Chromium.find_browser(skip_local=False)


def _pictures(result: Mapping[str, Any], folder: Path, browser: str) -> list[Path]:
    import kaleido

    written = []
    with tempfile.TemporaryDirectory(dir=folder, prefix=".png-") as temporary:
        wanted: list[dict[str, Any]] = [
            {"fig": figure, "path": str(Path(temporary, f"{name}.png")), "opts": {"format": "png", "scale": SCALE}}
            for name, figure in figures(result)
        ]
        # Kaleido's page would load MathJax from the network.
        options = {"path": browser, "mathjax": False}
        kaleido.write_fig_from_object_sync(wanted, kopts=options, cancel_on_error=True)
        for one in wanted:
            made = Path(one["path"])
            os.replace(made, folder / made.name)
            written.append(folder / made.name)
    return written
