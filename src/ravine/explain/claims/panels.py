"""Panels of figures that several claims have: a search over learning rates, and means or differences with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ravine.explain import figure as pictures

if TYPE_CHECKING:
    from ravine.explain.claims.small_transformer import Difference, Judged, Tuned


def search(axes: Any, tuned: Mapping[str, Tuned]) -> None:
    """The final loss of each arm's search over the learning rate, other settings at their best; the best is full."""
    for i, (label, one) in enumerate(tuned.items()):
        rates, losses = one.along("lr")
        style = pictures.points(i)
        axes.plot(rates, losses, **style, **{"linestyle": pictures.DASHES[i]}, markerfacecolor="white", label=label)
        best = min(range(len(losses)), key=lambda k: losses[k])
        axes.plot(rates[best], losses[best], **style, linestyle="none")
    axes.set(xscale="log", xlabel="learning rate", ylabel="final loss, nats per byte", title="Search")
    axes.legend()


def means(axes: Any, judged: Mapping[str, Judged], colours: Sequence[int] | None = None) -> None:
    """Every judged loss, and the mean of each arm with its 95 % interval, arms from left to right."""
    for i, one in enumerate(judged.values()):
        style = pictures.points(i if colours is None else colours[i])
        axes.plot([i] * len(one.losses), one.losses, **style, linestyle="none", alpha=0.35, markersize=4)
        axes.errorbar(i + 0.15, one.mean, yerr=one.half, **style, capsize=4)
        axes.annotate(f"{one.mean:.3f}", (i + 0.15, one.mean), (6, 0), textcoords="offset points", va="center")
    axes.set_xticks(range(len(judged)), list(judged))
    axes.set(xlim=(-0.5, len(judged) - 0.2), ylabel="final loss, nats per byte")
    axes.grid(visible=False, axis="x")


def differences(axes: Any, found: Mapping[str, Difference]) -> None:
    """Differences with their 95 % intervals, from top to bottom, zero marked."""
    for label, one in found.items():
        sides = [[one.mean - one.low], [one.high - one.mean]]
        axes.errorbar([one.mean], [label], xerr=sides, color="black", marker="o", capsize=4)
    axes.axvline(0, color="#666666", linewidth=1)
    axes.set(ylim=(len(found) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")
