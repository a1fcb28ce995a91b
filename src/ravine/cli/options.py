"""Options that several commands of the laboratory take: what is learned, and how long."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ravine.cli.common import number, plain_value, whole


def text(help: str, metavar: str = "TEXT") -> Any:
    """An option that is a text."""
    return typer.Option(help=help, metavar=metavar)


def flag(help: str, name: str) -> Any:
    """An option that is given or refused; None where it is neither."""
    return typer.Option(f"--{name}/--no-{name}", help=help, show_default=False)


Size = Annotated[str | None, text("Of the task: small (default), tiny for a try, or base.")]
Data = Annotated[str | None, text("A file or folder to learn from; default: what the task brings.", "PATH")]
Model = Annotated[str | None, text("Your own: path.py:build, hf:DIR, or one of the task's.", "MODEL")]
Tokenizer = Annotated[str | None, text("bytes (default), or bpe:SIZE.")]
Base = Annotated[str | None, text("sft, dpo: the checkpoint to begin with.", "PATH")]
TaskOptions = Annotated[
    list[str] | None, text("What else the task takes, such as condition=1000; may be repeated.", "NAME=VALUE")
]
Steps = Annotated[int | None, whole("Steps of a run; default: the task's.")]
Batch = Annotated[int | None, whole("Examples of a step; default: the task's.")]
Schedule = Annotated[str | None, text("Of the learning rate: linear (default), cosine, constant, wsd, ...")]
Warmup = Annotated[float | None, number("Part of the steps that warm up; default 0.1.")]
Clip = Annotated[float | None, number("Largest norm of the gradient; default: the task's, 0 for any.")]
Device = Annotated[str | None, text("auto (default), cpu or cuda.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]


def task_options(written: list[str]) -> dict[str, Any]:
    """What a task takes beyond its data and model, as written on the command line.

    Raises:
        ValueError: for one that is not written NAME=VALUE.
    """
    options: dict[str, Any] = {}
    for one in written:
        name, equals, value = (part.strip() for part in one.partition("="))
        if not equals or not name or not value:
            raise ValueError(f"--option is written NAME=VALUE, got {one!r}")
        options[name] = plain_value(value)
    return options
