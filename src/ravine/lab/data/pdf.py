"""The text of a PDF, page by page; a page without text is taken for a scanned one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ravine.lab.data.extract import Extraction, opened_file
from ravine.lab.data.ocr import recognized, require_ocr, require_size
from ravine.lab.data.sources import Found, Unreadable

PAGES = 5000
"""Pages that are read of one file."""

IMAGES = 50
"""Images that are read of one page."""

STREAM = 32 * 2**20
"""Bytes that one stream of a page may become; pypdf refuses more."""


def pages(found: Found, extraction: Extraction) -> Iterator[bytes]:
    """The text of each page. A page that has none, or is damaged, is skipped and named.

    Raises:
        Unreadable: where the file is damaged or encrypted, no page has text, or its pages become more than they may.
    """
    import pypdf

    limit, length, read = extraction.limit(found.size), 0, 0
    limits = pypdf.Configuration(
        zlib_maximum_output_length=STREAM,
        lzw_maximum_output_length=STREAM,
        run_length_maximum_output_length=STREAM,
        brotli_maximum_output_length=STREAM,
        array_based_stream_maximum_output_length=STREAM,
    )
    with opened_file(found.path) as file, _quiet(), pypdf.apply_configuration(limits):
        document = _opened(file)
        count = len(document.pages)
        if count > PAGES:
            extraction.skip(f"{found.name}, pages {PAGES + 1} to {count}", f"only {PAGES} pages of a file are read")
        for number in range(min(count, PAGES)):
            try:
                page = document.pages[number]
                contents = page.get_contents()
                length += len(contents.get_data()) if contents is not None else 0
                if length > limit:
                    break
                text = _text_of_page(page, extraction)
            except Unreadable as error:
                extraction.skip(f"{found.name}, page {number + 1}", str(error))
            # What a damaged page makes pypdf raise cannot be foreseen.
            except Exception as error:
                extraction.skip(f"{found.name}, page {number + 1}", f"damaged: {_one_line(error)}")
            else:
                length += len(text)
                read += 1
                yield text
    if length > limit:
        raise Unreadable(f"its pages expand to more than {limit} bytes, from {found.size}")
    extraction.spend(found.size, length)
    if not read:
        raise Unreadable(f"none of its {count} pages has text: {extraction.skipped[-1].why}" if count else "no pages")


def _opened(file: Any) -> Any:
    import pypdf

    try:
        document = pypdf.PdfReader(file)
        if document.is_encrypted and not document.decrypt(""):
            raise Unreadable("encrypted")
        len(document.pages)
        return document
    except pypdf.errors.DependencyError:
        raise Unreadable("encrypted") from None
    except Unreadable:
        raise
    # What a damaged file makes pypdf raise cannot be foreseen.
    except Exception as error:
        raise Unreadable(f"a damaged PDF: {_one_line(error)}") from None


def _text_of_page(page: Any, extraction: Extraction) -> bytes:
    text = page.extract_text().replace("\0", "").strip()
    if text:
        return (text + "\n\n").encode("utf-8", errors="replace")
    if not len(page.images):
        raise Unreadable("neither text nor images on it")
    require_ocr(extraction)
    found = []
    for number, image in enumerate(page.images):
        if number == IMAGES:
            break
        require_size(image.image)
        found.append(recognized(image.image))
    if not any(found):
        raise Unreadable("no text was found in its images")
    return b"".join(found) + b"\n"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what pypdf logs of oddities that it has put right."""
    logger = logging.getLogger("pypdf")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
