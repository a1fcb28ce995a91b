"""Commands that train one model and use it: train, generate."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ravine.cli.common import INTERRUPTED, JsonFile, WrongCall, app, number, whole, write_json, wrong_call

if TYPE_CHECKING:
    from ravine.lab.single import Single
    from ravine.lab.training import Outcome
    from ravine.lab.training.run import OnEvaluation, OnStep


@app.command()
def train(
    optimizer: Annotated[
        str, typer.Argument(metavar="OPTIMIZER", help="Such as muon, or adamw:lr=0.003,weight_decay=0.1.")
    ] = "adamw",
    task: Annotated[str, typer.Option(help="What to learn: lm, sft, dpo, digits, ...")] = "lm",
    size: Annotated[str, typer.Option(help="tiny, small or base.")] = "small",
    data: Annotated[
        str | None, typer.Option(metavar="PATH", help="A file or folder in place of the task's own.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Your own: path.py:build, or hf:DIR.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="bytes, bpe:4096, or a tokenizer's file.")] = None,
    base: Annotated[
        str | None, typer.Option(metavar="CHECKPOINT", help="The model that post-training begins with.")
    ] = None,
    steps: Annotated[int | None, whole("Steps of the optimizer; default by task and size.")] = None,
    batch: Annotated[int | None, whole("Examples a step, over all micro-batches and processes.")] = None,
    accumulate: Annotated[int, whole("Micro-batches of a step in each process.")] = 1,
    lr: Annotated[float | None, number("The learning rate; default the middle of where compare searches.")] = None,
    schedule: Annotated[str, typer.Option(help="constant, linear, cosine, wsd, inverse_sqrt or inverse.")] = "linear",
    warmup: Annotated[float, number("Part of the steps in which the learning rate rises.")] = 0.1,
    floor: Annotated[float, number("Where the schedule ends, as a part of the learning rate.")] = 0.0,
    clip: Annotated[float | None, number("Largest norm of the gradient, 0 for any; default by task.")] = None,
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16, or float16 on a GPU.")] = "auto",
    ema: Annotated[float | None, number("Decay of an average of the weights, at which the model is used.")] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the model with torch.compile.")] = False,
    seed: Annotated[int, whole("Of the weights and of the order of the data.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    every: Annotated[int | None, whole("Steps between checkpoints; default a tenth of the run.")] = None,
    log: Annotated[str | None, typer.Option(metavar="KIND", help="Also write curves to tensorboard or wandb.")] = None,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="Default: ravine-train/TASK-OPTIMIZER-HASH.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Train one model and keep it; the same command goes on where it was interrupted. Also runs under torchrun."""
    from ravine.bench.settings import require_place_for
    from ravine.lab.single import prepare
    from ravine.lab.tasks import make
    from ravine.lab.training.distributed import joined
    from ravine.lab.training.precision import chosen_device

    with wrong_call():
        if json_file is not None:
            require_place_for(json_file)
        device = chosen_device(device)
    with joined(device) as processes:
        with wrong_call():
            single = prepare(
                make(task, size=size, data=data, model=model, tokenizer=tokenizer, base=base), optimizer, lr=lr,
                steps=steps, batch=batch, accumulate=accumulate, schedule=schedule, warmup=warmup, floor=floor,
                clip=clip, precision=precision, ema=ema, compile=compile, seed=seed, device=device, out=out,
            )  # fmt: skip
        try:
            with _progress(single, quiet=not processes.first) as (on_step, on_evaluation):
                outcome = single.run(on_step, on_evaluation, checkpoint_every=every, log=log)
        except ValueError as error:
            raise WrongCall(str(error)) from error
        except OSError as error:
            raise typer.TyperException(f"{error.filename or single.folder}: {error.strerror or error}") from error
        except KeyboardInterrupt:
            print(f"ravine: interrupted; the same command goes on from {single.checkpoint}", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        if not processes.first:
            return
    if json_file is not None:
        write_json(single.record(outcome), json_file)
    _say(single, outcome, quiet=json_file == "-")


@app.command()
def generate(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Of ravine train on a text.")],
    prompt: Annotated[str, typer.Option(help="The text to go on from.")] = "\n",
    tokens: Annotated[int, whole("How many new tokens.")] = 256,
    temperature: Annotated[float, number("0 for the likeliest token always; above 1, bolder.")] = 1.0,
    top_k: Annotated[int | None, whole("Draw from this many likeliest tokens alone.")] = None,
    seed: Annotated[int | None, whole("For the same text each time.")] = None,
    cache: Annotated[bool, typer.Option(help="Keep keys and values instead of reading the text again.")] = True,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Where your own model is: path.py:build.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Let a language model go on with a text; it is shown as it is made."""
    import torch

    from ravine.lab.models import generate as new_tokens
    from ravine.lab.training import load_model
    from ravine.lab.training.stream import pieces

    with wrong_call():
        network, tokenizer = load_model(Path(checkpoint), model)
        if tokenizer is None:
            raise ValueError(f"{checkpoint} holds a model that does not read text")
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        made = new_tokens(
            network, tokenizer.encode(prompt), tokens, temperature=temperature, top_k=top_k, generator=generator,
            cache=cache,
        )  # fmt: skip
    shown, text, start = json_file != "-", prompt, time.perf_counter()
    if shown:
        print(prompt, end="", flush=True)
    try:
        for piece in pieces(made, tokenizer):
            text += piece
            if shown:
                print(piece, end="", flush=True)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except ValueError as error:
        raise typer.TyperException(str(error)) from error
    finally:
        if shown:
            print()
    if json_file is not None:
        seconds = time.perf_counter() - start
        write_json({"prompt": prompt, "text": text, "tokens": tokens, "tokens_per_second": tokens / seconds}, json_file)


@contextmanager
def _progress(single: Single, quiet: bool) -> Iterator[tuple[OnStep | None, OnEvaluation | None]]:
    """Progress on standard error: a line for each evaluation, and in a terminal a bar with the time that is left."""
    if quiet:
        yield None, None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    steps, unit = single.recipe.steps, single.task.unit
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task("training", total=steps)

        def on_evaluation(step: int, figures: dict[str, float]) -> None:
            speed = figures["units"] / figures["seconds"]
            shown = {name: value for name, value in figures.items() if name not in ("units", "seconds")}
            values = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in shown.items())
            line = f"step {step:>{len(str(steps))}}/{steps}  {values}  {speed:,.0f} {unit}s/s"
            console.print(line, soft_wrap=True, markup=False)

        yield lambda step: progress.update(bar, completed=step), on_evaluation


def _say(single: Single, outcome: Outcome, quiet: bool) -> None:
    """What came of it, on standard output; what went wrong, as an error."""
    for note in outcome.notes:
        print(f"ravine: {note}", file=sys.stderr)
    if outcome.failed is not None:
        raise typer.TyperException(f"training failed: {outcome.failed}")
    if outcome.diverged:
        where = "" if outcome.diverged_at is None else f" by step {outcome.diverged_at}"
        raise typer.TyperException(f"training diverged{where}; try a smaller lr, or a longer warm-up")
    if quiet:
        return
    figures = {name: value for name, value in outcome.metrics.items() if name != "loss" and value is not None}
    more = "".join(f", {name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())
    speed = f"{outcome.units_per_second:,.0f} {single.task.unit}s/s"
    print(f"{single.optimizer}: loss {outcome.final_loss:.4f} ({single.task.loss_name}){more}")
    print(f"{outcome.seconds:.1f} s, {speed}; kept in {single.checkpoint}")
