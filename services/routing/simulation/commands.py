"""`answerline simulate` and `answerline replay`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from shared.errors import Invalid

Table = Mapping[str, Mapping[str, Any]]
HERE = Path(__file__).parent
DIGITS = {"service_level_20s": 4, "skill_fit": 4, "occupancy_spread": 4, "offered": 0, "answered": 0, "abandoned": 0}
COLUMNS = {
    "service_level_20s": "SL 20 s", "abandoned": "gave up", "average_speed_of_answer_s": "ASA s", "p95_wait_s": "p95 s", "max_wait_s": "max s",
    "max_wait_staffed_s": "max, staffed s", "value_weighted_wait_s": "by value s", "skill_fit": "fit", "occupancy_spread": "occ. spread",
    "idle_while_compatible_waiting_s": "idle s",
}  # fmt: skip


@click.command()
@click.option(
    "--calls", type=click.Path(dir_okay=False, path_type=Path), required=True, help="CSV: arrival, type, wait_s, outcome, service_s, agent."
)
@click.option(
    "--policy",
    "names",
    default="value-and-patience,all",
    show_default=True,
    help="Names or files, the first is compared with the others; `all` adds every built-in one.",
)
@click.option("--agents", default="from-data", show_default=True, help="`from-data`, or a CSV: agent, skills, since, until.")
@click.option(
    "--scenario", type=click.Path(dir_okay=False, path_type=Path), help="What the record lacks; without it the one that is shipped."
)
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0, 2**31), help="The first.")
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1, 1000), help="How many.")
@click.option("--jobs", default=0, type=click.IntRange(0, 256), help="Processes at once; 0 = one for each core.")
@click.option("--save-agents", type=click.Path(dir_okay=False, path_type=Path), help="Write the agents there, to be changed and tried.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the results there, as PNG, SVG or PDF.")
@click.option("--json", "as_json", is_flag=True)
def simulate(
    calls: Path, names: str, agents: str, scenario: Path | None, seed: int, seeds: int, jobs: int, save_agents: Path | None,
    plot: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Recorded calls through policies, by the engine that routes live. All policies meet the same calls."""
    from services.routing.simulation import bounds, figures, recorded, runner, survival
    from services.routing.simulation import scenario as scenarios

    draw = _drawing() if plot else None
    fixed = scenarios.read(_text(scenario or HERE / "scenario.yaml"))
    tried = _candidates(names)
    record = recorded.read_calls(calls, fixed.zone)
    staff, shifts = scenarios.staffing(record, fixed) if agents == "from-data" else recorded.read_agents(Path(agents), fixed.zone)
    if save_agents:
        recorded.write_agents(save_agents, staff, shifts, fixed.zone)
    chosen = range(seed, seed + seeds)
    workers = jobs or os.cpu_count() or 1
    with _progress(len(record) * len(tried) * seeds, f"{len(tried)} policies × {seeds} seeds") as tell:
        found = runner.run_all(record, fixed, staff, shifts, tried, chosen, workers, tell)
    first = found[tried[0].name]
    case = scenarios.draw(record, fixed, staff, shifts, seed)
    rate = survival.exponential_rate(record.waited, ~record.answered)
    best = {"pooled Erlang A": bounds.pooled(case, rate, fixed.target_seconds)}
    best["one pooled line"] = bounds.one_line(case, first[0].as_run(), fixed.target_seconds)
    best["clairvoyant"] = bounds.clairvoyant(case, first[0].as_run(), fixed.target_seconds)
    told: dict[str, Any] = {
        "calls": len(record),
        "seeds": list(chosen),
        "agents": len(staff),
        "agent_hours": round(sum(shift.until - shift.since for shift in shifts) / 3600, 1),
        "patience": {
            "mean_s": 1 / rate if rate else None,
            "by_type_mean_s": {k: v.mean for k, v in scenarios.patience(record, fixed).items()},
        },
        "policies": runner.summary(found),
        "references": best,
        "compared": {
            other.name: figures.compare([one.figures for one in first], [one.figures for one in found[other.name]]) for other in tried[1:]
        },
    }
    told["why"] = {other.name: figures.why(case, first[0].as_run(), found[other.name][0].as_run()) for other in tried[1:]}
    if "recorded" in found:
        told["flow"] = _flow(figures, case, record, found["recorded"])
    if as_json:
        click.echo(json.dumps(_clean(told)))
    else:
        _print(told, tried[0].name)
    if draw and plot:
        draw(plot, case, found, best, fixed)


