"""The command line: thin, one function per command, one module per group of commands."""

from ravine.cli import bench, claims, decay, explain, lab, landscape, playground, study, sweep, trace, train, watch
from ravine.cli.common import app, write_json

__all__ = [
    "app", "write_json", "bench", "claims", "decay", "explain", "lab", "landscape", "playground", "study", "sweep",
    "trace", "train", "watch",
]  # fmt: skip
