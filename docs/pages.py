"""Writes the pages of the optimizers from their rules: `python docs/pages.py`."""

from __future__ import annotations

from pathlib import Path

from ravine.explain.pages import pages

FOLDER = Path(__file__).parent / "optimizers"


def main() -> None:
    """Write them all, and remove those of optimizers that are no more."""
    FOLDER.mkdir(exist_ok=True)
    texts = pages()
    for name, text in texts.items():
        FOLDER.joinpath(name).write_text(text, encoding="utf-8")
    for path in FOLDER.glob("*.md"):
        if path.name not in texts:
            path.unlink()


if __name__ == "__main__":
    main()
