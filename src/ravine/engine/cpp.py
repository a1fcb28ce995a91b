"""C++ kernels: one function per pass, over a table of tensors cut into chunks, and one per stage between them.

Where something is one value per row or column, chunks are whole rows of one matrix and a pass goes row by row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from ravine.engine.emit import Printer
from ravine.engine.plan import Pass, Stage
from ravine.engine.symbols import REDUCTIONS, Node

CHUNK = 16384
COLUMN_CHUNK = 65536
"""Elements of a chunk where columns are added up: each leaves a sum per column, which has to be small beside it."""
LEAST_ROWS = 16
"""The fewest rows of such a chunk, for the same reason."""

STORAGE = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "bf16", torch.float16: "_Float16"}

PRELUDE = """\
#include <cmath>
#include <cstdint>
typedef float f32;
typedef double f64;
struct bf16 { uint16_t bits; };
struct Table {
  const uint64_t* pointers; int64_t tensors; const int64_t* sizes;
  const int32_t* chunk_tensor; const int64_t* chunk_start;
  const int32_t* row; const double* scalars; double* partials; double* results; const double* totals;
  const int64_t* rows; const int64_t* columns; const int32_t* chunk_rows; const int64_t* first_chunk;
  const int64_t* row_at; const int64_t* column_at; const int64_t* matrix_at; const int64_t* sums_at;
  int64_t all_rows; int64_t all_columns; int64_t matrices; int64_t all_sums;
  void* row_values; void* column_values; void* matrix_values; double* column_sums;
};
template <class T> static inline W load(T x) { return (W)x; }
template <> inline W load<bf16>(bf16 x) { return (W)__builtin_bit_cast(f32, (uint32_t)x.bits << 16); }
template <class T> static inline T store(W x) { return (T)x; }
template <> inline bf16 store<bf16>(W w) {
  const f32 x = (f32)w;
  const uint32_t u = __builtin_bit_cast(uint32_t, x);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return bf16{(uint16_t)(x != x ? 0x7fc0u : rounded)};
}
"""


class CppPrinter(Printer):
    """Spells a program in C++."""

    templates: ClassVar[Mapping[str, str]] = {
        "add": "{0} + {1}", "subtract": "{0} - {1}", "multiply": "{0} * {1}", "divide": "{0} / {1}", "negative": "-{0}",
        "sqrt": "std::sqrt({0})", "abs": "std::fabs({0})", "exp": "(W)std::exp((double){0})",
        "log": "(W)std::log((double){0})", "sign": "{0} > 0 ? (W)1 : {0} < 0 ? (W)-1 : {0}",
        "maximum": "({0} > {1}) | ({0} != {0}) ? {0} : {1}", "minimum": "({0} < {1}) | ({0} != {0}) ? {0} : {1}",
        "where": "{0} ? {1} : {2}", "greater": "{0} > {1}", "less": "{0} < {1}", "greater_equal": "{0} >= {1}",
        "less_equal": "{0} <= {1}", "equal": "{0} == {1}", "not_equal": "{0} != {1}", "and": "{0} & {1}",
        "or": "{0} | {1}", "not": "!{0}",
    }  # fmt: skip

    def rounded(self, text: str) -> str:
        return f"(W){text}"

    def constant(self, value: float) -> str:
        if math.isfinite(value):
            return value.hex() if value else repr(value)
        return "NAN" if math.isnan(value) else "INFINITY" if value > 0 else "-INFINITY"

    def type_of(self, node: Node) -> str:
        return {"work": "W", "bool": "bool", "double": "double"}[node.type_]

    def source(self) -> str:
        """The translation unit: `pass_k`(table, first, last) over chunks, `finish_k` and `stage_k` over tensors."""
        work = "double" if self.program.work == torch.float64 else "float"
        plan = self.program.plan
        passes = [self._pass(k, step) for k, step in enumerate(plan.passes)]
        passes += [
            self._finish(k, step) for k, step in enumerate(plan.passes) if any(map(self.is_summed, step.reductions))
        ]
        stages = [self._stage(k, stage) for k, stage in enumerate(plan.stages)] if self.program.by_rows else []
        return "\n".join([f"typedef {work} W;", PRELUDE.rstrip(), *passes, *stages, ""])

    def _pass(self, k: int, step: Pass) -> str:
        by_rows = self.program.by_rows
        lines = [
            f'extern "C" void pass_{k}(const Table* table, int64_t first, int64_t last) {{',
            "  for (int64_t c = first; c < last; ++c) {",
            "    const int64_t i = table->chunk_tensor[c], start = table->chunk_start[c], size = table->sizes[i];",
            *(f"    {line}" for line in self._tensor()),
        ]
        if by_rows:
            lines += [
                "    const int64_t n = table->columns[i], first_row = start / n;",
                "    const int64_t matrix = first_row / table->rows[i], last_row = first_row + table->chunk_rows[c];",
                "    (void)matrix;",
            ]
        else:
            lines.append(f"    const int64_t n = size - start < {CHUNK} ? size - start : {CHUNK};")
        full = dict.fromkeys([*step.loads, *step.reloads.values(), *step.stores])
        lines += [f"    {line}" for name in full for line in self._pointer(name, "start")]
        lines += [f"    {line}" for line in self._vector_pointers(step.vectors)]
        lines += [f"    {line}" for node in step.uniform for line in self._uniform(node)]
        sums = [r for r in step.reductions if r in self.partials]
        lines += [f"    double a{self.partials[r]} = 0;" for r in sums]
        lines += [f"    {line}" for r in step.reductions if r.kind == "column" for line in self._column_sum(r)]
        lines += self._loops(step)
        width = len(self.partials)
        lines += [f"    table->partials[c * {width} + {self.partials[r]}] = a{self.partials[r]};" for r in sums]
        return "\n".join([*lines, "  }", "}"])

    def is_summed(self, node: Node) -> bool:
        """Whether a reduction leaves one sum per chunk."""
        return node in self.partials

    def _finish(self, k: int, step: Pass) -> str:
        """Add up what the chunks of pass k have left, in their order."""
        places = [self.partials[r] for r in step.reductions if self.is_summed(r)]
        width, results = len(self.partials), max(len(self.results), 1)
        lines = [
            f'extern "C" void finish_{k}(const Table* table, int64_t first, int64_t last) {{',
            "  for (int64_t i = first; i < last; ++i) {",
            *(f"    double a{place} = 0;" for place in places),
            "    for (int64_t c = table->first_chunk[i]; c < table->first_chunk[i + 1]; ++c) {",
            *(f"      a{place} += table->partials[c * {width} + {place}];" for place in places),
            "    }",
            *(f"    table->results[i * {results} + {place}] = a{place};" for place in places),
        ]
        return "\n".join([*lines, "  }", "}"])

    def _tensor(self) -> list[str]:
        """What both passes and stages look up for tensor i."""
        return [
            f"const double* s = table->scalars + (int64_t)table->row[i] * {max(len(self.slots), 1)};",
            f"double* result = table->results + i * {max(len(self.results), 1)};",
            "(void)s; (void)result; (void)size;",
        ]

    def _pointer(self, name: str, offset: str) -> list[str]:
        storage, place = STORAGE[self.program.leaves[name]], self.places[name]
        return [
            f"{storage}* __restrict x{place} = "
            f"reinterpret_cast<{storage}*>(table->pointers[{place} * table->tensors + i]) + {offset};"
        ]

    def _vector_pointers(self, vectors: list[Node]) -> list[str]:
        """Where the vectors of tensor i begin: those of leaves, and those that stages and row means keep."""
        lines = []
        for node in vectors:
            if node.op == "leaf":
                storage, place = STORAGE[self.program.leaves[node.payload]], self.places[node.payload]
                value = f"reinterpret_cast<{storage}*>(table->pointers[{place} * table->tensors + i])"
            else:
                storage, kind = "W", node.kind
                every = {"row": "all_rows", "column": "all_columns", "matrix": "matrices"}[kind]
                value = f"(W*)table->{kind}_values + {self.vectors[node]} * table->{every} + table->{kind}_at[i]"
            lines.append(f"{storage}* {self.vector(node)} = {value};")
        return lines

    def vector(self, node: Node) -> str:
        """The pointer to the values of a vector."""
        return f"v{node.index}"

    def _column_sum(self, node: Node) -> list[str]:
        name = f"c{node.index}"
        return [
            f"double* __restrict {name} = table->column_sums + {self.column_sums[node]} * table->all_sums"
            " + table->sums_at[c];",
            f"for (int64_t j = 0; j < n; ++j) {name}[j] = 0;",
        ]

    def _uniform(self, node: Node) -> list[str]:
        if node.op == "slot":
            value = f"s[{self.slots[node.payload]}]"
        elif node.op == "constant":
            value = self.constant(node.payload)
        elif node.op in REDUCTIONS:
            value = self._result(node)
        else:
            value = self.expression(node)
        return [f"const {self.type_of(node)} {self.name(node)} = {value}; (void){self.name(node)};"]

    def _result(self, node: Node) -> str:
        if node.op == "total":
            return f"table->totals[{self.totals.index(node.payload)}]"
        count = {
            "full": "size", "row": "(size / table->columns[i])", "column": "(size / table->rows[i])",
            "matrix": "(size / (table->rows[i] * table->columns[i]))",
        }[node.args[0].kind]  # fmt: skip
        result = f"result[{self.results[node]}]"
        mean = f"{result} / (double){count}"
        finished = {"sum": result, "norm": f"std::sqrt({result})", "mean": mean, "rms": f"std::sqrt({mean})"}
        return f"(W)({finished[node.op]})"

    def _assigned(self, node: Node, value: str) -> str:
        return f"const {self.type_of(node)} {self.name(node)} = {value};"

    def _loops(self, step: Pass) -> list[str]:
        body = []
        for name in step.loads:
            node = next(n for n in step.body if n.op == "leaf" and n.payload == name)
            body.append(self._assigned(node, f"load(x{self.places[name]}[j])"))
        for node, name in step.reloads.items():
            body.append(self._assigned(node, f"load(x{self.places[name]}[j])"))
        columns = [n for n in step.vectors if n.kind == "column"]
        body += [self._assigned(n, f"load({self.vector(n)}[matrix * n + j])") for n in columns]
        body += [self._assigned(n, self.expression(n)) for n in self.element_order(step)]
        for name, node in step.stores.items():
            storage = STORAGE[self.program.leaves[name]]
            value = self.name(node) if node.type_ != "double" else self.rounded(self.name(node))
            body.append(f"x{self.places[name]}[j] = store<{storage}>({value});")
        for r in step.reductions:
            value = f"(double)({self.name(r.args[0])}{' ? (W)1 : (W)0' if r.args[0].type_ == 'bool' else ''})"
            if r.kind == "column":
                body.append(f"c{r.index}[j] += {value};")
                continue
            # Written as a choice, since GCC 12 does not vectorize a loop that converts bool to a number.
            body.append(f"const double d{r.index} = {value};")
            body.append(
                f"{self._sum(r)} += {f'd{r.index} * d{r.index}' if r.op in ('norm', 'rms') else f'd{r.index}'};"
            )
        sums = [self._sum(r) for r in step.reductions if r.kind != "column"]
        reduction = f" reduction(+: {', '.join(sums)})" if sums else ""
        inner = [f"#pragma omp simd{reduction}", "    for (int64_t j = 0; j < n; ++j) {"]
        inner += [*(f"      {b}" for b in body), "    }"]
        return self._row_by_row(step, inner) if self.program.by_rows else inner

    def _sum(self, node: Node) -> str:
        return f"w{node.index}" if node.kind == "row" else f"a{self.partials[node]}"

    def _row_by_row(self, step: Pass, inner: list[str]) -> list[str]:
        matrices = [n for n in step.vectors if n.kind == "matrix"]
        rows = [n for n in step.vectors if n.kind == "row"]
        means = [r for r in step.reductions if r.kind == "row"]
        lines = [f"    {self._assigned(n, f'load({self.vector(n)}[matrix])')}" for n in matrices]
        lines += [f"    {line}" for line in self._vector_pointers(means)]
        lines.append("    for (int64_t r = first_row; r < last_row; ++r) {")
        lines += [f"    {self._assigned(n, f'load({self.vector(n)}[r])')}" for n in rows]
        lines += [f"    double {self._sum(r)} = 0;" for r in means]
        lines += inner
        lines += [f"    {self.vector(r)}[r] = (W)({self._sum(r)} / (double)n);" for r in means]
        full = dict.fromkeys([*step.loads, *step.reloads.values(), *step.stores])
        return [*lines, *(f"    x{self.places[name]} += n;" for name in full), "    }"]

    def _stage(self, k: int, stage: Stage) -> str:
        lines = [
            f'extern "C" void stage_{k}(const Table* table, int64_t first, int64_t last) {{',
            "  for (int64_t i = first; i < last; ++i) {",
            "    const int64_t size = table->sizes[i];",
            "    if (size == 0) continue;",
            "    const int64_t m = table->rows[i], n = table->columns[i], matrices = size / (m * n);",
            "    (void)matrices;",
            *(f"    {line}" for line in self._tensor()),
        ]
        for target in stage.vectors:
            if target.kind == "column" and target.is_swept:
                lines += self._finished_columns(target)
            elif not target.is_swept:
                lines += self._vector(target, stage)
        if k == len(self.program.plan.passes):
            for name, node in self.program.plan.vector_stores.items():
                lines += self._vector_store(name, node, stage)
        return "\n".join([*lines, "  }", "}"])

    def _finished_columns(self, target: Node) -> list[str]:
        """Add the chunks' sums up in the order of the chunks, matrix by matrix."""
        return [
            "    {",
            *(f"    {line}" for line in self._vector_pointers([target])),
            "    const int64_t chunks = (table->first_chunk[i + 1] - table->first_chunk[i]) / matrices;",
            "    for (int64_t b = 0; b < matrices; ++b) {",
            f"    double* sums = table->column_sums + {self.column_sums[target]} * table->all_sums"
            " + table->sums_at[table->first_chunk[i] + b * chunks];",
            "    for (int64_t q = 1; q < chunks; ++q) {",
            "    const double* __restrict more = sums + q * n;",
            "#pragma omp simd",
            "    for (int64_t j = 0; j < n; ++j) sums[j] += more[j];",
            "    }",
            f"    for (int64_t j = 0; j < n; ++j) {self.vector(target)}[b * n + j] = (W)(sums[j] / (double)m);",
            "    }",
            "    }",
        ]

    def _vector(self, target: Node, stage: Stage) -> list[str]:
        """One vector from others, or a reduction of one."""
        over = target.args[0] if target.op in REDUCTIONS else target
        below = self.below(target, stage)
        store = [] if target in self.results else self._vector_pointers([target])
        if target.op not in REDUCTIONS:
            body = [f"{self.vector(target)}[at] = {self.name(over)};"]
            return self._over(over.kind, below, store, body, computing=target)
        value = f"(double)({self.name(over)}{' ? (W)1 : (W)0' if over.type_ == 'bool' else ''})"
        added = [f"const double d = {value};", f"sum += {'d * d' if target.op in ('norm', 'rms') else 'd'};"]
        if target in self.results:
            return self._over(
                over.kind, below, ["double sum = 0;"], added, after=[f"result[{self.results[target]}] = sum;"]
            )
        count = "m" if over.kind == "row" else "n"
        finish = [f"{self.vector(target)}[b] = (W)(sum / (double){count});"]
        return self._over(over.kind, below, store, added, before=["double sum = 0;"], after_each=finish)

    def _vector_store(self, name: str, node: Node, stage: Stage) -> list[str]:
        storage, kind = STORAGE[self.program.leaves[name]], self.program.graph.kinds[name]
        below = self.below(node, stage) if node not in self.vectors else [node]
        value = self.name(node) if node.type_ != "double" else self.rounded(self.name(node))
        place = f"x{self.places[name]}"
        return self._over(kind, below, self._pointer(name, "0"), [f"{place}[at] = store<{storage}>({value});"])

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
        uniform = [line for n in nodes if n.kind not in ("row", "column", "matrix") for line in self._uniform(n)]

        def computed(kind: str, at: str) -> list[str]:
            return [
                self._assigned(n, f"load({self.vector(n)}[{at}])" if n in kept else self.expression(n))
                for n in nodes
                if n.kind == kind
            ]

        along = {"row": "m", "column": "n", "matrix": "1"}[kind]
        inner = [] if kind == "matrix" else computed(kind, "at")
        lines = [
            *self._vector_pointers(sorted(kept, key=lambda n: n.index)), *uniform, *setup,
            "for (int64_t b = 0; b < matrices; ++b) {", *computed("matrix", "b"), *before,
            f"for (int64_t at = b * {along}; at < (b + 1) * {along}; ++at) {{", *inner, *body, "}",
            *after_each, "}", *after,
        ]  # fmt: skip
        return ["    {", *(f"    {line}" for line in lines), "    }"]