def _candidates(names: str) -> list[Any]:
    from services.routing.domain.policy import DEFAULT
    from services.routing.simulation import rivals, runner

    wanted: list[str] = []
    for name in filter(None, (one.strip() for one in names.split(","))):
        wanted += [DEFAULT.name, *rivals.RIVALS] if name == "all" else [name]
    if not wanted:
        raise Invalid("--policy: name at least one")
    tried = [runner.candidate(name) for name in dict.fromkeys(wanted)]
    twice = {one.name for one in tried if sum(other.name == one.name for other in tried) > 1}
    if twice:
        raise Invalid(f"--policy: two are called {', '.join(sorted(twice))}; files go by their names")
    return tried


def _flow(figures: Any, case: Any, record: Any, runs: Sequence[Any]) -> list[dict[str, float]]:
    """Hour by hour, what was recorded and what the recorded strategy gives in the simulation."""
    was = figures.by_hour(case, record.waited, record.answered)
    simulated = [figures.by_hour(case, one.waited, one.answered) for one in runs]
    rows = []
    for number, row in enumerate(was):
        told = {"hour": row["hour"], "offered": row["offered"]}
        for name in ("mean_wait_s", "abandoned"):
            mean, half = figures.interval([hours[number][name] for hours in simulated])
            told |= {f"{name}_recorded": row[name], f"{name}_simulated": mean, f"{name}_half": half}
        rows.append(told)
    return rows


