"""How often and how long a customer was on hold, of what several say of it.

Telephony measures it, leg by leg, and its word is taken wherever it speaks of the contact. Else what was heard of the transcript's
recording is, told with it; else what agents said of the questions that they asked inside. The three are of the same holds: they are
never added up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
Figures = dict[str, Any]
NAMES = ("holds", "hold_seconds")


def of_leg(contact: Row, leg: Row, sequence: int, corrects: bool) -> Figures:
    """What telephony tells of a leg takes the place of what it told of it before; `sequence`: its newest word has the highest. A leg that never
    was had no holds, and a correction that knows of none is kept too: what it corrects may come behind it."""
    told = _told(contact)
    legs = dict(told.get("legs") or {})
    number = str(leg["number"])
    newest, *known = legs.get(number, (0, None, None))
    figures = [None, None] if leg["outcome"] == "void" else [leg.get("holds"), leg.get("on_hold_seconds")]
    if sequence <= newest or (figures == known == [None, None] and not corrects):
        return _figures(told)
    return _figures({**told, "legs": {**legs, number: [sequence, *figures]}})


def heard(contact: Row, holds: int | None, hold_seconds: float | None) -> Figures:
    """What came with a transcript; none: nothing new."""
    told = _told(contact)
    before = told.get("heard") or (None, None)
    now = [before[0] if holds is None else holds, before[1] if hold_seconds is None else hold_seconds]
    return _figures(told if now == [None, None] else {**told, "heard": now})


def said(contact: Row, hold_seconds: float) -> Figures:
    """An agent kept the customer on hold so long, for the answer to one more question."""
    told = _told(contact)
    count, seconds = told.get("said") or (0, 0.0)
    return _figures({**told, "said": [(count or 0) + 1, (seconds or 0.0) + hold_seconds]})


def _told(contact: Row) -> Mapping[str, Any]:
    """What was known before any of it was kept apart counts as said."""
    if contact["told_holds"] is not None:
        return contact["told_holds"]
    known = [contact[name] for name in NAMES]
    return {} if known == [None, None] else {"said": known}


def _figures(told: Mapping[str, Any]) -> Figures:
    legs = [figures for _, *figures in (told.get("legs") or {}).values() if figures[0] is not None]
    if legs:
        figures = [sum(holds for holds, _ in legs), round(sum(seconds or 0.0 for _, seconds in legs), 3)]
    else:
        spoken = [told[who] for who in ("heard", "said") if told.get(who)]
        figures = [next((one[at] for one in spoken if one[at] is not None), None) for at in range(len(NAMES))]
    return dict(zip(NAMES, figures, strict=True)) | {"told_holds": dict(told) or None}
