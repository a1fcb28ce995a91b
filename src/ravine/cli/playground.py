"""The command playground: optimizers on landscapes, in a page."""

from __future__ import annotations

from typing import Annotated

import typer

from ravine.cli.common import app, wrong_call


@app.command()
def playground(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAMES]...",
            help='Rules that the page offers, such as "lookahead(cautious(adamw))"; default all of them, and wrappers.',
        ),
    ] = None,
    out: Annotated[str, typer.Option(metavar="FILE", help="Where the page is written.")] = "playground.html",
) -> None:
    """Write the playground: one page that runs optimizers on landscapes, line by line, without a network."""
    from rich.console import Console
    from rich.progress import Progress

    from ravine.explain.playground import page
    from ravine.explain.terminal import console
    from ravine.lab.files import write_given

    screen = Console(stderr=True)
    with wrong_call(), Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        shown = bar.add_task("Tracing the rules", total=None)
        made = page(names or (), on_rule=lambda done, total: bar.update(shown, completed=done, total=total))
        write_given(out, made, "--out")
    console().print(f"The playground is in {out}; open it in a browser.", highlight=False)
