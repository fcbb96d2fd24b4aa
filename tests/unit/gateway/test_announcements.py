from __future__ import annotations

import pytest

from services.gateway.domain.announcements import minutes, sentences, understood


@pytest.mark.parametrize(
    ("language", "spoken"), [("zh", "zh"), ("zh-CN", "zh"), ("zh_TW", "zh"), ("yue", "zh"), ("", "en"), ("en-GB", "en"), ("de", "en")]
)
def test_who_wants_chinese_is_told_in_chinese_and_others_in_english(language: str, spoken: str) -> None:
    assert understood(language) == spoken


@pytest.mark.parametrize(("seconds", "told"), [(None, None), (0, 1), (60, 1), (60.1, 2), (3600, 60), (3601, None), (-1, None)])
def test_a_wait_is_told_in_minutes_rounded_up_and_not_beyond_an_hour(seconds: float | None, told: int | None) -> None:
    assert minutes(seconds) == told


def test_what_is_not_known_is_not_said() -> None:
    assert sentences("en", None, None, "") == []
    assert sentences("en", 1, None, "") == ["You are next in line."]
    assert sentences("en", 2, 1, "See help.example.com.") == [
        "There is 1 caller ahead of you.", "The estimated wait is about 1 minute.", "See help.example.com.",
    ]  # fmt: skip
    assert sentences("en", 4, 3, "")[0] == "There are 3 callers ahead of you."
    assert sentences("zh", 3, 2, "") == ["您前面还有 2 位。", "预计等待时间约 2 分钟。"]
    assert sentences("zh", 1, None, "") == ["下一位就轮到您。"]
