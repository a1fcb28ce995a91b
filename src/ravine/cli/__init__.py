"""The command line: thin, one function per command, one module per group of commands."""

from ravine.cli import bench, explain, lab, study, sweep, train
from ravine.cli.common import app, write_json

__all__ = ["app", "write_json", "bench", "explain", "lab", "study", "sweep", "train"]
