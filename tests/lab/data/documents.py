"""Documents that tests read: PDF written by hand, and images with text on them."""

from __future__ import annotations

import io
import shutil
import zlib

import pytest
from PIL import Image, ImageDraw, ImageFont

needs_tesseract = pytest.mark.skipif(shutil.which("tesseract") is None, reason="the program tesseract is missing")


def lines(first: int, count: int) -> str:
    """Text of which every line is unlike any other: line numbers of eight digits."""
    return "".join(f"{n:08d}\n" for n in range(first, first + count))


def pdf(*pages: str | Image.Image, compress: bool = False) -> bytes:
    """A PDF with a page for each text, and for each image a page that shows nothing but it."""
    kids = " ".join(f"{3 + 3 * i} 0 R" for i in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
    ]
    for i, page in enumerate(pages):
        contents, resource = 4 + 3 * i, 5 + 3 * i
        if isinstance(page, str):
            shown = " T* ".join(f"({line}) Tj" for line in page.splitlines())
            drawing = f"BT /F 12 Tf 14 TL 72 720 Td {shown} ET".encode()
            resources = f"/Font << /F {resource} 0 R >>"
            held = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
        else:
            drawing = b"q 500 0 0 200 50 500 cm /I Do Q"
            resources = f"/XObject << /I {resource} 0 R >>"
            jpeg = io.BytesIO()
            page.save(jpeg, "JPEG", quality=95)
            held = stream(
                jpeg.getvalue(),
                f"/Type /XObject /Subtype /Image /Width {page.width} /Height {page.height} /ColorSpace /DeviceRGB "
                "/BitsPerComponent 8 /Filter /DCTDecode",
            )
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {contents} 0 R "
            f"/Resources << {resources} >> >>".encode(),
            stream(zlib.compress(drawing, 9), "/Filter /FlateDecode") if compress else stream(drawing, ""),
            held,
        ]
    return file_of(objects)


def stream(content: bytes, entries: str) -> bytes:
    return f"<< /Length {len(content)} {entries} >>\nstream\n".encode() + content + b"\nendstream"


def file_of(objects: list[bytes]) -> bytes:
    """A PDF of these objects, numbered from 1, the first one its catalog."""
    file, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(file))
        file += f"{number} 0 obj\n".encode() + content + b"\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    head = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    return file + f"{head}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(file)}\n%%EOF\n".encode()


def picture(text: str) -> Image.Image:
    """Black text on white, large enough to be read by a machine."""
    image = Image.new("RGB", (1000, 60 + 80 * len(text.splitlines())), "white")
    ImageDraw.Draw(image).multiline_text((40, 30), text, "black", ImageFont.load_default(56), spacing=20)
    return image
