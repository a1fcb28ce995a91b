"""The command trace: an optimizer at work, line by line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ravine.cli.common import JsonFile, app, number, whole, write_json, wrong_call
from ravine.cli.options import Base, TaskOptions, Tokenizer, task_options, text
from ravine.rule import Decay

if TYPE_CHECKING:
    from ravine.explain.trace import Trace

ENDINGS = (".md", ".html")


class _Trace(TyperCommand):
    """`--exercise` may stand alone, for standard output."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        if "--exercise" in given:
            after = given.index("--exercise") + 1
            if after == len(given) or given[after].startswith("--"):
                given.insert(after, "-")
        return super().parse_args(ctx, given)


def _start(written: str) -> Any:
    from ravine.explain.vectors import read

    try:
        return read(written)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _place(written: str) -> Any:
    try:
        return tuple(int(word) for word in written.split(","))
    except ValueError:
        raise typer.BadParameter(f"whole numbers are wanted, as in 3,7, got {written!r}") from None


@app.command(cls=_Trace)
def trace(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help='A rule, or a wrapped one: adamw, "lookahead(adamw)".')
    ] = None,
    x0: Annotated[
        Any,
        typer.Option(help="Where θ starts: 2, a vector 2,-1 or a matrix 1,2;3,4.", parser=_start, metavar="NUMBERS"),
    ] = None,
    loss: Annotated[str | None, text("The loss: (x-1)**2, x**2 + 20*y**2, sum((x-1)**2).")] = None,
    steps: Annotated[int, whole("How many steps.")] = 1,
    lr: Annotated[float | None, number("The learning rate η.")] = None,
    beta1: Annotated[float | None, number("β₁, of the first moment.")] = None,
    beta2: Annotated[float | None, number("β₂, of the second moment.")] = None,
    eps: Annotated[float | None, number("ε, in the denominator.")] = None,
    momentum: Annotated[float | None, number("The momentum μ.")] = None,
    weight_decay: Annotated[float | None, number("Weight decay λ.")] = None,
    decay: Annotated[Decay | None, typer.Option(help="What λ means.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting; may be repeated.")
    ] = None,
    checkpoint: Annotated[
        str | None, text("In place of a loss: a training run, one number of which takes its next step.", "FILE")
    ] = None,
    parameter: Annotated[str | None, text("Of the run: which parameter, by its name in the model.", "NAME")] = None,
    element: Annotated[
        Any,
        typer.Option(
            help="Which number of it, such as 3,7; default that with the largest gradient.",
            parser=_place,
            metavar="PLACE",
        ),
    ] = None,
    gradient: Annotated[str | None, text("Its gradient, if the run is not one of ravine train.", "FILE")] = None,
    data: Annotated[str | None, text("What the run learned from, if not its task's own data.", "PATH")] = None,
    model: Annotated[str | None, text("The run's model, if that is your own: path.py:build, hf:DIR.")] = None,
    tokenizer: Tokenizer = None,
    base: Base = None,
    option: TaskOptions = None,
    markdown: Annotated[str | None, text("Also write the trace as Markdown.", "FILE")] = None,
    html: Annotated[str | None, text("Also write it as a page, formulas typeset.", "FILE")] = None,
    exercise: Annotated[
        str | None, text("Write a worksheet to do by hand (.md, .html); alone, print it.", "[FILE]")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Trace an optimizer line by line, with the numbers in every line: on a loss, or in a real training run."""
    from ravine.explain.terminal import console, print_trace

    by_name = {"beta1": beta1, "beta2": beta2, "eps": eps, "momentum": momentum, "weight_decay": weight_decay}
    on_a_loss = {"x0": x0, "loss": loss, "decay": decay, "set": set_ or None, **by_name}
    named = {"data": data, "model": model, "tokenizer": tokenizer, "base": base}
    in_a_run = {"parameter": parameter, "element": element, "gradient": gradient, "option": option or None, **named}
    with wrong_call():
        if exercise not in (None, "-") and not str(exercise).endswith(ENDINGS):
            raise ValueError(f"--exercise: the file of a worksheet ends in .md or .html, got {exercise!r}")
        if checkpoint is None:
            _refuse(in_a_run, "belongs to a training run, and --checkpoint is missing")
            made = _on_a_loss(name, x0, loss, steps, decay, {"lr": lr, **by_name}, set_ or [])
        else:
            _refuse(on_a_loss, "belongs to a loss; a training run has its own settings, and --lr alone may be another")
            from ravine.explain.at_checkpoint import trace_checkpoint

            made = trace_checkpoint(
                checkpoint, parameter, element, steps, rule=name, lr=lr, gradient=gradient, **named,
                **task_options(option or []),
            )  # fmt: skip
        _write(made, markdown, html, exercise)
    if json_file is not None:
        write_json(made.as_dict(), json_file)
    if "-" not in (json_file, exercise):
        print_trace(made, console())


def _refuse(given: Mapping[str, Any], why: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"--{name.replace('_', '-')} {why}")


def _on_a_loss(
    name: str | None,
    x0: Any,
    loss: str | None,
    steps: int,
    decay: Decay | None,
    by_name: Mapping[str, float | None],
    others: list[str],
) -> Trace:
    from ravine.explain.trace import trace as trace_of
    from ravine.optim.written import parse_settings
    from ravine.registry import lookup

    if name is None:
        raise ValueError("Missing argument 'NAME': a rule, such as adamw")
    rule = lookup(name)
    hyper = {key: value for key, value in by_name.items() if value is not None} | parse_settings(rule, others)
    return trace_of(rule, loss, 2.0 if x0 is None else x0, steps, decay=decay, **hyper)


def _write(made: Trace, markdown: str | None, html: str | None, exercise: str | None) -> None:
    """Write the files that are asked for, and a worksheet without a file to standard output."""
    from ravine.lab.files import write_given

    if markdown is not None:
        from ravine.explain import trace_markdown

        write_given(markdown, trace_markdown.markdown(made), "--markdown")
    if html is not None:
        from ravine.explain import trace_page

        write_given(html, trace_page.html(made), "--html")
    if exercise is None:
        return
    from ravine.explain import trace_markdown
    from ravine.explain.worksheet import worksheet

    sheet = worksheet(made)
    if exercise == "-":
        sys.stdout.write(trace_markdown.worksheet(sheet))
    elif exercise.endswith(".md"):
        write_given(exercise, trace_markdown.worksheet(sheet), "--exercise")
    else:
        from ravine.explain import trace_page

        write_given(exercise, trace_page.worksheet(sheet), "--exercise")
