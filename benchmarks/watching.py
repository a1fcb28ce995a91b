"""What watching costs: a sampled step against one that is not, in turn, in one run.

    python benchmarks/watching.py --json benchmarks/results/watching-cpu.json

The task is `ravine compare`'s: the transformer at size small on the standard library's source. A sample is taken
every 100 steps by default, so its time is shared by 100 steps; the bound is 5 % of a step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

import ravine
from ravine.bench.machine import describe
from ravine.lab.files import to_json, write_given
from ravine.lab.tasks import make

EVERY = 100
BOUND = 0.05


def measure(name: str, size: str, rounds: int) -> dict[str, object]:
    """Steps with and without a sample in turn, and what the sample adds to each of a hundred steps."""
    torch.manual_seed(0)
    task = make("lm", size=size)
    model = task.new_model()
    optimizer = ravine.create(name, model if ravine.lookup(name).steps_matrices else model.named_parameters())
    generator = torch.Generator().manual_seed(0)
    taken = 0

    def step() -> float:
        nonlocal taken
        taken += 1
        began = time.perf_counter()
        batch = task.draw(task.batch, generator, taken)
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        optimizer.step()
        return time.perf_counter() - began

    plain, sampled = [], []
    with tempfile.TemporaryDirectory() as folder:
        with ravine.watch(optimizer, Path(folder) / "run.jsonl", model=model, every=1):
            step()
        for i in range(rounds):
            plain.append(step())
            with ravine.watch(optimizer, Path(folder) / f"{i}.jsonl", model=model, every=1):
                sampled.append(step())
    added = statistics.median(sampled) - statistics.median(plain)
    share = added / EVERY / statistics.median(plain)
    return {
        "optimizer": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "rounds": rounds,
        "step_ms": 1000 * statistics.median(plain),
        "sample_ms": 1000 * added,
        "share_of_a_step": share,
    }


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description="What ravine.watch costs when it samples every 100 steps.")
    parser.add_argument("optimizers", nargs="*", default=["adamw", "muon", "adafactor"])
    parser.add_argument("--size", default="small")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", dest="file")
    arguments = parser.parse_args()
    rows = [measure(name, arguments.size, arguments.rounds) for name in arguments.optimizers]
    for row in rows:
        print(f"{row['optimizer']}: step {row['step_ms']:.1f} ms, a sample adds {row['sample_ms']:.1f} ms, "
              f"every {EVERY} steps {row['share_of_a_step']:.2%} (bound {BOUND:.0%})")  # fmt: skip
    found = vars(describe(torch.device("cpu"), torch.get_num_threads()))
    result = {"machine": found, "every": EVERY, "bound": BOUND, "size": arguments.size, "rows": rows}
    if arguments.file:
        write_given(arguments.file, to_json(result), "--json")
    else:
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
