"""The command line: thin, one function per command.

Exit codes: 0 done, 1 the work failed, 2 the call was wrong, 130 interrupted. Whatever is wrong with a call is said in
one sentence on standard error. Every command that prints a result takes `--json FILE`, `-` being standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from ravine.rule import Decay

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
    """Within this block, a KeyError, TypeError or ValueError means that the call was wrong, and says why."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise WrongCall(str(error.args[0] if error.args else error)) from error


def write_json(result: Any, file: str) -> None:
    """Write a result as JSON, to standard output or to a file that appears whole or not at all."""
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if file == "-":
        sys.stdout.write(text)
        return
    path = Path(file)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise WrongCall(f"--json: {file} cannot be written: {error.strerror}") from error


@app.command("list")
def list_optimizers(json_file: JsonFile = None) -> None:
    """List the optimizers: name, paper, state bytes per parameter, engines."""
    from ravine.explain.overview import listing
    from ravine.explain.terminal import console, print_list

    rows = listing()
    if json_file is not None:
        write_json(rows, json_file)
    if json_file != "-":
        print_list(rows, console())


@app.command()
def show(name: Name, json_file: JsonFile = None) -> None:
    """Show the equations of an optimizer, from its source, with its settings, states and weight decay."""
    from ravine.explain.equations import show as shown_of
    from ravine.explain.terminal import console, print_shown

    with wrong_call():
        shown = shown_of(name)
    if json_file is not None:
        write_json(shown.as_dict(), json_file)
    if json_file != "-":
        print_shown(shown, console())


@app.command()
def trace(
    name: Name,
    x0: Annotated[float, number("Where θ starts.")] = 2.0,
    loss: Annotated[str, typer.Option(help="The loss, an expression in x.")] = "(x-1)**2",
    steps: Annotated[int, typer.Option(help="How many steps.", parser=_whole, metavar="NUMBER")] = 1,
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
    json_file: JsonFile = None,
) -> None:
    """Trace an optimizer on a loss of one number, line by line, with the numbers in every line."""
    from ravine.explain.terminal import console, print_trace
    from ravine.explain.trace import trace as trace_of
    from ravine.optim.written import parse_settings
    from ravine.registry import lookup

    common = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps, "momentum": momentum, "weight_decay": weight_decay}
    with wrong_call():
        rule = lookup(name)
        hyper = {key: value for key, value in common.items() if value is not None} | parse_settings(rule, set_ or [])
        made = trace_of(rule, loss, x0, steps, decay=decay, **hyper)
    if json_file is not None:
        write_json(made.as_dict(), json_file)
    if json_file != "-":
        print_trace(made, console())


@app.command()
def doctor(json_file: JsonFile = None) -> None:
    """Say what ravine finds on this machine, which engine it will use, and why."""
    from ravine.explain.overview import doctor as examine
    from ravine.explain.terminal import console, print_doctor

    facts = examine()
    if json_file is not None:
        write_json(facts, json_file)
    if json_file != "-":
        print_doctor(facts, console())


