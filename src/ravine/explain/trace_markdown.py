"""Traces and worksheets as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from ravine.explain import traced
from ravine.explain.trace import Step, Trace
from ravine.explain.typeset import number, symbol
from ravine.explain.vectors import written
from ravine.explain.worksheet import Row, Worksheet


def markdown(trace: Trace) -> str:
    """A trace: problem, start, settings, and a table for each step."""
    lines = [f"# {trace.rule.title}, line by line", "", *_problem(trace), *_facts(trace)]
    for step in trace.steps:
        lines += ["", f"## Step {step.t}", "", *_table(trace, step), "", _result(trace, step)]
    return "\n".join([*lines, "", "Made by", "", *_command(trace), ""])


def worksheet(sheet: Worksheet) -> str:
    """An exercise, the solution last, after a rule that begins a new page in print."""
    trace = sheet.trace
    lines = [f"# {sheet.title}", "", "Name: ______________________  Date: ______________", "", "## Given", ""]
    lines += [*_problem(trace), *_facts(trace), "", *_equations(sheet)]
    if sheet.words:
        lines += ["", *(f"* `{word}`: {meaning}" for word, meaning in sheet.words.items())]
    lines += ["", "## Asked", "", f"{ASKED} t is the step, counted from 1.", ""]
    for step, rows in zip(trace.steps, sheet.steps, strict=True):
        blank = ["| equation | | with the numbers | value |", "| ---: | --- | --- | --- |"]
        blank += [f"| ({row.number}) | {row.symbol.text} | | {_given(row)} |" for row in rows]
        lines += [f"### Step {step.t}", "", *blank, ""]
    lines += ["## Check", "", *_check(trace), "This command prints the solution:", "", *_command(trace)]
    lines += ["", PAGE_BREAK, "", "## Solution", ""]
    for step, rows in zip(trace.steps, sheet.steps, strict=True):
        lines += [f"### Step {step.t}", "", *_solution(rows), "", _result(trace, step), ""]
    return "\n".join(lines)


ASKED = "Compute the value of every line, in this order, to six significant digits."
PAGE_BREAK = '<div style="break-after: page"></div>'


def _problem(trace: Trace) -> list[str]:
    problem = traced.problem(trace)
    if problem is None:
        return [f"{trace.rule.title} {traced.where(trace)}.", ""]
    return [f"{trace.rule.title} {traced.where(trace)}", "", "```math", problem.latex, "```", ""]


def _facts(trace: Trace) -> list[str]:
    return [*(f"* {line}" for line in traced.about(trace)), f"* Source: {trace.rule.paper}"]


def _equations(sheet: Worksheet) -> list[str]:
    lines = []
    for equation in sheet.equations:
        when = rf" \quad \text{{(step {', '.join(map(str, equation.steps))})}}" if equation.steps else ""
        section = rf"\textit{{{equation.section}:}} \quad " if equation.section else ""
        lines.append(rf"({equation.number}) \quad & {section}{equation.text.latex}{when} \\".replace("_}", r"\_}"))
    return ["```math", r"\begin{aligned}", *lines, r"\end{aligned}", "```"]


def _table(trace: Trace, step: Step) -> list[str]:
    nested = traced.is_nested(trace)
    rows = ["| | formula | with the numbers | value |", "| --- | --- | --- | --- |"]
    for begun, line in traced.headed(step.lines):
        rows += [f"| *{name}* | | | |" for _, name in begun if nested]
        numbers = _code(traced.substituted(line).text) + (f" ({line.remark})" if line.remark else "")
        formula = line.said or _code(traced.formula(line).text)
        rows.append(f"| {symbol(line.symbol)} | {formula} | {numbers} | {written(line.value)} |")
    return rows


def _solution(rows: Sequence[Row]) -> list[str]:
    made = ["| equation | | with the numbers | value |", "| ---: | --- | --- | --- |"]
    for row in rows:
        numbers = _code(row.substituted.text) + (f" ({row.remark})" if row.remark else "")
        made.append(f"| ({row.number}) | {row.symbol.text} | {numbers} | {row.value.text} |")
    return made


def _given(row: Row) -> str:
    return f"{row.value.text} (given)" if row.given else ""


def _check(trace: Trace) -> list[str]:
    """What tells that the values are right without saying them."""
    lines = [
        f"* Put your last value of step {step.t} into the loss: L(θ) must be {number(step.loss_after)}."
        for step in trace.steps
        if step.loss_after is not None and trace.place is None
    ]
    return [*lines, ""] if lines else []


def _result(trace: Trace, step: Step) -> str:
    result = f"θ: {written(step.theta_before)} → **{written(step.theta_after)}**"
    if step.loss_before is None or step.loss_after is None:
        return result
    loss = "L(θ)" if trace.place is None else "loss of this batch"
    return f"{result}, {loss}: {number(step.loss_before)} → **{number(step.loss_after)}**"


def _command(trace: Trace) -> list[str]:
    return ["```bash", traced.command(trace), "```"]


def _code(text: str) -> str:
    """A formula in a cell of a table."""
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""
