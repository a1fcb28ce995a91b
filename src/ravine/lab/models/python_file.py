"""Call a function in a file that the user names."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from ravine.registry import nearest

OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)
"""Not the fault of the file: whoever runs the trial says what it means."""


def read(path: Path, argument: str = "model") -> bytes:
    """The text of a Python file.

    Raises:
        ValueError: if there is none; the sentence names the argument.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{argument}: there is no file {path}") from None
    except OSError as error:
        raise ValueError(f"{argument}: cannot read {path}: {error.strerror or error}") from None


def call(path: Path, text: bytes, function: str) -> Any:
    """What a function in a file returns. The file runs as a module, once in a process as long as it stays the same.

    Args:
        path: of the file, for messages and for what it imports from its own folder.
        text: what is in it: exactly this is run, whatever the file holds by now.
        function: its name.

    Raises:
        ValueError: if the file or the function raises, with the exception and the line; if there is no such function,
            or it needs arguments.
    """
    return find(path, text, function)()


def find(path: Path, text: bytes, function: str, takes: tuple[str, ...] = ()) -> Callable[..., Any]:
    """A function in a file, to be called with positional arguments; see `call`, which it raises the same errors as.

    Args:
        path, text, function: as for `call`.
        takes: the names of the arguments that it has to take, for messages.
    """
    with _importing_from(path.parent):
        found = _function(path, _module(path, text), function, takes)

    def called(*arguments: Any) -> Any:
        with _importing_from(path.parent), _blamed(path, function):
            return found(*arguments)

    return called


def _module(path: Path, text: bytes) -> ModuleType:
    """The module of a file. Its name is the same in every process, so that what it defines can be pickled."""
    name = f"ravine_model_{sha256(bytes(path) + text).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ValueError(f"model: {path.name} must be a Python file, its name ending in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Compiled from the text that was hashed, not by the loader: that would read the file, or a cached one, again.
        # Only the first build of a process runs it: so that all are alike, it draws from torch on a seed of its own.
        with _blamed(path, "importing it"), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _function(path: Path, module: ModuleType, name: str, takes: tuple[str, ...]) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ValueError(f"{path.name} has no function {name!r}{nearest(name, there)}")
    try:
        inspect.signature(function).bind(*takes)
    except TypeError as error:
        needed = f"of ({', '.join(takes)})" if takes else "that needs no arguments"
        raise ValueError(f"{path.name}:{name} must be a function {needed}: {error}") from None
    except ValueError:  # some functions written in C do not tell their signature
        pass
    return function


@contextmanager
def _blamed(path: Path, what: str) -> Iterator[None]:
    """Turn what the user's code raises into one sentence with the line of the file that it came from."""
    try:
        yield
    except OUT_OF_MEMORY:
        raise
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        if isinstance(error, SyntaxError) and error.filename == str(path):
            lines, error = [error.lineno], type(error)(error.msg)
        place = f"{path.name}, line {lines[-1]}" if lines else path.name
        raise ValueError(f"{place}: {what} raised {type(error).__name__}: {error}") from error


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Let the file import what lies beside it, as Python does for a script; only while it runs."""
    entry = str(folder)
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)
