"""Pictures of what a simulation found: the day, the trade-off between policies, and who waited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from services.routing.simulation import figures
from services.routing.simulation.play import Case
from services.routing.simulation.runner import Played
from services.routing.simulation.scenario import Scenario
from shared.errors import Invalid

COLOURS = ("#0b5fa5", "#d1495b", "#8a8d91", "#edae49", "#66a182", "#6f4e9c", "#2e4057", "#b5651d", "#00798c", "#c77dff")
OURS = 0
SUBTLE = 0.55
WIDTH, HEIGHT = 15.0, 11.5


def draw(
    path: Path, case: Case, found: Mapping[str, Sequence[Played]], bounds: Mapping[str, Mapping[str, float]], scenario: Scenario
) -> None:
    """Raises Invalid where the name has no format that can be drawn."""
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise Invalid(f"--plot draws a .png, .svg or .pdf, not {path.name}")
    mpl.rcParams["font.size"] = 9
    picture = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = picture.subplots(3, 2)
    names = list(found)
    colour = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    seeds = len(next(iter(found.values())))
    picture.suptitle(
        f"{len(case.calls):,} calls under {len(names)} policies, {seeds} seeds; the thick line and first bar are {names[OURS]}", fontsize=12
    )
    _day(axes[0, 0], axes[0, 1], case, found, colour, scenario)
    _trade_off(axes[1, 0], found, colour, bounds, "service_level_20s", "value_weighted_wait_s", bounds_of=("clairvoyant",))
    _trade_off(axes[1, 1], found, colour, bounds, "skill_fit", "abandoned", bounds_of=("clairvoyant",))
    values = np.array([call.value for call in case.calls])
    tiers = {tier.value: tier.name for tier in scenario.tiers}
    if len(set(values.tolist())) <= 8:
        groups = [f"{tiers.get(value, 'value')} ({value:g})" for value in values.tolist()]
    else:
        edges = np.quantile(values, [0.25, 0.5, 0.75])
        groups = [f"{one}. quarter" for one in (np.searchsorted(edges, values) + 1).tolist()]
    drawn = {name: runs[:1] for name, runs in found.items()}  # values are drawn anew by each seed, and the case is that of the first
    _who(axes[2, 0], drawn, colour, groups, "Who waited, by what a second of their waiting is worth")
    _who(axes[2, 1], found, colour, [call.queue for call in case.calls], "Who waited, by type of call")
    handles, labels = axes[0, 1].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=min(5, len(names)), frameon=False)
    picture.savefig(path, dpi=110)


def _day(
    level: Axes, waits: Axes, case: Case, found: Mapping[str, Sequence[Played]], colour: Mapping[str, str], scenario: Scenario
) -> None:
    hours = figures.local_hours(case)
    shown = [hour for hour in range(24) if (hours == hour).sum() >= max(5, len(hours) / 1000)]
    for number, (name, runs) in enumerate(found.items()):
        in_time = np.array(
            [[(one.answered & (one.waited <= scenario.target_seconds))[hours == hour].mean() for hour in shown] for one in runs]
        )
        means = np.array([[one.waited[hours == hour].mean() for hour in shown] for one in runs])
        style: dict[str, Any] = {
            "color": colour[name],
            "linewidth": 3.0 if number == OURS else 1.2,
            "zorder": 3 if number == OURS else 2,
            "label": name,
        }
        level.plot(shown, 100 * in_time.mean(axis=0), **style)
        waits.plot(shown, means.mean(axis=0), **style)
    level.set(title=f"Answered within {scenario.target_seconds:g} s", xlabel="hour of the day", ylabel="% of all calls", ylim=(0, 100))
    waits.set(title="Mean wait, answered or not", xlabel="hour of the day", ylabel="seconds", ylim=(0, None))
    for one in (level, waits):
        one.grid(alpha=0.25)


LABELS = {
    "service_level_20s": ("% answered within 20 s (right is better)", 100.0),
    "value_weighted_wait_s": ("wait weighted by value, s (low is better)", 1.0),
    "skill_fit": ("skill fit, 0 to 1 (right is better)", 1.0),
    "abandoned": ("callers who gave up (low is better)", 1.0),
}


def _trade_off(
    axes: Axes, found: Mapping[str, Sequence[Played]], colour: Mapping[str, str], bounds: Mapping[str, Mapping[str, float]], across: str,
    up: str, bounds_of: Sequence[str],
) -> None:  # fmt: skip
    (across_label, across_scale), (up_label, up_scale) = LABELS[across], LABELS[up]
    for number, (name, runs) in enumerate(found.items()):
        x, x_half = figures.interval([one.figures[across] * across_scale for one in runs])
        y, y_half = figures.interval([one.figures[up] * up_scale for one in runs])
        halves: dict[str, Any] = {"xerr": x_half, "yerr": y_half} if x_half == x_half else {}
        axes.errorbar(x, y, fmt="D" if number == OURS else "o", ms=9 if number == OURS else 6, color=colour[name], elinewidth=0.8, **halves)
        axes.annotate(name, (x, y), xytext=(6, 5), textcoords="offset points", fontsize=8, color=colour[name])
    for name in bounds_of:
        best = bounds.get(name, {})
        if across in best and up in best:
            axes.plot(best[across] * across_scale, best[up] * up_scale, marker="*", ms=13, color="#111111", linestyle="none")
            axes.annotate(
                f"{name}: each the best by itself", (best[across] * across_scale, best[up] * up_scale), xytext=(-8, 8),
                textcoords="offset points", fontsize=8, ha="right",
            )  # fmt: skip
    axes.set(title="Trade-off between policies", xlabel=across_label, ylabel=up_label)
    axes.grid(alpha=0.25)


def _who(axes: Axes, found: Mapping[str, Sequence[Played]], colour: Mapping[str, str], groups: Sequence[str], title: str) -> None:
    members = np.array(groups, dtype=object)
    names = sorted(set(groups), key=lambda one: -int((members == one).sum()))[:8]
    width = 0.8 / len(found)
    for number, (name, runs) in enumerate(found.items()):
        means = [float(np.mean([one.waited[members == group].mean() for one in runs])) for group in names]
        left = np.arange(len(names)) - 0.4 + width * (number + 0.5)
        axes.bar(left, means, width, color=colour[name], alpha=1.0 if number == OURS else SUBTLE)
    axes.set_xticks(range(len(names)), [f"{name}\n{int((members == name).sum()):,}" for name in names])
    axes.set(title=title, ylabel="mean wait, seconds")
    axes.grid(axis="y", alpha=0.25)
