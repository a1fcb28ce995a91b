"""C++ kernels: one function per pass, over a table of tensors cut into chunks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch

from ravine.engine.emit import Printer
from ravine.engine.plan import Pass
from ravine.engine.symbols import REDUCTIONS, Node

CHUNK = 16384

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
  const int32_t* row; const double* scalars; double* partials; const double* results; const double* totals;
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
        """The whole translation unit, with a function `pass_k(table, first chunk, last chunk)` for each pass."""
        work = "double" if self.program.work == torch.float64 else "float"
        passes = [self._pass(k, step) for k, step in enumerate(self.program.plan.passes)]
        return "\n".join([f"typedef {work} W;", PRELUDE.rstrip(), *passes, ""])

    def _pass(self, k: int, step: Pass) -> str:
        count = len(self.reductions)
        slots = max(len(self.slots), 1)
        lines = [
            f'extern "C" void pass_{k}(const Table* table, int64_t first, int64_t last) {{',
            "  for (int64_t c = first; c < last; ++c) {",
            "    const int64_t i = table->chunk_tensor[c], start = table->chunk_start[c], size = table->sizes[i];",
            f"    const int64_t n = size - start < {CHUNK} ? size - start : {CHUNK};",
            f"    const double* s = table->scalars + (int64_t)table->row[i] * {slots};",
            f"    const double* result = table->results + i * {max(count, 1)};",
            "    (void)s; (void)result;",
        ]
        used = dict.fromkeys([*step.loads, *step.reloads.values(), *step.stores])
        for name in used:
            storage, place = STORAGE[self.program.leaves[name]], self.places[name]
            lines.append(
                f"    {storage}* __restrict x{place} = "
                f"reinterpret_cast<{storage}*>(table->pointers[{place} * table->tensors + i]) + start;"
            )
        lines += [f"    {line}" for node in step.uniform for line in self._uniform(node)]
        lines += [f"    double a{self.reductions[r]} = 0;" for r in step.reductions]
        lines += self._loops(step)
        for r in step.reductions:
            place = self.reductions[r]
            lines.append(f"    table->partials[c * {count} + {place}] = a{place};")
        return "\n".join([*lines, "  }", "}"])

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
        result = f"result[{self.reductions[node]}]"
        mean = f"{result} / (double)size"
        finished = {"sum": result, "norm": f"std::sqrt({result})", "mean": mean, "rms": f"std::sqrt({mean})"}
        return f"(W)({finished[node.op]})"

    def _loops(self, step: Pass) -> list[str]:
        body = []
        for name in step.loads:
            node = next(n for n in step.body if n.op == "leaf" and n.payload == name)
            body.append(f"const W {self.name(node)} = load(x{self.places[name]}[j]);")
        for node, name in step.reloads.items():
            body.append(f"const W {self.name(node)} = load(x{self.places[name]}[j]);")
        for node in self.element_order(step):
            body.append(f"const {self.type_of(node)} {self.name(node)} = {self.expression(node)};")
        for name, node in step.stores.items():
            storage = STORAGE[self.program.leaves[name]]
            value = self.name(node) if node.type_ != "double" else self.rounded(self.name(node))
            body.append(f"x{self.places[name]}[j] = store<{storage}>({value});")
        sums = [f"a{self.reductions[r]}" for r in step.reductions]
        for r, total in zip(step.reductions, sums, strict=True):
            argument = r.args[0]
            # Written as a choice, since GCC 12 does not vectorize a loop that converts bool to a number.
            value = self.name(argument) + (" ? (W)1 : (W)0" if argument.type_ == "bool" else "")
            body.append(f"const double v{r.index} = {value};")
            body.append(f"{total} += {f'v{r.index} * v{r.index}' if r.op in ('norm', 'rms') else f'v{r.index}'};")
        reduction = f" reduction(+: {', '.join(sums)})" if sums else ""
        lines = [f"#pragma omp simd{reduction}", "    for (int64_t j = 0; j < n; ++j) {"]
        return [*lines, *(f"      {b}" for b in body), "    }"]
