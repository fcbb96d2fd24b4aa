"""Time to competence: from the beginning on a channel to its certificate, those included who are still learning.

Quantiles of the product-limit estimate (Kaplan & Meier 1958): to leave out who has not finished would make it look quicker than it is.
"""

from __future__ import annotations

from collections.abc import Sequence


def quantile(done: Sequence[float], open: Sequence[float], share: float) -> float | None:
    """By when `share` of all who begin are certified, in the unit of the durations; `open`: how long those have been learning who still do, or
    gave up then. None: too few have come so far."""
    events = sorted([(time, True) for time in done] + [(time, False) for time in open], key=lambda one: (one[0], not one[1]))
    alive, at_risk = 1.0, len(events)
    for time, certified in events:
        if certified:
            alive *= 1 - 1 / at_risk
            if alive <= 1 - share + 1e-12:
                return time
        at_risk -= 1
    return None
