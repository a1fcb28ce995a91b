"""Text in images, by the program tesseract."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ravine.lab.data.extract import Extraction, opened_file
from ravine.lab.data.sources import Unreadable

if TYPE_CHECKING:
    from PIL.Image import Image

PIXELS = 100_000_000
"""Pixels of the largest image that is opened: a page of A3 at 600 dots per inch has 70 million."""

SECONDS = 120
"""How long one image may take."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
"""Formats that are opened, whatever else Pillow could: some of them start programs."""


def text_of_image(path: Path, extraction: Extraction) -> bytes:
    """The text in an image file.

    Raises:
        Unreadable: where there is none, it cannot be opened, or nothing is there to read it.
    """
    require_ocr(extraction)
    with opened(path) as image:
        text = recognized(image)
    if not text:
        raise Unreadable("no text was found in the image")
    return text


def require_ocr(extraction: Extraction) -> None:
    """Raise Unreadable unless images are read here."""
    why = why_not(extraction.ocr)
    if why:
        raise Unreadable(why)


def why_not(ocr: bool) -> str:
    """Why images are not read here; empty where they are."""
    if not ocr:
        return "an image, and reading text in images is switched off"
    if shutil.which("tesseract") is None:
        return "an image, and the program tesseract, which reads text in them, is not installed"
    try:
        import pytesseract  # noqa: F401
    except ModuleNotFoundError:
        return 'an image, and the package pytesseract is not installed: pip install "ravine[data]"'
    return ""


@contextmanager
def opened(path: Path) -> Iterator[Image]:
    """An image file, its pixels loaded.

    Raises:
        Unreadable: where it is damaged, too large, or not one of `FORMATS`.
    """
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        # Pillow warns of images that are far larger than most; `PIXELS` decides here.
        warnings.simplefilter("ignore")
        try:
            with opened_file(path) as file, Image.open(file, formats=FORMATS) as image:
                require_size(image)
                image.load()
                yield image
        except UnidentifiedImageError:
            raise Unreadable("not an image, or damaged") from None
        except Image.DecompressionBombError:
            raise Unreadable(f"an image of more than {PIXELS} pixels") from None
        # Pillow raises all of these for files that are damaged.
        except (OSError, ValueError, SyntaxError) as error:
            raise Unreadable(f"a damaged image: {error}") from None


def require_size(image: Image) -> None:
    """Raise Unreadable if the image has more than `PIXELS`."""
    if image.width * image.height > PIXELS:
        raise Unreadable(f"an image of {image.width} x {image.height} pixels, more than {PIXELS}")


def recognized(image: Image) -> bytes:
    """The text in an image, empty where there is none.

    Raises:
        Unreadable: where tesseract fails or takes too long.
    """
    import pytesseract

    try:
        text = pytesseract.image_to_string(image.convert("RGB"), timeout=SECONDS)
    except (RuntimeError, OSError) as error:
        raise Unreadable(f"an image that tesseract cannot read: {error}") from None
    return (text.strip() + "\n").encode("utf-8", errors="replace") if text.strip() else b""
