"""Watching an optimizer at work: every so many steps, the rule is called once more, and what it does is measured.

The rule itself says what it sees and does: it is called as the reference engine calls it, on the parameters, gradients
and states of the step that is about to be taken. Nothing of the run is changed.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ravine.engine.batch import Batch, Partials, Unsupported, add_up
from ravine.engine.graph import goes_by_rows, trace
from ravine.engine.reference import arguments
from ravine.engine.symbols import REDUCTIONS
from ravine.explain.follow import Told, followed
from ravine.explain.source import own_function
from ravine.explain.watch.measures import Spread, norm, rms, singular_values
from ravine.explain.watch.recording import FORMAT, KIND, Writer
from ravine.explain.watch.tensorboard import Board
from ravine.math import ZERO, Apart, Origin, Totals, has, plain, sweeping
from ravine.optim.base import Optimizer
from ravine.optim.layout import Bucket
from ravine.rule import Rule

ELEMENTS = 65_536
SPECTRA = 2
LARGEST_SPECTRUM = 1024
"""Of the shorter side of a matrix whose singular values are computed: a tenth of a second on one core."""


class _Entry(NamedTuple):
    """One matrix or tensor that a rule is called on: a parameter, or a block of one."""

    name: str
    batch: Batch
    place: int


class _Move(NamedTuple):
    """What a step does to a tensor: its gradient, the update without weight decay, weight decay, and `lr`."""

    gradient: Tensor
    moved: Tensor
    decayed: Tensor
    lr: float


class Watch:
    """An optimizer that is being watched; made by `watch`, ended by `close` or by the end of a `with` block."""

    def __init__(
        self, optimizer: Optimizer, names: Mapping[Tensor, str], every: int, writer: Writer | None, board: Board | None,
        elements: int, spectra: int,
    ) -> None:  # fmt: skip
        self.optimizer = optimizer
        self.every = every
        self._names = names
        self._writer, self._board = writer, board
        self._elements = elements
        self._spectra = spectra
        self._operations: dict[tuple[Rule, int], set[str] | None] = {}
        self._followed: dict[Rule, Rule] = {}
        self._orthogonalized: list[Tensor] = []
        self._open = ExitStack()
        self._open.enter_context(optimizer.observed(self._observe))

    def close(self) -> None:
        """Stop watching; the optimizer goes on unwatched."""
        self._open.close()
        for end in (self._writer, self._board):
            if end is not None:
                end.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _observe(self, buckets: list[Bucket]) -> None:
        step = max((bucket.batch.t for bucket in buckets), default=0)
        if step and (step == 1 or step % self.every == 0):
            sample = self._sample(step, buckets)
            if self._writer is not None:
                self._writer.add(sample)
            if self._board is not None:
                self._board.add(sample)

    def _sample(self, step: int, buckets: list[Bucket]) -> dict[str, Any]:
        entries = list(self._entries(buckets))
        parameters, spectra = {}, {}
        looked_at: dict[str, dict[str, list[Tensor]]] = {}
        shown = self._with_spectra(entries)
        for entry, (g, moved, decayed, lr) in zip(entries, self._moves(entries, shown), strict=True):
            change = moved + decayed
            some = {"direction": self._some(moved) / lr if lr else self._some(moved), "step": self._some(change),
                    "gradient": self._some(g)}  # fmt: skip
            for kind, x in some.items():
                looked_at.setdefault(entry.batch.rule.name, {}).setdefault(kind, []).append(x)
            whole = entry.batch.parameters[entry.place]
            weight = rms(whole)
            parameters[entry.name] = _finite({
                "weight_norm": norm(whole), "weight_rms": weight, "gradient_rms": rms(g), "update_rms": rms(change),
                "decay_rms": rms(decayed), "relative_update": rms(change) / weight if weight else None,
                "step_size": float(some["step"].abs().median()) if change.numel() else None,
            })  # fmt: skip
            if entry.name in shown:
                matrices = {"gradient": g, "update": change}
                if self._orthogonalized:
                    matrices = {"gradient": g, "before": self._orthogonalized[0], "update": change}
                found = {kind: singular_values(x) for kind, x in matrices.items()}
                spectra[entry.name] = {kind: values for kind, values in found.items() if values is not None}
        return {
            "step": step,
            "lr": {g["rule"]: float(g["lr"]) for g in self.optimizer.param_groups if "lr" in g},
            "parameters": parameters,
            "spreads": {
                rule: {kind: Spread.of(torch.cat([x.double().cpu() for x in xs])).as_dict() for kind, xs in of.items()}
                for rule, of in looked_at.items()
            },
            "spectra": spectra,
        }

    def _entries(self, buckets: list[Bucket]) -> Iterator[_Entry]:
        """All tensors of the step, in the order of the parameters' names."""
        order = {name: i for i, name in enumerate(self._names.values())}
        found = []
        for bucket in buckets:
            owners = bucket.owners
            seen: dict[int, int] = {}
            for place, owner in enumerate(owners):
                block = seen[id(owner)] = seen.get(id(owner), -1) + 1
                name = self._names[owner]
                cut = sum(other is owner for other in owners) > 1
                found.append((order[name], block, _Entry(f"{name}[{block}]" if cut else name, bucket.batch, place)))
        return (entry for _, _, entry in sorted(found, key=lambda item: item[:2]))

    def _with_spectra(self, entries: list[_Entry]) -> set[str]:
        """The matrices whose singular values are kept: of those that are orthogonalized, if any; else of all."""
        matrices = [e for e in entries if self._is_matrix(e)]
        matrices = [e for e in matrices if _orthogonalizes(e.batch.rule)] or matrices
        places = {round(i * (len(matrices) - 1) / max(1, self._spectra - 1)) for i in range(self._spectra)}
        return {matrices[place].name for place in places if matrices}

    @staticmethod
    def _is_matrix(entry: _Entry) -> bool:
        shape = entry.batch.rule.seen_shape(tuple(entry.batch.parameters[entry.place].shape))
        return len(shape) == 2 and 1 < min(shape) <= LARGEST_SPECTRUM

    def _some(self, x: Tensor) -> Tensor:
        return x.reshape(-1)[:: max(1, x.numel() // self._elements)]

    def _moves(self, entries: list[_Entry], whole: set[str]) -> Iterator[_Move]:
        """What each tensor's rule does, to all its elements where its name is in `whole`.

        Totals over all parameters are summed in sweeps first, as engines do.
        """
        known: Partials = {}
        while any(self._asks_totals(entry) for entry in entries):
            sweep = Totals(known)
            with sweeping(sweep):
                for entry in entries:
                    sweep.next_parameter()
                    self._move(entry, whole)
            if not sweep.unanswered:
                break
            add_up(known, sweep.collected)
        last = Totals(known)
        for entry in entries:
            with sweeping(last):
                last.next_parameter()
                moved = self._move(entry, whole)
            yield moved

    def _move(self, entry: _Entry, whole: set[str]) -> _Move:
        batch = entry.batch
        p, g, states, keywords = arguments(batch, entry.place)
        thinning = max(1, p.numel() // self._elements)
        if thinning > 1 and entry.name not in whole and self._works_by_elements(entry):
            shape = p.shape
            p, g, *states = (_thinned(x, shape, thinning) for x in (p, g, *states))
            keywords = {name: _thinned(x, shape, thinning) for name, x in keywords.items()}
        decay = keywords.get("weight_decay", ZERO)
        if has(decay) and not isinstance(decay, Tensor):
            keywords["weight_decay"] = Apart(ZERO, decay)
        self._orthogonalized.clear()
        result = self._telling(batch.rule)(Origin(p), g, *states, **keywords)[0]
        parts = (result.moved, result.decayed) if isinstance(result, Origin) else (p - plain(result), ZERO)
        moved, decayed = (x if isinstance(x, Tensor) else torch.zeros_like(p) for x in parts)
        return _Move(g, moved, decayed, float(keywords.get("lr", 1.0)))

    def _telling(self, rule: Rule) -> Rule:
        """The rule, which leaves what it orthogonalizes behind."""
        if rule not in self._followed:

            def tell(told: Told) -> None:
                for node in ast.walk(told.formula):
                    if isinstance(node, ast.Call) and ast.unparse(node.func) == "orthogonalize":
                        code = compile(ast.fix_missing_locations(ast.Expression(node.args[0])), "before", "eval")
                        self._orthogonalized.append(plain(eval(code, dict(told.names))))

            self._followed[rule] = followed(rule, tell) if _orthogonalizes(rule) else rule
        return self._followed[rule]

    def _works_by_elements(self, entry: _Entry) -> bool:
        """Whether a rule treats each element for itself, so that some of them tell what happens to all."""
        operations = self._operations_of(entry)
        return operations is not None and not operations & {*REDUCTIONS, "rows"}

    def _asks_totals(self, entry: _Entry) -> bool:
        operations = self._operations_of(entry)
        return operations is None or "total" in operations

    def _operations_of(self, entry: _Entry) -> set[str] | None:
        batch = entry.batch
        key = (batch.rule, min(2, batch.parameters[entry.place].ndim))
        if key not in self._operations:
            self._operations[key] = _operations(batch.rule, {**batch.rule.defaults, **batch.hyper}, key[1])
        return self._operations[key]


def _thinned(x: Any, shape: torch.Size, by: int) -> Any:
    return x.reshape(-1)[::by] if isinstance(x, Tensor) and x.shape == shape else x


def _orthogonalizes(rule: Rule | None) -> bool:
    if rule is None:
        return False
    return "orthogonalize" in own_function(rule).__code__.co_names or _orthogonalizes(rule.base)


def _operations(rule: Rule, hyper: Mapping[str, Any], ndim: int) -> set[str] | None:
    """The operations of a rule's graph, `"rows"` among them where it looks at more than elements; None without one."""
    host = {symbol: 1.0 for symbol, s in rule.state.items() if s.kind in ("host", "shared")}
    known = {**hyper, **host, "t": 2, "ndim": ndim, "rows": 2.0, "columns": 2.0}
    try:
        _, tape = trace(rule, known, frozenset(rule.state) - frozenset(rule.absent_states(hyper, (2, 2))), ())
    except (TypeError, Unsupported):
        return None
    return {node.op for node in tape.nodes} | ({"rows"} if goes_by_rows(rule, hyper, ndim) else set())


def _finite(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Six digits of each; JSON has no infinity and no NaN: they are null."""
    return {k: float(f"{v:.6g}") if v is not None and math.isfinite(v) else None for k, v in values.items()}


def watch(
    optimizer: torch.optim.Optimizer,
    file: str | Path | None = None,
    *,
    model: nn.Module | None = None,
    every: int = 100,
    tensorboard: Any = None,
    overwrite: bool = False,
    elements: int = ELEMENTS,
    spectra: int = SPECTRA,
) -> Watch:
    """Watch a ravine optimizer in a training loop: what it sees, how far it moves what, and how weights grow.

    At the first step and at every `every`-th, the rule is called once more on what the step is given, and measured are,
    for each parameter: the norm of the weights; the RMS of weights, gradient, update and weight decay; the update
    relative to the weights; the median step size. For each rule: how the magnitudes of the direction (the update
    without learning rate and weight decay; in Adam m̂ / (√v̂ + ε)), of the steps and of the gradient are spread. For some
    matrices, where there are any those that the rule orthogonalizes: the singular values of gradient and update, and of
    what goes into an orthogonalization.

    Args:
        optimizer: any optimizer of ravine.
        file: where the recording goes, a line of JSON for each sample; `ravine watch FILE` shows it. If the optimizer
            was loaded from a checkpoint, a recording that is there goes on from that step.
        model: gives the parameters their names, where the optimizer was not given named parameters.
        every: how many steps lie between samples.
        tensorboard: a `SummaryWriter`, or a folder to write events to.
        overwrite: whether a new run may replace the recording of another.
        elements: where a rule treats each element for itself, about so many of a tensor are looked at.
        spectra: of how many matrices singular values are kept; 0 for none.

    Returns:
        The watch; `close()` it at the end, or use it in a `with` statement.

    Raises:
        TypeError: for an optimizer that is not ravine's.
        ValueError: for a number out of range, neither file nor TensorBoard, or a file that may not be replaced.

    Example:
        >>> import tempfile, ravine
        >>> model = nn.Linear(4, 3)
        >>> optimizer = ravine.AdamW(model.parameters())
        >>> file = Path(tempfile.mkdtemp()) / "run.jsonl"
        >>> with watch(optimizer, file, model=model, every=2):
        ...     for _ in range(4):
        ...         model(torch.ones(1, 4)).sum().backward()
        ...         optimizer.step()
        >>> from ravine.explain.watch import read
        >>> read(file).steps
        [1, 2, 4]
    """
    if not isinstance(optimizer, Optimizer):
        kind = f"{type(optimizer).__module__}.{type(optimizer).__qualname__}"
        raise TypeError(f"optimizer must be one of ravine's, which can be asked what its rule does; got {kind}")
    for argument, value, least in (("every", every, 1), ("elements", elements, 1), ("spectra", spectra, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{argument} must be a whole number from {least} on, got {value!r}")
    if file is None and tensorboard is None:
        raise ValueError("watch needs a place to write to: file, tensorboard, or both")
    names = _names(optimizer, model)
    header = {
        "kind": KIND, "format": FORMAT, "optimizer": optimizer.rule.name, "every": every,
        "parameters": {
            names[p]: {"shape": list(p.shape), "rule": group["rule"], "sampled": min(p.numel(), elements)}
            for group in optimizer.param_groups for p in group["params"]
        },
    }  # fmt: skip
    step = max((int(state["step"]) for state in optimizer.state.values() if "step" in state), default=0)
    writer = None if file is None else Writer(Path(file), header, step, overwrite)
    board = None if tensorboard is None else Board(tensorboard)
    return Watch(optimizer, names, every, writer, board, elements, spectra)


def _names(optimizer: Optimizer, model: nn.Module | None) -> dict[Tensor, str]:
    """A name for each parameter, in the model's order: the optimizer's own, the model's, or its place."""
    known = {} if model is None else {p: name for name, p in model.named_parameters()}
    names: dict[Tensor, str] = {}
    for group in optimizer.param_groups:
        given = group.get("param_names") or [None] * len(group["params"])
        for p, name in zip(group["params"], given, strict=True):
            names[p] = name or known.get(p) or f"parameter {len(names)}"
    in_order = [p for p in known if p in names]
    return {p: names[p] for p in (*in_order, *(p for p in names if p not in known))}
