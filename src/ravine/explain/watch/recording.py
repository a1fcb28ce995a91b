"""A recording: what was watched, one line of JSON for each sampled step, appended as the run goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ravine.lab.files import write_atomically

FORMAT = 1
KIND = "ravine watch"


@dataclass(frozen=True)
class Recording:
    """What a file holds.

    Attributes:
        name: of the file, for legends.
        header: `{"kind", "format", "optimizer", "every", "parameters": {name: {"shape", "rule", "sampled"}}}`.
        samples: one for each sampled step, in order: `{"step", "lr": {rule: value}, "parameters": {name: {...}},
            "spreads": {rule: {"direction" | "step" | "gradient": {...}}}, "spectra": {name: {...}}}`.
    """

    name: str
    header: Mapping[str, Any]
    samples: tuple[Mapping[str, Any], ...]

    @property
    def steps(self) -> list[int]:
        """The sampled steps."""
        return [sample["step"] for sample in self.samples]

    def series(self, parameter: str, key: str) -> list[float | None]:
        """One number of one parameter over the samples; None where it was not stepped."""
        return [sample["parameters"].get(parameter, {}).get(key) for sample in self.samples]

    def overall(self, key: str, how: str) -> list[float | None]:
        """One number over all parameters: the root of the `"sum"` of squares, or of their `"mean"` over elements."""
        sizes = {name: math.prod(one["shape"]) for name, one in self.header["parameters"].items()}
        values: list[float | None] = []
        for sample in self.samples:
            found = {n: one[key] for n, one in sample["parameters"].items() if one.get(key) is not None}
            if not found:
                values.append(None)
            elif how == "sum":
                values.append(math.sqrt(sum(v * v for v in found.values())))
            else:
                total = sum(sizes[n] for n in found)
                values.append(math.sqrt(sum(sizes[n] * v * v for n, v in found.items()) / max(1, total)))
        return values

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the header and `samples`."""
        return {"name": self.name, **self.header, "samples": list(self.samples)}


def read(file: str | Path) -> Recording:
    """Read a recording; a last line that was cut off, by a run that was killed, is left out.

    Raises:
        ValueError: where the file cannot be read or is no recording.
    """
    path = Path(file)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ValueError(f"{file} cannot be read: {reason}") from None
    wrong = ValueError(f"{file} is no recording of ravine.watch; its first line says so in one that is")
    try:
        header = json.loads(lines[0])
    except (IndexError, ValueError):
        raise wrong from None
    if not isinstance(header, dict) or header.get("kind") != KIND:
        raise wrong
    if header.get("format") != FORMAT:
        raise ValueError(f"{file} is of format {header.get('format')!r}, and this version of ravine reads {FORMAT}")
    samples = []
    for i, line in enumerate(lines[1:], 2):
        try:
            samples.append(json.loads(line))
        except ValueError:
            if i < len(lines):
                raise ValueError(f"{file}: line {i} is damaged") from None
    return Recording(path.stem, header, tuple(samples))


class Writer:
    """Appends samples to a file.

    Args:
        path: the file; its folder must be there.
        header: of the recording; see `Recording`.
        step: the last step that the optimizer has taken. Samples after it, of a run that is now taken up again from a
            checkpoint, are dropped.
        overwrite: whether a recording that is there may be replaced by that of a new run.

    Raises:
        ValueError: if there is a file that is no recording, a recording of another model, or one that a new run would
            replace; if it cannot be written.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], step: int, overwrite: bool) -> None:
        kept: list[Mapping[str, Any]] = []
        if path.exists() and not overwrite:
            there = read(path)
            if step == 0:
                raise ValueError(
                    f"{path} holds the recording of another run; give another file, or overwrite=True to replace it"
                )
            if there.header["parameters"].keys() != header["parameters"].keys():
                raise ValueError(f"{path} is the recording of a model with other parameters; give another file")
            kept = [sample for sample in there.samples if sample["step"] <= step]
        lines = [json.dumps(line, ensure_ascii=False, allow_nan=False) for line in (header, *kept)]
        try:
            write_atomically(path, "\n".join(lines) + "\n")
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error.strerror or error}") from None

    def add(self, sample: Mapping[str, Any]) -> None:
        """Append a sample; it is in the file when this returns."""
        self._file.write(json.dumps(sample, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """End the recording."""
        self._file.close()
