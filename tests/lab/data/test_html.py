"""Pages of HTML: the text that a reader sees, whatever is between it, in time that grows with the page."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravine.lab.data import html
from ravine.lab.data.html import text_of_html
from ravine.lab.data.sources import Unreadable


def text(page: str | bytes, at_a_time: int = 2**20) -> str:
    content = page.encode() if isinstance(page, str) else page
    chunks = (content[i : i + at_a_time] for i in range(0, len(content), at_a_time))
    return b"".join(text_of_html(chunks)).decode()


PAGE = """<!DOCTYPE html><html><head><title>Title &amp; more</title><style>p > a { }</style>
<script>if (a < b && c > d) document.write("</p>")</script><!-- no > text --></head><body>
<h1>One</h1><p class="a>b" title='it"s'>two   three<br/>four</p><ul><li>five<li>six</ul>
<svg><text>unseen</text><svg></svg>unseen</svg><pre>  kept
   as is</pre><td>1 < 2 &lt; 3 &copy;</td><p>&#8364;5 a<b>b</b>c</body></html>"""

SEEN = "Title & more\nOne\ntwo three\nfour\nfive\nsix\n  kept\n   as is\n1 < 2 < 3 ©\n€5 abc\n"


def test_what_a_reader_sees() -> None:
    assert text(PAGE) == SEEN


@given(st.integers(1, 200))
def test_it_does_not_matter_where_the_page_is_cut(at_a_time: int) -> None:
    assert text("<!--" + " " * 1024 + "-->" + PAGE, at_a_time=1024 + at_a_time) == SEEN
    assert text(PAGE, at_a_time) == SEEN


@given(st.text(st.sampled_from("<>!-/abp \"'=&;"), max_size=60), st.integers(1, 9))
def test_any_page_reads_the_same_whole_and_in_parts(page: str, at_a_time: int) -> None:
    assert text(page) == text(page, at_a_time)


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("no tags", "no tags\n"),
        ("a<!-->b<!--->c<!-- -- > -->d", "abcd\n"),
        ("a<!x>b<?y?>c</ z>d", "abcd\n"),
        ("a<br>b<img alt='>'>c", "a\nbc\n"),
        ("a<a title=it's>b</a>c", "abc\n"),
        ("<SCRIPT>x</script >y", "y\n"),
        ("<script>x</scripts>y</script>z", "z\n"),
        ("<object><p>x</object>y<template/>z", "yz\n"),
        ("x</svg>y", "xy\n"),
        ("x < y <3 z<", "x < y <3 z\n"),
        ("x<a href='unfinished>y", "x\n"),
        ("x<!-- unfinished", "x\n"),
    ],
)
def test_tags(page: str, seen: str) -> None:
    assert text(page) == seen


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("é".encode(), "é\n"),
        (b"\xef\xbb\xbf\xc3\xa9", "é\n"),
        ("é".encode("utf-16"), "é\n"),
        (b"<meta charset='ISO-8859-1'>\xe9\x80", "é€\n"),
        (b'<meta http-equiv="Content-Type" content="text/html; charset=koi8-r">\xc1', "а\n"),
    ],
)
def test_encodings(page: bytes, seen: str) -> None:
    assert text(page) == seen


def test_half_a_surrogate_pair_and_zeros_are_no_text() -> None:
    assert text("a&#xD800;b&#0;c\0d").encode().decode() == "a\ufffdb\ufffdcd\n"


def test_a_tag_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "LONGEST_TAG", 1000)
    with pytest.raises(Unreadable, match="a tag or comment of more than 1000 characters"):
        text("<a " * 999)
    assert text("<script>" + "x < y " * 9999 + "</script>seen") == "seen\n"


@pytest.mark.parametrize("part", ["<a ", "<a b='", "<!--", "</", "<a =\"'", "<svg></math>", "<"])
def test_a_page_made_to_be_slow_is_read_as_fast_as_others(part: str) -> None:
    start = time.process_time()
    text(part * (200_000 // len(part)))
    # The standard library's parser needs minutes for the first, and the others only get slower with their square.
    assert time.process_time() - start < 20
