"""Draws the pictures of the documents from what the commands print: `python docs/pictures.py`."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console

from ravine.explain.terminal import print_trace
from ravine.explain.trace import trace

IMAGES = Path(__file__).parent / "images"


def save(console: Console, name: str, title: str) -> None:
    """Write what a console has recorded as an SVG that asks no network for its font."""
    svg = console.export_svg(title=title)
    IMAGES.joinpath(name).write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL), encoding="utf-8")


def main() -> None:
    """Draw them all."""
    console = Console(record=True, width=104, force_terminal=True)
    print_trace(trace("adamw", "(x-1)**2", x0=2.0, steps=1, lr=0.1, weight_decay=0.01), console)
    save(console, "trace.svg", 'ravine trace adamw --x0 2 --loss "(x-1)**2" --lr 0.1 --weight-decay 0.01')


if __name__ == "__main__":
    main()