@contextmanager
def _progress(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """A bar on the error stream: what is printed stays clean."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda calls: bar.advance(task, calls)


def _drawing() -> Callable[..., None]:
    try:
        from services.routing.simulation.plot import draw
    except ImportError as error:
        raise Invalid("--plot needs matplotlib: install answerline[plot]") from error
    return draw


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: {error}") from error


def _clean(value: Any) -> Any:
    """What JSON has: no infinity, no digits that mean nothing."""
    if isinstance(value, Mapping):
        return {str(key): _clean(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(one) for one in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def _print(told: Mapping[str, Any], ours: str) -> None:
    first, last = told["seeds"][0], told["seeds"][-1]
    seeds = (
        f"seeds {first}-{last}; ± is half a 95 % interval"
        if first != last
        else f"seed {first} alone; without further seeds nothing is known of its noise"
    )
    click.echo(f"{told['calls']} calls, {told['agents']} agents, {told['agent_hours']} agent hours, {seeds}\n")
    rows = [["policy", *COLUMNS.values()]]
    for name, measured in told["policies"].items():
        rows.append([name, *(_number(figure, measured[figure]) for figure in COLUMNS)])
    for name, best in told["references"].items():
        shown = {**best, "average_speed_of_answer_s": best.get("mean_wait_s")}
        rows.append([f"({name})", *("" if shown.get(figure) is None else _plain(figure, shown[figure]) for figure in COLUMNS)])
    _table(rows)
    if any(told["references"].values()):
        click.echo(f"in brackets: references, of seed {first}, no policies; what each is, and whether it is a bound: docs/policies.md\n")
    for other, compared in told["compared"].items():
        verdicts = {name: compared[name]["verdict"] for name in COLUMNS}
        why = told.get("why", {}).get(other)
        if first == last:
            gaps = {name: compared[name]["difference"] for name in COLUMNS}
            apart = [f"{COLUMNS[name]} {_signed(name, gap)}" for name, gap in gaps.items() if gap and not math.isnan(gap)]
            click.echo(f"{ours} less {other}, seed alone: {', '.join(apart) or 'the same'}; how much of it is chance is not known")
            if apart and why:
                click.echo(f"  because, of seed {first}: {_because(why)}")
            continue
        worse = [
            f"{COLUMNS[name]} by {_number(name, {'mean': abs(compared[name]['difference']), 'half': compared[name]['half']})}"
            for name, verdict in verdicts.items()
            if verdict == "worse"
        ]
        better = [COLUMNS[name] for name, verdict in verdicts.items() if verdict == "better"]
        click.echo(
            f"{ours} against {other}: better on {', '.join(better) or 'nothing'}" + (f"; WORSE on {', '.join(worse)}" if worse else "")
        )
        if len(better) < len(verdicts) and why:
            click.echo(f"  because, of seed {first}: {_because(why)}")
    if flow := told.get("flow"):
        click.echo("\nthe recorded strategy, by hour: mean wait and share that gave up, as recorded and as simulated")
        hours = [["hour", "calls", "wait s", "simulated", "gave up", "simulated"]]
        for row in flow:
            waits = {"mean": row["mean_wait_s_simulated"], "half": row["mean_wait_s_half"]}
            left = {"mean": row["abandoned_simulated"], "half": row["abandoned_half"]}
            hours.append(
                [
                    f"{row['hour']:02.0f}",
                    f"{row['offered']:.0f}",
                    f"{row['mean_wait_s_recorded']:.1f}",
                    _number("", waits),
                    f"{row['abandoned_recorded']:.3f}",
                    _number("skill_fit", left),
                ]
            )
        _table(hours)
    click.echo(
        "slowest policy: "
        + max(
            (f"{one['cpu_seconds']:.1f} s of one core ({name})" for name, one in told["policies"].items()),
            key=lambda text: float(text.split()[0]),
        )
    )


def _because(why: Mapping[str, Any]) -> str:
    waits = ", ".join(f"{difference:+.1f} s if worth {value}" for value, difference in why["mean_wait_by_value_s"].items())
    here, there, longest = why["answered_here_alone"], why["answered_there_alone"], why["longest_wait"]
    return (
        f"mean wait {waits}; {here['calls']} answered here alone, after {here['mean_wait_s']:.0f} s, {there['calls']} there alone, after "
        f"{there['mean_wait_s']:.0f} s; the longest wait here, {longest['here_s']:.0f} s of a call of type {longest['type']} at "
        f"{longest['arrived']}, was {longest['there_s']:.0f} s there, and in {longest['nobody_there_s']:.0f} s of it nobody with the skill was there"
    )


def _number(figure: str, measured: Mapping[str, float]) -> str:
    digits = DIGITS.get(figure, 1)
    half = measured["half"]
    return f"{measured['mean']:.{digits}f}" + ("" if half is None or math.isnan(half) else f" ±{half:.{digits}f}")


def _signed(figure: str, value: float) -> str:
    return f"{value:+.{DIGITS.get(figure, 1)}f}"


def _plain(figure: str, value: float) -> str:
    return f"{value:.{DIGITS.get(figure, 1)}f}"


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.ljust(width) if number == 0 else cell.rjust(width) for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        click.echo("  ".join(cells).rstrip())
    click.echo()


@click.command()
@click.option("--from", "since", required=True, help="2026-11-21 or 2026-11-21T09:00, in the centre's zone, or with a zone of its own.")
@click.option("--to", "until", required=True, help="Likewise.")
@click.option("--policy", "path", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The changed policy.")
@click.option("--as", "name", help="The policy in whose place it is tried; without it, of every policy in the log.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0, 2**31), help="The first.")
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1, 1000), help="How many.")
@click.option("--jobs", default=0, type=click.IntRange(0, 256), help="Processes at once; 0 = one for each core.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the results there, as PNG, SVG or PDF.")
@click.option("--json", "as_json", is_flag=True)
def replay(
    since: str, until: str, path: Path, name: str | None, seed: int, seeds: int, jobs: int, plot: Path | None, as_json: bool
) -> None:
    """The centre's own contacts through a changed policy: what would have differed.

    Reads the database that ANSWERLINE_DATABASE_URL or ANSWERLINE_DATA names, and changes nothing in it.
    """
    from services.routing import policies
    from services.routing.domain.policy import DEFAULT
    from services.routing.simulation import figures, log, runner
    from services.routing.simulation import scenario as scenarios
    from shared import config
    from shared.db.engine import Database

    draw = _drawing() if plot else None
    settings = config.load()
    document = _text(path)
    policies.compile(document, path.stem, 0)
    fixed = log.scenario_of(settings.zone)
    first, last = _moment(since, fixed.zone), _moment(until, fixed.zone)
    if first >= last:
        raise Invalid(f"--from {since} is not before --to {until}")
    database = Database(settings.database_of("routing"))
    try:
        with database.reading() as connection:
            found = log.read(connection, first, last, fixed)
    finally:
        database.close()
    if name not in (None, DEFAULT.name) and name not in {queue.policy for queue in found.record.queues}:
        raise Invalid(f"--as: no queue goes by a policy {name}")
    tried = [
        runner.Candidate("changed", documents=log.changed(found, document, name)),
        runner.Candidate("in force", documents=found.policies),
    ]
    chosen = range(seed, seed + seeds)
    with _progress(len(found.record) * 2 * seeds, f"2 policies × {seeds} seeds") as tell:
        played = runner.run_all(found.record, fixed, found.agents, found.shifts, tried, chosen, jobs or os.cpu_count() or 1, tell)
    case = scenarios.draw(found.record, fixed, found.agents, found.shifts, seed)
    told: dict[str, Any] = {
        "from": since,
        "to": until,
        "calls": len(found.record),
        "left_out": found.left_out,
        "seeds": list(chosen),
        "agents": len(found.agents),
        "agent_hours": round(sum(shift.until - shift.since for shift in found.shifts) / 3600, 1),
        "policies": runner.summary(played),
        "references": {},
        "compared": {"in force": figures.compare([one.figures for one in played["changed"]], [one.figures for one in played["in force"]])},
        "as_it_was": _as_it_was(found.record, fixed.target_seconds),
        "by_queue": _by(found.record.kind, played, figures),
        "by_segment": _by(_segments(case, policies.compile(document, path.stem, 0)), played, figures),
        "another_agent": figures.interval([float((a.agent != b.agent).mean()) for a, b in zip(*played.values(), strict=True)])[0],
    }
    if draw and plot:
        draw(plot, case, played, {}, fixed)
    if as_json:
        click.echo(json.dumps(_clean(told)))
        return
    _print(told, "changed")
    was = told["as_it_was"]
    click.echo(
        f"as it was: {was['service_level_20s']:.4f} answered within 20 s, {was['abandoned']:.0f} gave up, ASA {was['average_speed_of_answer_s']:.1f} s"
        f"; {told['left_out']} stays in a queue are left out (overflows, callbacks, not yet over)"
    )
    click.echo(f"{told['another_agent']:.1%} of the contacts would have had another agent, or another end\n")
    for what in ("segment", "queue"):
        table = [[what, "contacts", "wait s in force", "changed", "difference", "gave up in force", "changed"]]
        for row in told[f"by_{what}"]:
            table.append(
                [
                    row["name"],
                    f"{row['contacts']}",
                    f"{row['wait_s']['in force']:.1f}",
                    f"{row['wait_s']['changed']:.1f}",
                    _number("", row["difference"]),
                    f"{row['abandoned']['in force']:.3f}",
                    f"{row['abandoned']['changed']:.3f}",
                ]
            )
        _table(table)


def _moment(text: str, zone: Any) -> float:
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid(f"{text!r} is no time: write 2026-11-21 or 2026-11-21T09:00") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()


def _as_it_was(record: Any, target: float) -> dict[str, float]:
    answered, waited = record.answered, record.waited
    return {
        "service_level_20s": float((answered & (waited <= target)).mean()),
        "abandoned": float((~answered).sum()),
        "average_speed_of_answer_s": float(waited[answered].mean()) if answered.any() else math.nan,
    }


def _segments(case: Any, policy: Any) -> list[str]:
    """Into which segment of the changed policy each contact falls."""
    from datetime import datetime

    from services.routing.domain.policy import segment_of

    names = []
    for call in case.calls:
        local = datetime.fromtimestamp(call.at, case.zone)
        told = {"customer": call.customer, "queue": call.queue, "direction": "inbound", "hour": local.hour, "weekday": local.isoweekday()}
        names.append(segment_of(policy, {**call.facts, **call.wants, **told}).name)
    return names


def _by(groups: Sequence[str], played: Mapping[str, Sequence[Any]], figures: Any) -> list[dict[str, Any]]:
    rows = []
    for name in sorted(set(groups)):
        mine = [index for index, group in enumerate(groups) if group == name]
        waits = {tried: [float(run.waited[mine].mean()) for run in runs] for tried, runs in played.items()}
        left = {tried: [float(1 - run.answered[mine].mean()) for run in runs] for tried, runs in played.items()}
        mean, half = figures.interval([new - old for new, old in zip(waits["changed"], waits["in force"], strict=True)])
        rows.append(
            {
                "name": name,
                "contacts": len(mine),
                "wait_s": {tried: figures.interval(numbers)[0] for tried, numbers in waits.items()},
                "difference": {"mean": mean, "half": half},
                "abandoned": {tried: figures.interval(numbers)[0] for tried, numbers in left.items()},
            }
        )
    return rows
