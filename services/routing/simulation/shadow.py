"""A shadow: a policy that is tried on what has just happened, beside the one in force. A process of its own does the work:

    ANSWERLINE_SHADOW_DATABASE=… python -m services.routing.simulation.shadow NAME SINCE UNTIL

prints one line of JSON: the figures of both, and their difference. The document comes on the standard input.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any
from zoneinfo import ZoneInfo

from services.routing.shadows import DATABASE, ZONE
from services.routing.simulation import figures, log
from services.routing.simulation.play import play
from services.routing.simulation.runner import Candidate, desk_for
from services.routing.simulation.scenario import draw
from shared.db.engine import Database
from shared.errors import AnswerlineError

SEEDS = (1, 2, 3)
KEPT = (
    "service_level_20s", "abandoned", "average_speed_of_answer_s", "p95_wait_s", "max_wait_s", "value_weighted_wait_s", "skill_fit",
    "occupancy_spread",
)  # fmt: skip


def compare(found: log.Log, name: str, document: str, zone: ZoneInfo) -> dict[str, Any]:
    """Both policies on the same contacts: means over the seeds, shadow less live as `gap`, and half its interval."""
    scenario = log.scenario_of(zone)
    tried = {
        "live": Candidate("live", documents=found.policies),
        "shadow": Candidate("shadow", documents=log.changed(found, document, name)),
    }
    runs: dict[str, list[dict[str, float]]] = {"live": [], "shadow": []}
    for seed in SEEDS:
        case = draw(found.record, scenario, found.agents, found.shifts, seed)
        for side, one in tried.items():
            runs[side].append(figures.figures(case, play(case, desk_for(case, one, scenario)), scenario.target_seconds))
    told: dict[str, Any] = {"contacts": len(found.record), "figures": {}}
    for figure in KEPT:
        live, shadow = (figures.interval([one[figure] for one in runs[side]])[0] for side in ("live", "shadow"))
        gap, half = figures.interval([new[figure] - old[figure] for new, old in zip(runs["shadow"], runs["live"], strict=True)])
        if live == live and shadow == shadow:  # a figure that nobody has is no number
            told["figures"][figure] = {"live": live, "shadow": shadow, "gap": gap, "half": half}
    return told


def main() -> int:
    name, since, until = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    os.nice(10)
    gc.disable()  # it ends soon
    zone = ZoneInfo(os.environ[ZONE])
    database = Database(os.environ[DATABASE])
    try:
        with database.reading() as connection:
            found = log.read(connection, since, until, log.scenario_of(zone))
        told = compare(found, name, sys.stdin.read(), zone)
    except AnswerlineError as error:
        told = {"contacts": 0, "figures": {}, "problem": error.detail}
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
