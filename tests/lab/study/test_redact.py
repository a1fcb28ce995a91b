"""Passwords of storage URLs are nowhere to be read."""

from __future__ import annotations

import logging
import sys
import threading
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from ravine.lab.study.redact import Redactor, redacted

# Marked by a sign that nothing else in the texts has, so that it can be looked for.
PASSWORDS = st.text(st.characters(min_codepoint=1, max_codepoint=0x2FF, exclude_categories=["Cs"]), max_size=12).map(
    lambda text: f"Ω{text}Ω"
)
USERS = st.from_regex(r"[a-z]{1,8}", fullmatch=True)


@given(USERS, PASSWORDS)
def test_in_a_url_as_it_should_be(user: str, password: str) -> None:
    for encoded in (quote(password, safe=""), quote_plus(password)):
        url = f"postgresql://{user}:{encoded}@db.example:5432/studies?connect_timeout=5"
        assert redacted(url) == f"postgresql://{user}:***@db.example:5432/studies?connect_timeout=5"


@given(USERS, PASSWORDS)
def test_in_a_url_as_it_should_not_be(user: str, password: str) -> None:
    shown = redacted(f"postgresql://{user}:{password}@db.example/studies")
    assert shown == f"postgresql://{user}:***@db.example/studies"


@given(USERS, PASSWORDS, st.sampled_from(["password", "PASSWORD", "passwd", "pwd", "sslpassword"]))
def test_in_the_query(user: str, password: str, name: str) -> None:
    url = f"postgresql://db.example/studies?user={user}&{name}={quote(password, safe='')}&connect_timeout=5"
    assert redacted(url) == f"postgresql://db.example/studies?user={user}&{name}=***&connect_timeout=5"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db.example/studies",
        "postgresql://ada@db.example:5432/studies",
        "sqlite:///trials.db",
        "sqlite:////home/me@corp/a:b@c/trials.db",
        "",
        "no URL at all: see me@home",
    ],
)
def test_nothing_is_hidden_where_there_is_no_password(url: str) -> None:
    assert redacted(url) == url
    assert Redactor(url).text(f"it says {url}") == f"it says {url}"


@given(PASSWORDS)
def test_in_every_text_and_in_every_form(password: str) -> None:
    url = f"postgresql://ada:{quote(password, safe='')}@db.example/studies"
    assert make_url(url).password == password
    redactor = Redactor(url)
    forms = (password, quote(password), quote(password, safe=""), quote_plus(password), repr(password), ascii(password))
    for form in (*forms, url, repr(url), url.replace("postgresql", "postgresql+psycopg")):
        text = redactor.text(f'before {form} after "{form}", {{{form}}}')
        for hidden in (*forms, "Ω", quote("Ω"), "\\u03a9"):
            assert hidden.strip("'\"") not in text
        assert text.startswith("before ") and " after " in text


@given(st.text(max_size=30), PASSWORDS)
def test_a_text_without_the_password_stays_as_it_is(text: str, password: str) -> None:
    redactor = Redactor(f"postgresql://ada:{quote(password, safe='')}@db.example/studies")
    if "Ω" not in text and "://" not in text and "=" not in text:
        assert redactor.text(text) == text


def test_a_short_password_is_hidden_where_it_stands_alone() -> None:
    redactor = Redactor("postgresql://ada:a1@db/x")
    assert redactor.text("a1: no such user, see a1b2 and 'a1'") == "***: no such user, see a1b2 and '***'"


def test_a_password_that_is_no_secret() -> None:
    """What is shown in any case cannot be hidden, but in a URL nobody sees that it is the password."""
    redactor = Redactor("postgresql://postgres:postgres@db/postgres")
    assert redactor.text("user postgres of postgresql://postgres:postgres@db/postgres") == (
        "user postgres of postgresql://postgres:***@db/postgres"
    )


def test_urls_of_others_are_hidden_too() -> None:
    assert Redactor("").text("https://me:token@host/x and postgresql://u:p@h?a=1&password=b c") == (
        "https://me:***@host/x and postgresql://u:***@h?a=1&password=*** c"
    )


def test_in_logs_and_in_errors_that_nobody_catches(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    url = "postgresql://ada:s%40cret@db/x"
    before = logging.getLogRecordFactory(), sys.excepthook, threading.excepthook
    undo = Redactor(url).install()
    try:
        logger = logging.getLogger("somebody.elses")
        logger.error("cannot reach %s with %r", url, "s@cret")
        logger.error("%d arguments too few for %s %s", 1, url)
        try:
            raise OSError(f"password s@cret refused by {url}")
        except OSError as error:
            logger.exception("it failed")
            sys.excepthook(type(error), error, error.__traceback__)
            thread = threading.Thread(target=lambda: int(url))
            thread.start()
            thread.join()
    finally:
        undo()
    assert (logging.getLogRecordFactory(), sys.excepthook, threading.excepthook) == before
    said = capsys.readouterr().err
    assert "OSError: password *** refused by postgresql://ada:***@db/x" in said
    assert "ValueError: invalid literal for int() with base 10: 'postgresql://ada:***@db/x'" in said
    for text in (said, caplog.text):
        assert "cret" not in text
    assert "cannot reach postgresql://ada:***@db/x with '***'" in caplog.text
    assert "OSError: password *** refused" in caplog.text
