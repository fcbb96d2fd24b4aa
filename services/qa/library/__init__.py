"""Ready rules for automatic checks, in English and Chinese: the starting point, to be copied and changed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from services.qa import scorecards


@cache
def _all() -> tuple[dict[str, Any], ...]:
    files = sorted(Path(__file__).parent.glob("*.yaml"))
    return tuple(rule for file in files for rule in scorecards.load(file.read_text(encoding="utf-8")))


def load() -> list[dict[str, Any]]:
    """The rules as documents, in the files' order."""
    return [dict(rule) for rule in _all()]
