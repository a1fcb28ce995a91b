"""The command watch: what an optimizer saw and did in a training run."""

from __future__ import annotations

from typing import Annotated

import typer

from ravine.cli.common import JsonFile, app, failing, write_json, wrong_call


@app.command()
def watch(
    recordings: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Recordings that ravine.watch has written.")
    ],
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write charts as a page to FILE.")] = None,
    tensorboard: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Write all samples as TensorBoard's events to FOLDER.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Show what an optimizer saw: step sizes, updates and weights layer by layer, singular values.

    In your training loop, `ravine.watch(optimizer, "run.jsonl", model=model)` makes the recording.
    """
    from ravine.explain.terminal import console
    from ravine.explain.watch.page import html as page_of
    from ravine.explain.watch.page import print_recording
    from ravine.explain.watch.recording import read
    from ravine.explain.watch.tensorboard import Board
    from ravine.lab.files import write_given

    with wrong_call():
        found = [read(file) for file in recordings]
        if html is not None:
            write_given(html, page_of(found), "--html")
        board = None if tensorboard is None else Board(tensorboard)
    if board is not None:
        with failing():
            for recording in found:
                for sample in recording.samples:
                    board.add(sample)
            board.close()
    if json_file is not None:
        write_json([recording.as_dict() for recording in found], json_file)
    if json_file != "-":
        for recording in found:
            print_recording(recording, console())
