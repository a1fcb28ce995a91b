"""Triton kernels as text: one function per pass, over the same tables as the C++ kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch

from ravine.engine.emit import Printer
from ravine.engine.plan import Pass
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


@triton.jit(do_not_specialize=["place", "width"])
def combine(partials, results, first_chunk, counts, place, width, BLOCK: tl.constexpr):
    i = tl.program_id(0)
    first = tl.load(first_chunk + i)
    count = tl.load(counts + i)
    sums = tl.zeros([BLOCK], dtype=tl.float64)
    for start in range(0, count, BLOCK):
        offsets = start + tl.arange(0, BLOCK)
        sums += tl.load(partials + (first + offsets) * width + place, mask=offsets < count, other=0.0)
    tl.store(results + i * width + place, tl.sum(sums, axis=0))
"""


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
        """The whole module, with a kernel `pass_k` for each pass."""
        passes = [self._pass(k, step) for k, step in enumerate(self.program.plan.passes)]
        return "\n\n".join([HEADER, *passes])

    def _pass(self, k: int, step: Pass) -> str:
        count, slots = max(len(self.reductions), 1), max(len(self.slots), 1)
        lines = [
            '@triton.jit(do_not_specialize=["tensors"])',
            f"def pass_{k}(pointers, tensors, sizes, chunk_tensor, chunk_start, row, scalars,",
            "           partials, results, totals, BLOCK: tl.constexpr):",
            "    c = tl.program_id(0)",
            "    i = tl.load(chunk_tensor + c)",
            "    size = tl.load(sizes + i)",
            f"    s = scalars + tl.load(row + i) * {slots}",
            f"    result = results + i * {count}",
            "    at = tl.load(chunk_start + c) + tl.arange(0, BLOCK)",
            "    inside = at < size",
        ]
        for name in dict.fromkeys([*step.loads, *step.reloads.values(), *step.stores]):
            place, pointee = self.places[name], POINTEE[self.program.leaves[name]]
            lines.append(f"    x{place} = tl.load(pointers + {place} * tensors + i).to(tl.pointer_type({pointee}))")
        lines += [f"    {self.name(node)} = {self._uniform(node)}" for node in step.uniform]
        loaded = {n: n.payload for n in step.body if n.op == "leaf"} | step.reloads
        lines += [f"    {self.name(node)} = {self._load(name)}" for node, name in loaded.items()]
        lines += [f"    {self.name(node)} = {self.expression(node)}" for node in self.element_order(step)]
        lines += [f"    {self._store(name, node)}" for name, node in step.stores.items()]
        for r in step.reductions:
            value = f"{self.name(r.args[0])}.to(tl.float64)"
            lines += [
                f"    v = tl.where(inside, {value}, 0.0)",
                f"    tl.store(partials + c * {count} + {self.reductions[r]}, "
                f"tl.sum({'v * v' if r.op in ('norm', 'rms') else 'v'}, axis=0))",
            ]
        return "\n".join([*lines, ""])

    def _uniform(self, node: Node) -> str:
        if node.op == "slot":
            return f"tl.load(s + {self.slots[node.payload]})"
        if node.op == "constant":
            return self.constant(node.payload)
        if node.op == "total":
            return f"tl.load(totals + {self.totals.index(node.payload)})"
        if node.op in REDUCTIONS:
            sums = f"tl.load(result + {self.reductions[node]})"
            mean = f"{sums} / size.to(tl.float64)"
            finished = {"sum": sums, "norm": f"tl.sqrt({sums})", "mean": f"({mean})", "rms": f"tl.sqrt({mean})"}
            return self.rounded(finished[node.op])
        return self.expression(node)

    def _load(self, name: str) -> str:
        dtype = self.program.leaves[name]
        text = f"tl.load(x{self.places[name]} + at, mask=inside, other=0)"
        if dtype == torch.bfloat16:
            text = f"from_bfloat16({text})"
        return text if dtype == self.program.work else f"{text}.to({self.work})"

    def _store(self, name: str, node: Node) -> str:
        dtype = self.program.leaves[name]
        value = self.rounded(self.name(node))
        if dtype == torch.bfloat16:
            value = f"to_bfloat16({value}.to(tl.float32))"
        elif dtype != self.program.work:
            value = f"{value}.to({POINTEE[dtype]})"
        return f"tl.store(x{self.places[name]} + at, {value}, mask=inside)"
