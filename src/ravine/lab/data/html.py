"""The text of an HTML page, as a reader sees it.

The standard library's parser needs hours for some damaged pages (one of 130 kB that repeats "<a " took it three
minutes, and twice as many take it several times as long). The text alone can be had in time that grows with the page.
"""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterator

from ravine.lab.data.sources import CHUNK, Unreadable

RAW = frozenset({"script", "style"})
"""Elements whose content is neither read nor made of tags."""

UNSEEN = frozenset({"template", "noscript", "svg", "math", "iframe", "object", "canvas", "select"})
"""Elements whose content is not read."""

BLOCKS = frozenset(
    {"address", "article", "aside", "blockquote", "br", "caption", "dd", "details", "div", "dl", "dt", "fieldset",
     "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "html", "li", "main",
     "nav", "ol", "option", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "title",
     "tr", "ul"}
)  # fmt: skip
"""Elements that begin and end a line."""

# As browsers take them (https://encoding.spec.whatwg.org): a page that says Latin-1 means Windows-1252.
ENCODINGS = {
    **dict.fromkeys(("ascii", "us-ascii", "iso-8859-1", "latin1", "windows-1252", "cp1252"), "cp1252"),
    **dict.fromkeys(("gb2312", "gbk", "gb18030"), "gb18030"),
    **dict.fromkeys(("utf-8", "utf8"), "utf-8-sig"),
    **{n: n for n in ("iso-8859-2", "iso-8859-5", "iso-8859-7", "iso-8859-9", "iso-8859-15", "koi8-r", "koi8-u")},
    **{n: n for n in ("windows-1250", "windows-1251", "windows-1253", "windows-1254", "windows-1256")},
    **{n: n for n in ("shift_jis", "euc-jp", "iso-2022-jp", "euc-kr", "big5", "utf-16le", "utf-16be")},
}

MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}

LONGEST_TAG = 8 * CHUNK
"""Characters of one tag or comment; more is no page that someone wrote."""

# A ">" in a quoted value does not end a tag. Possessive, so that a tag is scanned once.
TAG = re.compile(r"""<(/?)([a-z][^\s/>]*)(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+'|(?!["'])))*+>""", re.IGNORECASE)


def text_of_html(page: Iterator[bytes]) -> Iterator[bytes]:
    """The text of a page: scripts and styles left out, blocks on lines of their own, white space as it is shown.

    Args:
        page: the bytes of the page, in chunks.

    Raises:
        Unreadable: where it is not in the encoding that it declares (UTF-8 if none).

    >>> b"".join(text_of_html(iter([b"<h1>A &amp; B</h1><style>p {}</style><p>one<br>two <b>th</b>ree"]))).decode()
    'A & B\\none\\ntwo three\\n'
    """
    reader, decoder = _Reader(), None
    for chunk in page:
        if decoder is None:
            decoder = codecs.getincrementaldecoder(_encoding(chunk))()
        reader.feed(_decoded(decoder, chunk))
        yield reader.taken()
    if decoder is not None:
        reader.feed(_decoded(decoder, b"", final=True))
    reader.end_line()
    yield reader.taken()


class _Reader:
    """Tags and text, told apart as browsers do: https://html.spec.whatwg.org/multipage/parsing.html."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._line: list[str] = []
        self._length = 0
        self._rest = ""
        self._raw = ""
        self._unseen = ""
        self._depth = 0
        self._preformatted = 0

    def feed(self, more: str) -> None:
        """Read on; what may go on in the next part waits. What still waits at the end is an unfinished tag: unseen."""
        page, position = self._rest + more, 0
        while position < len(page):
            if self._raw:
                end = re.compile(rf"</{self._raw}(?=[\s/>])", re.IGNORECASE).search(page, position)
                position = end.start() if end else max(position, len(page) - len(self._raw) - 2)
                if not end:
                    break
                self._raw = ""
            tag = page.find("<", position)
            self._text(page[position : tag if tag >= 0 else len(page)])
            if tag < 0:
                position = len(page)
                break
            position = tag
            end_of_tag = self._tag(page, tag)
            if end_of_tag < 0:
                break
            position = end_of_tag
        self._rest = page[position:]
        if len(self._rest) > LONGEST_TAG:
            raise Unreadable(f"not HTML: a tag or comment of more than {LONGEST_TAG} characters")

    def end_line(self) -> None:
        """End a line of text, if there is one."""
        line = html.unescape("".join(self._line))
        line = line.strip("\n") if self._preformatted else " ".join(line.split())
        if line.strip():
            self._lines.append(line + "\n")
        self._line.clear()
        self._length = 0

    def taken(self) -> bytes:
        """The lines that are complete, once."""
        text = "".join(self._lines).replace("\0", "").encode("utf-8", errors="replace")
        self._lines.clear()
        return text

    def _text(self, text: str) -> None:
        if text and not self._unseen:
            self._line.append(text)
            self._length += len(text)
            if self._length > CHUNK:
                self.end_line()

    def _tag(self, page: str, start: int) -> int:
        """Where what begins with this "<" ends, or -1 if it goes on beyond what is there."""
        following = page[start + 1 : start + 4]
        if not following or "!--".startswith(following):
            end = page.find("-->", start + 2) if following == "!--" else -1
            return end + 3 if end >= 0 else -1
        if following[0] in "!?" or (following[0] == "/" and len(following) > 1 and not _is_letter(following[1])):
            return page.find(">", start) + 1 or -1
        if following == "/":
            return -1
        if not _is_letter(following.lstrip("/")[0]):
            self._text("<")
            return start + 1
        found = TAG.match(page, start)
        if found is None:
            return -1
        self._element(found[2].lower(), closes=bool(found[1]), empty=found[0].endswith("/>"))
        return found.end()

    def _element(self, name: str, closes: bool, empty: bool) -> None:
        if name in RAW and not closes:
            self._raw = name
        elif name in UNSEEN and self._unseen in ("", name) and not empty:
            self._depth = max(0, self._depth + (-1 if closes else 1))
            self._unseen = name if self._depth else ""
        elif name in BLOCKS and not self._unseen:
            self.end_line()
            if name == "pre":
                self._preformatted = max(0, self._preformatted + (-1 if closes else 1))


def _is_letter(character: str) -> bool:
    return character.isascii() and character.isalpha()


def _decoded(decoder: codecs.IncrementalDecoder, chunk: bytes, final: bool = False) -> str:
    try:
        return decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        raise Unreadable(f"not in the encoding {error.encoding}") from None


def _encoding(beginning: bytes) -> str:
    """By byte order mark, else as declared in the first 1024 bytes, else UTF-8."""
    for mark, name in MARKS.items():
        if beginning.startswith(mark):
            return name
    declared = re.search(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([\w.:-]+)""", beginning[:1024], re.IGNORECASE)
    name = declared[1].decode("ascii", "replace").lower() if declared else "utf-8"
    if name not in ENCODINGS:
        raise Unreadable(f"in an encoding that is not known here, {name}")
    return ENCODINGS[name]
