"""What all commands share: the application, options, errors, JSON.

Exit codes: 0 done, 1 the work failed, 2 the call was wrong, 130 interrupted. Whatever is wrong with a call is said in
one sentence on standard error. Every command that prints a result takes `--json FILE`, `-` being standard output.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

WRONG_CALL = 2
INTERRUPTED = 130


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"a number is wanted, got {text!r}") from None


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"a whole number is wanted, got {text!r}") from None


def number(help: str) -> Any:
    """An option that is a number."""
    return typer.Option(help=help, parser=_number, metavar="NUMBER")


def whole(help: str) -> Any:
    """An option that is a whole number."""
    return typer.Option(help=help, parser=_whole, metavar="NUMBER")


JsonFile = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON to FILE; - is standard output.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help='A rule, or a wrapped one: adamw, "lookahead(adamw)".')]


class WrongCall(typer.TyperException):
    """Something about the call is wrong; the message is one sentence."""

    exit_code = WRONG_CALL


class _Commands(TyperGroup):
    """Says in one sentence what is wrong, and ends with the exit code that belongs to it."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        for stream in (sys.stdout, sys.stderr):
            if "utf" not in (stream.encoding or "").lower() and hasattr(stream, "reconfigure"):
                stream.reconfigure(encoding="utf-8")
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except typer.TyperException as error:
            _end(error)
        except typer.Abort:
            code = INTERRUPTED
        sys.exit(code if isinstance(code, int) else 0)


def _end(error: typer.TyperException) -> NoReturn:
    message = error.format_message().rstrip()
    if message:
        print(f"ravine: {message}", file=sys.stderr)
    sys.exit(error.exit_code)


app = typer.Typer(
    cls=_Commands,
    name="ravine",
    help="Optimizers for PyTorch: run them, compare them, see what they do.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@contextlib.contextmanager
def wrong_call() -> Iterator[None]:
    """Within this block, a KeyError, TypeError or ValueError means that the call was wrong, and says why.

    An ImportError says which optional package it needs.
    """
    try:
        yield
    except (ImportError, KeyError, TypeError, ValueError) as error:
        raise WrongCall(str(error.args[0] if error.args else error)) from error


def write_json(result: Any, file: str) -> None:
    """Write a result as JSON, to standard output or to a file that appears whole or not at all."""
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if file == "-":
        sys.stdout.write(text)
        return
    from ravine.lab.files import write_given

    with wrong_call():
        write_given(file, text, "--json")


@contextlib.contextmanager
def failing(clean: Callable[[str], str] = str) -> Iterator[None]:
    """Within this block, failed work ends with one sentence and exit code 1; `clean` takes passwords out of it."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        message = str(error)
        if isinstance(error, OSError) and error.strerror:
            message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        raise typer.TyperException(clean(message)) from None


def plain_value(text: str) -> int | float | bool | str:
    """What a text on the command line means: a number, true or false, or itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)
