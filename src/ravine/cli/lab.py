"""Commands of the laboratory: compare, worker, report."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from ravine.cli.common import INTERRUPTED, JsonFile, app, failing, number, whole, write_json, wrong_call
from ravine.cli.options import (
    Base,
    Batch,
    Clip,
    Data,
    Device,
    Model,
    Quiet,
    Schedule,
    Size,
    Steps,
    TaskOptions,
    Tokenizer,
    Warmup,
    flag,
    task_options,
    text,
)

STORAGE = "RAVINE_STORAGE"
"""The environment variable that a storage URL may come in: a command line is seen by everyone on the machine."""


@app.command()
def compare(
    arms: Annotated[
        list[str],
        typer.Argument(
            metavar="ARM...",
            help="Such as adamw, or adamw:beta2=0.95 (with lr: not tuned); or a study's file, study.toml.",
        ),
    ],
    task: Annotated[str | None, text("lm (default), sft, dpo, digits, ridge, quadratic, rosenbrock, online.")] = None,
    size: Size = None,
    data: Data = None,
    model: Model = None,
    tokenizer: Tokenizer = None,
    base: Base = None,
    option: TaskOptions = None,
    steps: Steps = None,
    batch: Batch = None,
    trials: Annotated[int | None, whole("Runs that search for each arm's settings; default 8.")] = None,
    seeds: Annotated[int | None, whole("Judged runs of each arm; default 5.")] = None,
    seed: Annotated[int | None, whole("Of the whole study; another one has other points and runs.")] = None,
    over: Annotated[str | None, text("What is searched for; default lr,beta2.", "NAMES")] = None,
    space: Annotated[
        list[str] | None, text("Where: lr=1e-4..1e-2, or adamw.beta2=0.9|0.95; may be repeated.", "NAME=PLACE")
    ] = None,
    sampler: Annotated[str | None, text("quasi-random (default), grid or tpe.")] = None,
    retuned: Annotated[int | None, whole("Best settings that are run on more tuning seeds; default 2.")] = None,
    tuning_seeds: Annotated[int | None, whole("Tuning seeds of these; default 3.")] = None,
    horizons: Annotated[str | None, text("Judge shorter whole runs too: 0.5,0.75 of the steps.", "PARTS")] = None,
    baseline: Annotated[bool | None, flag("Add a tuned adamw where there is none.", "baseline")] = None,
    controls: Annotated[bool | None, flag("Add each arm once more without weight decay.", "controls")] = None,
    schedule: Schedule = None,
    warmup: Warmup = None,
    clip: Clip = None,
    accumulate: Annotated[int | None, whole("Parts that a batch is computed in.")] = None,
    precision: Annotated[str | None, text("auto (default), float32, bfloat16 or float16.")] = None,
    target: Annotated[
        float | None, number("The loss to reach; default: the baseline's mean + 1 standard deviation.")
    ] = None,
    device: Device = None,
    workers: Annotated[int | None, whole("Processes that make runs at the same time.")] = None,
    processes: Annotated[int | None, whole("Processes of one run, under torchrun; default 1.")] = None,
    executor: Annotated[str | None, text("local (default) or ray.")] = None,
    storage: Annotated[
        str | None, text(f"Of the trials: postgresql://...; default: a file. May come in ${STORAGE}.", "URL")
    ] = None,
    log: Annotated[str | None, text("Write the judged curves for tensorboard or wandb too.")] = None,
    out: Annotated[str | None, text("For the trials and the report; default: ravine-compare/STUDY.", "DIR")] = None,
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> None:
    """Find out which optimizer trains a model best, with which settings, and what it costs."""
    given = {name: value for name, value in locals().items() if name not in ("out", "quiet", "json_file", "log")}
    from ravine.bench.settings import require_place_for
    from ravine.lab.comparison import prepare
    from ravine.lab.terminal import console, print_result, progress_bar

    with wrong_call():
        if json_file is not None:
            require_place_for(json_file)
        given["storage"] = storage or os.environ.get(STORAGE)
        comparison = prepare(**_plain(given), out=out, log=log)
    comparison.redactor.install()
    try:
        with failing(comparison.redactor.text), progress_bar(quiet) as shown:
            result = comparison.run(shown)
    except KeyboardInterrupt:
        print(f"ravine: {comparison.interrupted()}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if json_file is not None:
        write_json(result, json_file)
    if json_file != "-":
        print_result(result, comparison.report, console())


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    """Lists that are written as one text, taken apart; what was not given left out."""
    options = {name: value for name, value in given.items() if value is not None}
    for name, kind in (("over", str), ("horizons", float)):
        if name in options:
            try:
                options[name] = tuple(kind(part.strip()) for part in options[name].split(",") if part.strip())
            except ValueError:
                raise ValueError(f"{name} is a list of numbers such as 0.5,0.75, got {options[name]!r}") from None
    if "space" in options:
        options["space"] = _space(options["space"])
    if "option" in options:
        options["options"] = task_options(options.pop("option"))
    return options


def _space(written: list[str]) -> dict[str, Any]:
    space: dict[str, Any] = {}
    for one in written:
        name, equals, place = one.partition("=")
        arm, dot, setting = name.strip().rpartition(".")
        if not equals or not setting:
            raise ValueError(f"--space is written lr=1e-4..1e-2 or adamw.lr=1e-4..1e-2, got {one!r}")
        (space.setdefault(arm, {}) if dot else space)[setting] = place.strip()
    return space


@app.command()
def worker(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's folder, or its name in the storage.")],
    storage: Annotated[
        str | None, text(f"Where its trials are, unless in the folder. May come in ${STORAGE}.", "URL")
    ] = None,
    data: Annotated[str | None, text("Where its data is on this machine.", "PATH")] = None,
    model: Annotated[str | None, text("Its model, where that is a file of yours: path.py:build.", "MODEL")] = None,
    base: Annotated[str | None, text("Where its base checkpoint is on this machine.", "PATH")] = None,
    threads: Annotated[int | None, whole("Of this worker; default: all cores.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing of each run.")] = False,
) -> None:
    """Join a study: make runs until every run it plans is made. Works on any machine that reaches the storage."""
    from ravine.lab.study.join import join

    with wrong_call():
        joined = join(study, storage or os.environ.get(STORAGE), data=data, model=model, base=base, threads=threads)
    joined.redactor.install()
    with failing(joined.redactor.text):
        joined.work(quiet)


@app.command()
def report(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY...", help="Folders of studies, or their result.json.")],
    out: Annotated[str | None, text("Where the page goes; default: the study's folder.", "DIR")] = None,
    export: Annotated[str | None, text("Write tables and charts too: csv, png or csv,png.", "FORMATS")] = None,
) -> None:
    """Write the report of a study again, or one that compares several; export its tables and charts."""
    from ravine.lab.report import report as make
    from ravine.lab.terminal import console

    with wrong_call():
        page = make(studies, out, tuple(part.strip() for part in (export or "").split(",") if part.strip()))
    console().print(f"report: {page}", soft_wrap=True)
