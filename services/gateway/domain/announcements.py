"""What a waiting customer is told again and again: their place, how long it may take, and where an answer may be found meanwhile."""

from __future__ import annotations

import math
from typing import Literal

Language = Literal["en", "zh"]
LONGEST_MINUTES = 60
"""Beyond that no number is told: it would be a guess."""


def understood(language: str) -> Language:
    """The language in which we speak to somebody who wants this one: Chinese, or else English."""
    return "zh" if language.replace("_", "-").partition("-")[0].lower() in ("zh", "cmn", "yue") else "en"


def minutes(seconds: float | None) -> int | None:
    """An estimated wait in whole minutes, rounded up; nothing where it is not known, or beyond an hour."""
    if seconds is None or not 0 <= seconds <= LONGEST_MINUTES * 60:
        return None
    return max(1, math.ceil(seconds / 60))


def sentences(language: Language, position: int | None, wait_minutes: int | None, self_service: str) -> list[str]:
    """What is known, a sentence each. `self_service` is a sentence already, as the policy has it."""
    return [sentence for sentence in (_place(language, position), _wait(language, wait_minutes), self_service) if sentence]


def _place(language: Language, position: int | None) -> str:
    if position is None:
        return ""
    if language == "zh":
        return "下一位就轮到您。" if position == 1 else f"您前面还有 {position - 1} 位。"
    if position == 1:
        return "You are next in line."
    return f"There {'is 1 caller' if position == 2 else f'are {position - 1} callers'} ahead of you."


def _wait(language: Language, wait_minutes: int | None) -> str:
    if wait_minutes is None:
        return ""
    if language == "zh":
        return f"预计等待时间约 {wait_minutes} 分钟。"
    return f"The estimated wait is about {wait_minutes} {'minute' if wait_minutes == 1 else 'minutes'}."
