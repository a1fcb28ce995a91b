"""Writes the pages of the optimizers and their pictures from the rules: `python docs/pages.py`."""

from __future__ import annotations

from pathlib import Path

from ravine.explain.pages import IMAGES, pages, pictures

FOLDER = Path(__file__).parent / "optimizers"


def main() -> None:
    """Write them all, and remove those of optimizers that are no more."""
    FOLDER.joinpath(IMAGES).mkdir(parents=True, exist_ok=True)
    texts = {**pages(), **pictures()}
    for name, text in texts.items():
        FOLDER.joinpath(name).write_text(text, encoding="utf-8")
    for path in (*FOLDER.glob("*.md"), *FOLDER.glob(f"{IMAGES}/*.svg")):
        if path.relative_to(FOLDER).as_posix() not in texts:
            path.unlink()


if __name__ == "__main__":
    main()