@app.command()
def compare(
    arms: Annotated[
        list[str],
        typer.Argument(metavar="ARM...", help="Such as adamw, or adamw:beta2=0.95; with lr, not tuned."),
    ],
    task: Annotated[str, typer.Option(help="lm: predict the next byte of a text.")] = "lm",
    data: Annotated[
        str | None, typer.Option(help="A file or folder of UTF-8 text; default: Python's standard library.")
    ] = None,
    size: Annotated[str, typer.Option(help="The model: small (0.9 M parameters), or tiny for a try.")] = "small",
    steps: Annotated[
        int | None, typer.Option(help="Steps of a run; default 120, tiny 40.", parser=_whole, metavar="NUMBER")
    ] = None,
    batch: Annotated[int, typer.Option(help="Windows of text a step.", parser=_whole, metavar="NUMBER")] = 8,
    trials: Annotated[
        int, typer.Option(help="Runs that search for each arm's learning rate.", parser=_whole, metavar="NUMBER")
    ] = 5,
    seeds: Annotated[int, typer.Option(help="Judged runs of each arm.", parser=_whole, metavar="NUMBER")] = 5,
    target: Annotated[
        float | None, number("The loss to reach; default: the baseline's mean + 1 standard deviation.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="For runs and report; default: ravine-compare/ARMS-HASH.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Train a small transformer with each optimizer, and say which was best and what it cost."""
    from ravine.bench.settings import require_place_for
    from ravine.lab import prepare
    from ravine.lab.terminal import console, print_result, progress_bar

    with wrong_call():
        if json_file is not None:
            require_place_for(json_file)
        comparison = prepare(
            arms, task=task, data=data, size=size, steps=steps, batch=batch, trials=trials, seeds=seeds, target=target,
            out=out,
        )  # fmt: skip
    try:
        with progress_bar() as progress:
            result = comparison.run(progress)
    except KeyboardInterrupt:
        print(f"ravine: {comparison.interrupted()}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    except OSError as error:
        raise typer.TyperException(f"{error.filename or comparison.out}: {error.strerror or error}") from error
    if json_file is not None:
        write_json(result, json_file)
    if json_file != "-":
        print_result(result, comparison.report, console())


@app.command()
def schedule(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="constant, linear, cosine, wsd, inverse_sqrt or inverse.")
    ],
    steps: Annotated[int, typer.Option(help="Steps of the run.", parser=_whole, metavar="NUMBER")] = 1000,
    lr: Annotated[float, number("The peak learning rate.")] = 1.0,
    warmup: Annotated[int | None, typer.Option(help="Steps of warm-up.", parser=_whole, metavar="NUMBER")] = None,
    floor: Annotated[float | None, number("Where it ends, as a fraction of the peak.")] = None,
    decay_steps: Annotated[
        int | None, typer.Option(help="wsd: steps of decay.", parser=_whole, metavar="NUMBER")
    ] = None,
    tail: Annotated[str | None, typer.Option(help="wsd: linear, 1-sqrt or cosine.")] = None,
    timescale: Annotated[float | None, number("inverse, inverse_sqrt: steps.")] = None,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write the curve as a page to FILE.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Draw a learning rate schedule."""
    from ravine.explain.schedules import draw, print_drawing, write_page
    from ravine.explain.terminal import console

    with wrong_call():
        drawing = draw(
            name, steps, lr, warmup_steps=warmup, floor=floor, decay_steps=decay_steps, tail=tail, timescale=timescale
        )
        if html is not None:
            write_page(drawing, html)
    if json_file is not None:
        write_json(drawing.as_dict(), json_file)
    if json_file != "-":
        print_drawing(drawing, console())


@app.command()
def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Such as adamw or sgd:momentum=0.9; default: the usual ones."),
    ] = None,
    shapes: Annotated[
        str | None, typer.Option(help="gpt: 98 tensors, 34 M parameters; small: 1000 tensors of 256 elements.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="Rounds of steps, of one ratio each.", parser=_whole, metavar="NUMBER")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of each side in a round.", parser=_whole, metavar="NUMBER")
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, reference, native or triton.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda, xpu or mps.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(help="Threads of torch and ravine alike.", parser=_whole, metavar="NUMBER")
    ] = None,
    peers: Annotated[bool, typer.Option(help="Time other installed libraries too.")] = True,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, to see that everything runs.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if a bound of the project is missed.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Time each optimizer's step against torch's fused AdamW, side by side, and the machine's streaming ceiling."""
    from ravine.bench.measure import Measurement
    from ravine.bench.settings import require_place_for, settings_of
    from ravine.bench.terminal import console, print_checks, print_measurement, progress_bar

    with wrong_call():
        if json_file is not None:
            require_place_for(json_file)
        measurement = Measurement(
            settings_of(
                names or (), shapes=shapes, rounds=rounds, steps=steps, engine=engine, dtype=dtype, device=device,
                threads=threads, peers=peers, quick=quick, check=check,
            )
        )  # fmt: skip
    try:
        with progress_bar(measurement.units) as progress:
            measurement.run(progress)
    except KeyboardInterrupt:
        if json_file != "-":
            print_measurement(measurement, console())
        raise
    except RuntimeError as error:
        raise typer.TyperException(str(error)) from error
    result = measurement.as_dict()
    if json_file is not None:
        write_json(result, json_file)
    if json_file != "-":
        print_measurement(measurement, console())
        if check:
            print_checks(measurement.checks, console())
    if check and not all(each.met for each in measurement.checks):
        raise typer.Exit(1)
