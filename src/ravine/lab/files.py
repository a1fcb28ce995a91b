"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write bytes, or text as UTF-8, so that whoever looks sees the old file or the new one, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_given(file: str | Path, content: str | bytes, argument: str) -> None:
    """Write the file that an argument names, whole or not at all.

    Raises:
        ValueError: where it cannot be written; the sentence names the argument.
    """
    try:
        write_atomically(Path(file), content)
    except OSError as error:
        raise ValueError(f"{argument}: {file} cannot be written: {error.strerror or error}") from None


def to_json(value: Any) -> str:
    """Indented JSON; NaN and infinity, which JSON does not have, are refused."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        ValueError: where it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None


def require_writable_folder(folder: Path, argument: str) -> None:
    """Raise ValueError unless the folder can be written to, or made in the nearest one above; nothing stays behind."""
    try:
        place = folder
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise ValueError(f"{argument}: {place} is not a folder")
        # Only writing tells: permissions say nothing about a full or odd file system, nor to the superuser.
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ValueError(f"{argument}: {folder} cannot be written to: {error.strerror or error}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
