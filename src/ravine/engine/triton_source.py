"""Triton kernels as text: one function per pass and stage, over the same tables as the C++ kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from ravine.engine.emit import Printer
from ravine.engine.plan import Pass, Stage
from ravine.engine.symbols import REDUCTIONS, Node

POINTEE = {
    torch.float32: "tl.float32", torch.float64: "tl.float64", torch.bfloat16: "tl.uint16", torch.float16: "tl.float16"
}  # fmt: skip

HEADER = """\
import triton
import triton.language as tl


@triton.jit
def from_bfloat16(bits):
    return (bits.to(tl.uint32) << 16).to(tl.float32, bitcast=True)


@triton.jit
def to_bfloat16(x):
    bits = x.to(tl.uint32, bitcast=True)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return tl.where(x != x, 0x7FC0, rounded).to(tl.uint16)
"""

COMBINE = """\
import triton
import triton.language as tl


@triton.jit(do_not_specialize=["place", "width", "results_width"])
def combine(partials, results, first_chunk, counts, place, width, results_width, BLOCK: tl.constexpr):
    i = tl.program_id(0)
    first = tl.load(first_chunk + i)
    count = tl.load(counts + i)
    sums = tl.zeros([BLOCK], dtype=tl.float64)
    for start in range(0, count, BLOCK):
        offsets = start + tl.arange(0, BLOCK)
        sums += tl.load(partials + (first + offsets) * width + place, mask=offsets < count, other=0.0)
    tl.store(results + i * results_width + place, tl.sum(sums, axis=0))
"""

FINISH_COLUMNS = """\
import triton
import triton.language as tl


@triton.jit(do_not_specialize=["place"])
def finish_columns(column_sums, column_values, first_sum, widths, counts, rows, offsets, first_value, all_sums,
                   all_columns, place, vector, BLOCK: tl.constexpr):
    c = tl.program_id(0)
    width = tl.load(widths + c)
    column = tl.load(offsets + c) + tl.arange(0, BLOCK)
    inside = column < width
    sums = tl.zeros([BLOCK], dtype=tl.float64)
    first = column_sums + place * all_sums + tl.load(first_sum + c)
    for chunk in range(0, tl.load(counts + c)):
        sums += tl.load(first + chunk * width + column, mask=inside, other=0.0)
    means = (sums / tl.load(rows + c).to(tl.float64)).to(column_values.dtype.element_ty)
    tl.store(column_values + vector * all_columns + tl.load(first_value + c) + column, means, mask=inside)
