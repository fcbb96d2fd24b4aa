"""What a waiting customer is told again and again: their place, how long it may take, and where an answer may be found meanwhile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

Language = Literal["en", "zh"]
CHINESE = ("zh", "cmn", "yue")
LONGEST_MINUTES = 60
"""Beyond that no number is told: it would be a guess."""


def understood(language: str) -> Language:
    """The language in which we speak to somebody who wants this one: Chinese, or else English."""
    return "zh" if _code(language) in CHINESE else "en"


def _code(language: str) -> str:
    return language.replace("_", "-").partition("-")[0].lower()


def minutes(seconds: float | None) -> int | None:
    """An estimated wait in whole minutes, rounded up; nothing where it is not known, or beyond an hour."""
    if seconds is None or not 0 <= seconds <= LONGEST_MINUTES * 60:
        return None
    return max(1, math.ceil(seconds / 60))


def sentences(language: Language, position: int | None, wait_minutes: int | None, self_service: str) -> list[str]:
    """What is known, a sentence each. `self_service` is a sentence already, as the policy has it."""
    return [sentence for sentence in (_place(language, position), _wait(language, wait_minutes), self_service) if sentence]


def closed(language: Language, messages: Mapping[str, str]) -> str:
    """Why nobody is let in: the centre's own words in the nearest language, else ours."""
    for told, text in messages.items():
        if _code(told) in ("en", *CHINESE) and understood(told) == language:
            return text
    return "现在不是服务时间，请稍后再拨。" if language == "zh" else "We are closed at the moment. Please call again later."


def promised(language: Language) -> str:
    return "我们会给您回电，再见。" if language == "zh" else "We will call you back. Goodbye."


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
