"""What the commands print: Rich in a terminal, plain text elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ravine.explain import traced
from ravine.explain.difference import AT_DEFAULTS, MARKS, Difference
from ravine.explain.equations import Equation, Shown
from ravine.explain.trace import Step, Trace
from ravine.explain.tree import Family, Kin, summary
from ravine.explain.typeset import is_scalar, number, symbol
from ravine.explain.vectors import written

PLAIN_WIDTH = 240  # a file or a pipe has no edge at which lines should break


def console() -> Console:
    """The console of this moment's standard output."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def _table(*headers: str) -> Table:
    """A table without lines; the header is left out where all its cells are empty."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), show_header=any(headers), header_style="dim")
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def _indented(console: Console, what: Any) -> None:
    console.print(Padding(what, (0, 0, 0, 2), expand=False))


def _heading(console: Console, words: str) -> None:
    console.print()
    console.print(Text(words, style="bold"))


def value_of(value: Any) -> str:
    """A setting's value, to read."""
    return number(value) if is_scalar(value) else str(value)


def print_list(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The optimizers, a line each."""
    table = _table("name", "paper", "state bytes", "engines")
    table.columns[2].justify = "right"
    for row in rows:
        table.add_row(
            Text(row["name"], style="bold cyan"),
            row["paper"],
            str(row["state_bytes_per_param"]),
            ", ".join(row["engines"]),
        )
    console.print(table)
    console.print()
    console.print(Text("State bytes: per parameter, float32, default settings. More: ravine show NAME", style="dim"))


def print_shown(shown: Shown, console: Console) -> None:
    """The equations of a rule and what belongs to them."""
    facts = shown.info
    console.print(Text.assemble((facts.title, "bold cyan"), f": {facts.summary}"))
    console.print(Text(facts.paper, style="dim"))
    if facts.preset_of is not None:
        console.print(Text(f"The rule of {facts.preset_of} with other defaults.", style="dim"))
    if shown.parent is not None:
        console.print(Text(f"A change of {shown.parent}. {shown.reason or ''}".rstrip(), style="dim"))

    _heading(console, "One step: θ is the parameter, g its gradient, t the step from 1")
    for section in shown.sections:
        if len(shown.sections) > 1:
            _indented(console, Text(section.name, style="italic"))
        for line in section.lines:
            _indented(console, _equation(line, extra=len(shown.sections) > 1))

    _heading(console, "Settings")
    table = _table("", "", "")
    for name, value in shown.hyper.items():
        own = name.rsplit(".", 1)[-1]
        table.add_row(Text(symbol(own), style="cyan"), name if symbol(own) != name else "", value_of(value))
    _indented(console, table)

    _heading(console, f"States: {facts.state_bytes_per_param} bytes per float32 parameter with these settings")
    table = _table("", "in a state dict", "bytes per parameter")
    for state in shown.states:
        size = str(state.bytes_per_param) if state.present else "not with these settings"
        table.add_row(Text(symbol(state.symbol.rsplit(".", 1)[-1]), style="cyan"), state.key, size)
    if shown.states:
        _indented(console, table)

    if shown.decays:
        _heading(console, f"Weight decay: customary is {facts.decay!r}; before the step, decay=... puts")
        table = _table("", "", "")
        for decay in shown.decays:
            puts = decay.line.text if decay.line is not None else "nothing"
            table.add_row(Text(decay.name, style="bold cyan" if decay.customary else "cyan"), puts, decay.meaning)
        _indented(console, table)


def _equation(line: Equation, extra: bool) -> Text:
    left, arrow, right = line.text.partition(" ← ")
    margin = "  " * (line.indent + extra)
    return Text.assemble(margin, (left, "cyan" if arrow else "italic"), arrow, right)


CHANGED = {"same": ("", ""), "removed": ("red", "bold reverse red"), "added": ("green", "bold reverse green")}


def print_difference(difference: Difference, console: Console) -> None:
    """The lines of a rule against another's, coloured, with the words in which counterparts differ turned around."""
    new, old = difference.rule, difference.against
    console.print(Text.assemble((new.title, "bold green"), " against ", (old.title, "bold red")))
    console.print(Text(AT_DEFAULTS, style="dim"))
    console.print()
    several = difference.has_sections
    section = None
    for line in difference.lines:
        if several and line.section != section:
            _indented(console, Text(line.section, style="italic"))
        section = line.section
        plain, changed = CHANGED[line.kind]
        words = [(piece.text, changed if piece.changed else plain) for piece in line.pieces]
        _indented(console, Text.assemble("  " * several, (MARKS[line.kind], plain), *words))
    if difference.is_same:
        console.print(Text("The lines are the same.", style="dim"))
    if difference.settings:
        _heading(console, "Settings with other defaults")
        table = _table("", old.title, new.title)
        for name, (before, after) in difference.settings.items():
            table.add_row(name, Text(value_of(before), style="red"), Text(value_of(after), style="green"))
        _indented(console, table)


def print_tree(family: Family, console: Console) -> None:
    """The rules as a tree, each with what it changes, and the wrappers."""

    def grow(kin: Kin, branch: Tree) -> None:
        for child in kin.children:
            words = Text.assemble((child.rule.title, "bold cyan"), "  ", (child.rule.reason or "", "dim"))
            grow(child, branch.add(words, guide_style="dim"))

    root = family.root.rule
    branch = Tree(Text.assemble((root.title, "bold cyan"), "  ", (root.summary, "dim")), guide_style="dim")
    grow(family.root, branch)
    console.print(branch)
    _heading(console, "Around any rule")
    table = _table("", "")
    for wrapper in family.wrappers:
        table.add_row(Text(wrapper.title, style="bold cyan"), Text(summary(wrapper), style="dim"))
    _indented(console, table)


def print_trace(trace: Trace, console: Console) -> None:
    """Every step as a table of its lines, then what became of θ and the loss."""
    problem = traced.problem(trace)
    formula = ("" if problem is None else f" {problem.text}", "bold")
    console.print(Text.assemble((trace.rule.title, "bold cyan"), f" {traced.where(trace)}", formula))
    for line in traced.about(trace):
        console.print(Text(line))
    for step in trace.steps:
        _print_step(step, trace, console)


def _print_step(step: Step, trace: Trace, console: Console) -> None:
    _heading(console, f"Step {step.t}")
    table = _table("", "formula", "with the numbers", "value")
    table.columns[0].no_wrap = True
    nested = traced.is_nested(trace)
    for begun, line in traced.headed(step.lines):
        for depth, name in begun if nested else ():
            table.add_row(Text("  " * depth + name, style="italic"))
        margin = "  " * len(line.section) if nested else ""
        table.add_row(
            Text.assemble(margin, (symbol(line.symbol), "cyan")),
            traced.formula(line).text,
            Text.assemble(traced.substituted(line).text, (f"   {line.remark}" if line.remark else "", "dim")),
            Text(written(line.value), style="bold"),
        )
    _indented(console, table)
    words: list[Any] = ["θ: ", written(step.theta_before), " → ", (written(step.theta_after), "bold green")]
    if step.loss_before is not None and step.loss_after is not None:
        loss = "loss L(θ): " if trace.place is None else "loss of this batch: "
        words += [f"     {loss}", number(step.loss_before), " → ", (number(step.loss_after), "bold green")]
    _indented(console, Text.assemble(*words))


def print_doctor(facts: Mapping[str, Any], console: Console) -> None:
    """What was found on the machine, and what follows from it."""
    cache = facts["cache"]
    rows = {
        **facts["versions"],
        "system": facts["system"],
        "threads": f"{facts['threads']} (torch.get_num_threads)",
        "C++ compiler": facts["compiler"] or "none found",
        "Triton": facts["triton"] or "not installed",
        "GPU": ", ".join(facts["gpus"]) or "none that torch can use",
        "kernel cache": cache.get("problem") or f"{cache['folder']}, {cache['kernels']} kernels",
    }
    table = _table("", "")
    for name, found in rows.items():
        table.add_row(name, str(found))
    console.print(table)
    _heading(console, "Engines that engine='auto' takes")
    table = _table("", "", "")
    for device, taken in facts["devices"].items():
        table.add_row(device, Text(taken["engine"], style="bold green"), taken["why"])
    _indented(console, table)
    for device, found in facts["orthogonalization"].items():
        _heading(console, f"How Muon orthogonalizes on {device}, by measured speeds")
        table = _table("", "")
        for name, value in found.items():
            table.add_row(name, value)
        _indented(console, table)