"""

TABLE = "pointers, tensors, sizes, chunk_tensor, chunk_start, row, scalars, partials, results, totals"
ROW_TABLE = (
    "rows, columns, chunk_rows, row_at, column_at, matrix_at, sums_at, all_rows, all_columns, matrices, all_sums, "
    "row_values, column_values, matrix_values, column_sums"
)
ZEROS = "sums = tl.zeros([BLOCK], dtype=tl.float64)"
COUNTS = {"row": "all_rows", "column": "all_columns", "matrix": "matrices"}


class TritonPrinter(Printer):
    """Spells a program in Triton."""

    templates: ClassVar[Mapping[str, str]] = {
        "add": "{0} + {1}", "subtract": "{0} - {1}", "multiply": "{0} * {1}", "negative": "-{0}", "abs": "tl.abs({0})",
        "sign": "tl.where({0} > 0, 1.0, tl.where({0} < 0, -1.0, {0}))",
        "maximum": "tl.where(({0} > {1}) | ({0} != {0}), {0}, {1})",
        "minimum": "tl.where(({0} < {1}) | ({0} != {0}), {0}, {1})", "where": "tl.where({0}, {1}, {2})",
        "greater": "{0} > {1}", "less": "{0} < {1}", "greater_equal": "{0} >= {1}", "less_equal": "{0} <= {1}",
        "equal": "{0} == {1}", "not_equal": "{0} != {1}", "and": "{0} & {1}", "or": "{0} | {1}", "not": "~{0}",
    }  # fmt: skip

    @property
    def work(self) -> str:
        return "tl.float64" if self.program.work == torch.float64 else "tl.float32"

    def rounded(self, text: str) -> str:
        return f"{text}.to({self.work})"

    def constant(self, value: float) -> str:
        text = repr(value) if math.isfinite(value) else f"float('{value}')"
        return f"tl.full([], {text}, tl.float64)"

    def expression(self, node: Node) -> str:
        """Triton's plain division and root of float32 are approximate; double's are exact."""
        args = [self.operand(a, node) for a in node.args]
        double = node.type_ == "double" or self.work == "tl.float64"
        if node.op == "divide":
            return f"{args[0]} / {args[1]}" if double else f"tl.div_rn({args[0]}, {args[1]})"
        if node.op == "sqrt":
            return f"tl.sqrt({args[0]})" if double else f"tl.sqrt_rn({args[0]})"
        if node.op in ("exp", "log"):
            return self.rounded(f"tl.{node.op}({args[0]}.to(tl.float64))")
        return self.templates[node.op].format(*args)

    def source(self) -> str:
        """The whole module, with a kernel `pass_k` for each pass and `stage_k` for each stage that computes vectors."""
        plan = self.program.plan
        if not self.program.by_rows:
            return "\n\n".join([HEADER, *(self._flat_pass(k, step) for k, step in enumerate(plan.passes))])
        passes = [self._row_pass(k, step) for k, step in enumerate(plan.passes)]
        stages = [self._stage(k, stage) for k, stage in enumerate(plan.stages)]
        return "\n\n".join([HEADER, *passes, *stages])

    def _tensor(self) -> list[str]:
        """What passes and stages look up for tensor i."""
        return [
            "size = tl.load(sizes + i)",
            f"s = scalars + tl.load(row + i) * {max(len(self.slots), 1)}",
            f"result = results + i * {max(len(self.results), 1)}",
        ]

    def _pointer(self, name: str) -> str:
        place, pointee = self.places[name], POINTEE[self.program.leaves[name]]
        return f"x{place} = tl.load(pointers + {place} * tensors + i).to(tl.pointer_type({pointee}))"

    def _flat_pass(self, k: int, step: Pass) -> str:
        lines = [
            '@triton.jit(do_not_specialize=["tensors"])',
            f"def pass_{k}({TABLE}, BLOCK: tl.constexpr):",
            "    c = tl.program_id(0)",
            "    i = tl.load(chunk_tensor + c)",
            *(f"    {line}" for line in self._tensor()),
            "    at = tl.load(chunk_start + c) + tl.arange(0, BLOCK)",
            "    inside = at < size",
        ]
        full = dict.fromkeys([*step.loads, *step.reloads.values(), *step.stores])
        lines += [f"    {self._pointer(name)}" for name in full]
        lines += [f"    {self.name(node)} = {self._uniform(node)}" for node in step.uniform]
        lines += [f"    {line}" for line in self._elements(step)]
        for r in step.reductions:
            lines.append(f"    tl.store({self._partial(r)}, tl.sum({self._summand(r)}, axis=0))")
        return "\n".join([*lines, ""])

    def _partial(self, node: Node) -> str:
        return f"partials + c * {len(self.partials)} + {self.partials[node]}"

    def _summand(self, node: Node) -> str:
        value = f"tl.where(inside, {self.name(node.args[0])}.to(tl.float64), 0.0)"
        return f"{value} * {value}" if node.op in ("norm", "rms") else value

    def _elements(self, step: Pass) -> list[str]:
        """Loads, operations and stores of one tile."""
        loaded = {n: n.payload for n in step.body if n.op == "leaf"} | step.reloads
        return [
            *(f"{self.name(node)} = {self._load(name)}" for node, name in loaded.items()),
            *(f"{self.name(node)} = {self.expression(node)}" for node in self.element_order(step)),
            *(self._store(name, node) for name, node in step.stores.items()),
        ]

    def _row_pass(self, k: int, step: Pass) -> str:
        """A chunk is up to ROWS rows of one matrix; it is gone through in tiles of ROWS × BLOCK."""
        lines = [
            '@triton.jit(do_not_specialize=["tensors"])',
            f"def pass_{k}({TABLE}, {ROW_TABLE}, ROWS: tl.constexpr, BLOCK: tl.constexpr):",
            "    c = tl.program_id(0)",
            "    i = tl.load(chunk_tensor + c)",
            *(f"    {line}" for line in self._tensor()),
            "    n = tl.load(columns + i)",
            "    first_row = tl.load(chunk_start + c) // n",
            "    matrix = first_row // tl.load(rows + i)",
            "    r = first_row + tl.arange(0, ROWS)",
            "    in_rows = tl.arange(0, ROWS) < tl.load(chunk_rows + c)",
        ]
        full = dict.fromkeys([*step.loads, *step.reloads.values(), *step.stores])
        lines += [f"    {self._pointer(name)}" for name in full]
        lines += [f"    {self.name(node)} = {self._uniform(node)}" for node in step.uniform]
        vectors = {kind: [n for n in step.vectors if n.kind == kind] for kind in COUNTS}
        lines += [f"    {line}" for n in step.vectors for line in self._vector_pointer(n)]
        lines += [f"    {self.name(n)} = {self._vector_load(n, 'matrix')}" for n in vectors["matrix"]]
        lines += [f"    {self.name(n)} = {self._vector_load(n, 'r', 'in_rows')}[:, None]" for n in vectors["row"]]
        for r in step.reductions:
            if r.kind != "column":
                lines.append(
                    f"    a{r.index} = tl.full({'[ROWS]' if r.kind == 'row' else '[]'}, 0.0, dtype=tl.float64)"
                )
        lines += [
            "    for start in range(0, n, BLOCK):",
            "        j = start + tl.arange(0, BLOCK)",
            "        inside = in_rows[:, None] & (j < n)[None, :]",
            "        at = r[:, None] * n + j[None, :]",
        ]
        lines += [
            f"        {self.name(n)} = {self._vector_load(n, 'matrix * n + j', 'j < n')}[None, :]"
            for n in vectors["column"]
        ]
        lines += [f"        {line}" for line in self._elements(step)]
        for r in step.reductions:
            if r.kind == "column":
                sums = f"column_sums + {self.column_sums[r]} * all_sums + tl.load(sums_at + c) + j"
                lines.append(f"        tl.store({sums}, tl.sum({self._summand(r)}, axis=0), mask=j < n)")
            else:
                axis = ", axis=1" if r.kind == "row" else ""
                lines.append(f"        a{r.index} += tl.sum({self._summand(r)}{axis})")
        for r in step.reductions:
            if r.kind == "row":
                lines += [f"    {line}" for line in self._vector_pointer(r)]
                mean = self.rounded(f"(a{r.index} / n.to(tl.float64))")
                lines.append(f"    tl.store(v{r.index} + r, {mean}, mask=in_rows)")
            elif r.kind != "column":
                lines.append(f"    tl.store({self._partial(r)}, a{r.index})")
        return "\n".join([*lines, ""])

    def _vector_pointer(self, node: Node) -> list[str]:
        """Where a vector of tensor i begins: that of a leaf, or one that stages and row means keep."""
        if node.op == "leaf":
            place, pointee = self.places[node.payload], POINTEE[self.program.leaves[node.payload]]
            return [f"v{node.index} = tl.load(pointers + {place} * tensors + i).to(tl.pointer_type({pointee}))"]
        kind = node.kind
        first = f"{kind}_values + {self.vectors[node]} * {COUNTS[kind]} + tl.load({kind}_at + i)"
        return [f"v{node.index} = {first}"]

    def _vector_load(self, node: Node, at: str, mask: str | None = None) -> str:
        text = f"tl.load(v{node.index} + {at}" + (f", mask={mask}, other=0)" if mask else ")")
        return self._converted(text, self.program.leaves[node.payload]) if node.op == "leaf" else text

    def _stage(self, k: int, stage: Stage) -> str:
        """One program per tensor goes through its vectors; a barrier between two lets each see those before."""
        lines = [
            '@triton.jit(do_not_specialize=["tensors"])',
            f"def stage_{k}({TABLE}, {ROW_TABLE}, BLOCK: tl.constexpr):",
            "    i = tl.program_id(0)",
            *(f"    {line}" for line in self._tensor()),
            "    m = tl.load(rows + i)",
            "    n = tl.load(columns + i)",
            "    stacked = size // (m * n)",
        ]
        for target in stage.vectors:
            if not target.is_swept:
                lines += self._vector(target, stage)
        if k == len(self.program.plan.passes):
            for name, node in self.program.plan.vector_stores.items():
                lines += self._vector_store(name, node, stage)
        return "\n".join([*lines, ""])

    def _vector(self, target: Node, stage: Stage) -> list[str]:
        below = self.below(target, stage)
        if target.op not in REDUCTIONS:
            store = [f"tl.store(v{target.index} + at, {self.name(target)}, mask=inside)"]
            return self._over(target.kind, below, self._vector_pointer(target), store, computing=target)
        over = target.args[0]
        added = [f"sums += {self._summand(target)}"]
        if target in self.results:
            after = [f"tl.store(result + {self.results[target]}, tl.sum(sums, axis=0))"]
            return self._over(over.kind, below, [ZEROS], added, after=after)
        count = "m" if over.kind == "row" else "n"
        mean = self.rounded(f"(tl.sum(sums, axis=0) / {count}.to(tl.float64))")
        store = [f"tl.store(v{target.index} + b, {mean})"]
        return self._over(over.kind, below, self._vector_pointer(target), added, before=[ZEROS], after_each=store)

    def _vector_store(self, name: str, node: Node, stage: Stage) -> list[str]:
        kind = self.program.graph.kinds[name]
        below = [node] if node in self.vectors else self.below(node, stage)
        return self._over(kind, below, [self._pointer(name)], [self._store(name, node)])

    def _over(
        self,
        kind: str,
        nodes: list[Node],
        setup: list[str],
        body: list[str],
        before: Sequence[str] = (),
        after_each: Sequence[str] = (),
        after: Sequence[str] = (),
        computing: Node | None = None,
    ) -> list[str]:
        """A loop over all values of a kind, matrix by matrix, with these nodes computed where they are constant."""
        kept = {n for n in nodes if n is not computing and (n.op == "leaf" or n in self.vectors)}
        lines = [line for n in sorted(kept, key=lambda n: n.index) for line in self._vector_pointer(n)]
        lines += [f"{self.name(n)} = {self._uniform(n)}" for n in nodes if n.kind not in COUNTS]

        def computed(kind: str, at: str, mask: str | None) -> list[str]:
            return [
                f"{self.name(n)} = {self._vector_load(n, at, mask) if n in kept else self.expression(n)}"
                for n in nodes
                if n.kind == kind
            ]

        along = {"row": "m", "column": "n", "matrix": "1"}[kind]
        inner = [] if kind == "matrix" else computed(kind, "at", "inside")
        lines += [
            *setup, "for b in range(0, stacked):",
            *(f"    {line}" for line in (*computed("matrix", "b", None), *before)),
            f"    for start in range(0, {along}, BLOCK):", "        place = start + tl.arange(0, BLOCK)",
            f"        at = b * {along} + place", f"        inside = place < {along}",
            *(f"        {line}" for line in (*inner, *body)), *(f"    {line}" for line in after_each), *after,
            "tl.debug_barrier()",
        ]  # fmt: skip
        return [f"    {line}" for line in lines]

    def _uniform(self, node: Node) -> str:
        if node.op == "slot":
            return f"tl.load(s + {self.slots[node.payload]})"
        if node.op == "constant":
            return self.constant(node.payload)
        if node.op == "total":
            return f"tl.load(totals + {self.totals.index(node.payload)})"
        if node.op in REDUCTIONS:
            sums = f"tl.load(result + {self.results[node]})"
            count = {
                "full": "size", "row": "(size // tl.load(columns + i))", "column": "(size // tl.load(rows + i))",
                "matrix": "(size // (tl.load(rows + i) * tl.load(columns + i)))",
            }[node.args[0].kind]  # fmt: skip
            mean = f"{sums} / {count}.to(tl.float64)"
            finished = {"sum": sums, "norm": f"tl.sqrt({sums})", "mean": f"({mean})", "rms": f"tl.sqrt({mean})"}
            return self.rounded(finished[node.op])
        return self.expression(node)

    def _converted(self, text: str, dtype: torch.dtype) -> str:
        """What a load gives, in the work type."""
        if dtype == torch.bfloat16:
            text = f"from_bfloat16({text})"
        return text if dtype == self.program.work else f"{text}.to({self.work})"

    def _load(self, name: str) -> str:
        text = f"tl.load(x{self.places[name]} + at, mask=inside, other=0)"
        return self._converted(text, self.program.leaves[name])

    def _store(self, name: str, node: Node) -> str:
        dtype = self.program.leaves[name]
        value = self.rounded(self.name(node))
        if dtype == torch.bfloat16:
            value = f"to_bfloat16({value}.to(tl.float32))"
        elif dtype != self.program.work:
            value = f"{value}.to({POINTEE[dtype]})"
        return f"tl.store(x{self.places[name]} + at, {value}, mask=inside)"
