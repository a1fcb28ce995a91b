"""Compiling generated C++, and the cache of what was compiled.

The cache lies in `$XDG_CACHE_HOME/ravine` (or `~/.cache/ravine`), private to the user. A file's name is the hash
of its source, the compiler, the flags and the CPU's features, since home directories are shared between machines.
Files appear atomically, under a lock, and a folder that others could write to is refused.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

FLAGS = (
    "-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-ffp-contract=off", "-fno-math-errno",
    "-fno-trapping-math", "-fno-tree-pre", "-fopenmp-simd", "-w",
)  # fmt: skip
LIBRARIES = ("-lpthread",)


class CompilerError(RuntimeError):
    """There is no working C++ compiler, or no safe place to keep what it makes."""


@cache
def find_compiler() -> str | None:
    """The C++ compiler: `$CXX`, else the first of c++, g++ and clang++; None where there is none."""
    if os.name != "posix":
        return None
    candidates = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    return next((path for name in candidates if name and (path := shutil.which(name))), None)


def cache_folder() -> Path:
    """The folder of compiled kernels, made if need be, with access for the user alone.

    Raises:
        CompilerError: if it is a link, belongs to someone else, or others may write to it.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(base) / "ravine"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.lstat(folder)
    except OSError as error:
        raise CompilerError(
            f"the kernel cache {folder} cannot be made ({error.strerror}); set XDG_CACHE_HOME"
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise CompilerError(f"the kernel cache {folder} is a link or a file; remove it or set XDG_CACHE_HOME")
    if os.name == "posix" and (found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise CompilerError(
            f"the kernel cache {folder} can be written by others; make it yours alone (chmod 700) or set XDG_CACHE_HOME"
        )
    return folder


@cache
def machine() -> str:
    """What decides whether a compiled kernel runs here: the architecture and the CPU's features."""
    features = ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next((line.split(":", 1)[1] for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        features = platform.processor()
    return f"{platform.machine()} {platform.system()} {' '.join(sorted(features.split()))}"


@cache
def _compiler_identity(compiler: str) -> str:
    found = os.stat(os.path.realpath(compiler))
    return f"{os.path.realpath(compiler)} {found.st_size} {found.st_mtime_ns}"


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    import fcntl

    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def build(source: str) -> ctypes.CDLL:
    """The shared library of a C++ source, from the cache or compiled.

    Raises:
        CompilerError: if there is no compiler, it fails, or the cache folder is not safe.
    """
    compiler = find_compiler()
    if compiler is None:
        raise CompilerError("no C++ compiler was found; install g++ or clang++ for the native engine")
    folder = cache_folder()
    key = "\n".join([source, _compiler_identity(compiler), *FLAGS, machine()])
    library = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.so"
    if not library.exists():
        with _lock(folder / f"{library.stem}.lock"):
            if not library.exists():
                _compile(compiler, source, library)
    found = os.lstat(library)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        raise CompilerError(f"the compiled kernel {library} is not a plain file of yours; remove it")
    return ctypes.CDLL(str(library))


def _compile(compiler: str, source: str, library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as work:
        text = Path(work) / "kernel.cpp"
        text.write_text(source)
        made = Path(work) / "kernel.so"
        done = subprocess.run(
            [compiler, *FLAGS, str(text), "-o", str(made), *LIBRARIES], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
            raise CompilerError(f"{compiler} could not compile a kernel: {first}")
        write_atomically(library.with_suffix(".cpp"), source)
        os.replace(made, library)
