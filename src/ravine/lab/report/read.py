"""`ravine report` as a function: finished studies in, a page out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ravine.lab.files import read_json, require_writable_folder, write_atomically
from ravine.lab.report.exports import export
from ravine.lab.report.page import html

FORMAT = 1
"""Of `result.json`, that this version reads."""

NEEDED = ("task", "loss_name", "unit", "baseline", "budget", "target", "arms", "pairs", "verdict")


def report(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None = None,
    formats: Sequence[str] = (),
) -> Path:
    """Write the page of one study again, or one that compares several.

    Args:
        paths: folders of finished studies, or their `result.json`.
        out: the folder for `report.html`; default the study's own, and for several `ravine-report`.
        formats: of figures to write beside it, `"csv"` and `"png"`.

    Returns:
        the page.

    Raises:
        ValueError: without paths, for one that holds no finished study, or where nothing can be written.
        ImportError: for PNGs without the package that makes them.
    """
    if not paths:
        raise ValueError("report needs the folder of at least one study")
    results = {Path(path): read_result(path) for path in paths}
    first = Path(paths[0])
    folder = Path(out) if out is not None else Path("ravine-report") if len(paths) > 1 else _folder_of(first)
    require_writable_folder(folder, "--out")
    result = results[first] if len(results) == 1 else _combined(results)
    page = html(result)
    folder.mkdir(parents=True, exist_ok=True)
    if formats:
        export(result, folder, formats)
    write_atomically(folder / "report.html", page)
    return folder / "report.html"


def read_result(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The result of a finished study.

    Raises:
        ValueError: in one sentence, where there is none that this version can read.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "result.json"
    if not file.exists():
        raise ValueError(f"{path} holds no result.json: give the folder of a study that has come to its end")
    result = read_json(file)
    if not isinstance(result, dict) or "format" not in result:
        raise ValueError(f"{file} is not the result of a study of ravine")
    if result["format"] != FORMAT:
        raise ValueError(f"{file} has format {result['format']!r}, and this version of ravine reads format {FORMAT}")
    missing = [name for name in NEEDED if name not in result]
    if missing:
        raise ValueError(f"{file} lacks {', '.join(missing)}: it is not the whole result of a study")
    return result


def _folder_of(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _combined(results: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    from ravine.lab.results import combined

    names = [_folder_of(path).resolve().name for path in results]
    # Folders of the same name in different places are told apart by their paths.
    named = names if len(set(names)) == len(names) else [str(_folder_of(path)) for path in results]
    return combined(list(results.values()), named)
