"""Passwords of storage URLs, kept out of everything that is shown or written."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"

_SHORT = 4
"""A password of fewer characters is hidden only where it stands alone: it may be part of any word."""

# A password may hold anything, also what a valid URL would have encoded; the host follows the last @. Rather too much
# is hidden than too little.
_USERINFO = re.compile(r"(?P<before>[A-Za-z][\w+.-]*://[^\s:/?#@'\"]*):(?P<password>[^\s'\"]*)@")
_QUERY = re.compile(r"(?P<before>[?&](?:password|passwd|pwd|sslpassword)=)(?P<password>[^&#\s'\"]*)", re.IGNORECASE)


def redacted(url: str) -> str:
    """The URL with `***` for its password, wherever in the URL that is.

    >>> redacted("postgresql://ada:s%40cret@db.example/studies?connect_timeout=5")
    'postgresql://ada:***@db.example/studies?connect_timeout=5'
    >>> redacted("postgresql://db.example/studies?user=ada&password=secret")
    'postgresql://db.example/studies?user=ada&password=***'
    >>> redacted("sqlite:///study/trials.db")
    'sqlite:///study/trials.db'
    """
    start = re.match(r"[A-Za-z][\w+.-]*://[^:/?#@]*:", url)
    if start and "@" in url[start.end() :]:
        url = f"{start.group()}{HIDDEN}@{url.rpartition('@')[2]}"
    return re.sub(r"(?i)([?&](?:password|passwd|pwd|sslpassword)=)[^&#]*", rf"\g<1>{HIDDEN}", url)


class Redactor:
    """Takes the passwords of a URL out of texts, in every form that a library may print them in.

    A password that is also the user, the host or the database stays where it stands alone, as those are shown; in
    every URL it is hidden.

    Args:
        url: of a storage; one without a password is fine.
    """

    def __init__(self, url: str) -> None:
        self._url, self._shown = url, redacted(url)
        start = re.match(r"[A-Za-z][\w+.-]*://([^:/?#@]*):", url)
        secrets = {url[start.end() : url.rindex("@")]} if start and "@" in url[start.end() :] else set()
        secrets |= {found["password"] for found in _USERINFO.finditer(url)}
        secrets |= {found["password"] for found in _QUERY.finditer(url)}
        secrets |= {
            value
            for name, value in parse_qsl(url.partition("?")[2])
            if name.lower() in {"password", "passwd", "pwd", "sslpassword"}
        }
        rest = re.split(r"[:/?#@&=]+", self._shown)
        forms = {form for secret in secrets for form in _forms(secret)} - {"", HIDDEN, *rest}
        self._secrets = re.compile("|".join(map(_pattern, sorted(forms, key=len, reverse=True)))) if forms else None

    def text(self, text: str) -> str:
        """The text without the passwords.

        >>> Redactor("postgresql://ada:s%40cret@db/x").text("FATAL: ada may not enter with 's@cret'")
        "FATAL: ada may not enter with '***'"
        """
        text = text.replace(self._url, self._shown) if self._url else text
        if self._secrets is not None:
            text = self._secrets.sub(HIDDEN, text)
        text = _USERINFO.sub(rf"\g<before>:{HIDDEN}@", text)
        return _QUERY.sub(rf"\g<before>{HIDDEN}", text)

    def traceback(self, error: BaseException) -> str:
        """What Python would print for an error, without the passwords."""
        return self.text("".join(traceback.format_exception(error)))

    def record(self, record: logging.LogRecord) -> logging.LogRecord:
        """A record of the log, its message and its traceback without the passwords."""
        # A message whose arguments do not fit is reported by the handler, with the arguments: these go as well.
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = f"{record.msg} {record.args}"
        record.msg, record.args = self.text(message), None
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = self.traceback(record.exc_info[1]).rstrip("\n")
        return record

    def install(self) -> Callable[[], None]:
        """From now on: in whatever is logged, and in the tracebacks of errors that nobody catches.

        Returns:
            what undoes it.
        """
        factory, hook, thread_hook = logging.getLogRecordFactory(), sys.excepthook, threading.excepthook

        def in_main(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            sys.stderr.write(self.traceback(error))

        def in_thread(arguments: threading.ExceptHookArgs) -> None:
            if arguments.exc_value is not None and not isinstance(arguments.exc_value, SystemExit):
                sys.stderr.write(self.traceback(arguments.exc_value))

        def undo() -> None:
            logging.setLogRecordFactory(factory)
            sys.excepthook, threading.excepthook = hook, thread_hook

        logging.setLogRecordFactory(lambda *args, **kwargs: self.record(factory(*args, **kwargs)))
        sys.excepthook, threading.excepthook = in_main, in_thread
        return undo


def _forms(secret: str) -> set[str]:
    """How a password may be written: as it is, percent-encoded, and within quotes of Python and JSON."""
    plain = {secret, unquote(secret), unquote_plus(secret)}
    encoded = {encode(form, safe=safe) for form in plain for encode in (quote, quote_plus) for safe in ("", "/", " +")}
    quoted = {form[1:-1] for text in plain | encoded for form in (repr(text), json.dumps(text), ascii(text))}
    return plain | encoded | quoted


def _pattern(form: str) -> str:
    return re.escape(form) if len(form) >= _SHORT else rf"(?<!\w){re.escape(form)}(?!\w)"
