"""Rules as JavaScript, for pages on which readers run them."""

from ravine.explain.javascript.emit import Emitted, add, emit, in_script, runtime
from ravine.explain.javascript.functions import add_function

__all__ = ["Emitted", "add", "add_function", "emit", "in_script", "runtime"]
