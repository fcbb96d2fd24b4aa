"""Telephone numbers in one form, the zones of their owners, and refusals that say why."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from services.routing.domain.errors import Invalid
from services.routing.numbers import to_call_back, zones
from shared.numbers import BadNumber, to_e164


@pytest.mark.parametrize(
    ("written", "country", "e164"),
    [
        ("+49 30 1234567", "", "+49301234567"),
        ("030/123 45-67", "DE", "+49301234567"),
        ("0049301234567", "DE", "+49301234567"),
        ("011 49 30 1234567", "us", "+49301234567"),
        ("(212) 555-0100", "US", "+12125550100"),
        ("138 0013 8000", "CN", "+8613800138000"),
        ("+8613800138000", "DE", "+8613800138000"),
        ("tel:+49-30-1234567", "", "+49301234567"),
        (" +49301234567 ", "", "+49301234567"),
    ],
)
def test_every_way_of_writing_it_gives_one_form(written: str, country: str, e164: str) -> None:
    assert to_e164(written, country) == e164
    assert to_e164(e164) == e164


@pytest.mark.parametrize("written", [None, "", "  ", "anonymous", "Anonymous", "unknown", "PRIVATE", "Restricted", "withheld"])
def test_a_withheld_number_is_none(written: str | None) -> None:
    assert to_e164(written or "", "DE") is None
    assert to_e164(written or "") is None
    assert to_call_back(written, "DE") is None


@pytest.mark.parametrize(
    ("written", "country", "sentence"),
    [
        ("030 1234567", "", "The number has no country code: write it with + or name a default country."),
        ("hello", "DE", "The number is no telephone number."),
        ("sip:anna@example.com", "DE", "The number is no telephone number."),
        ("+999 123456", "", "The number has no country code that exists."),
        ("555-0100", "US", "The number has no area code."),
        ("+49 3", "", "The number is too short."),
        ("+4930" + "1" * 20, "", "The number is too long."),
        ("+49301234567;ext=12", "", "The number has an extension, which cannot be dialled: name the direct number."),
        ("9" * 100_000, "DE", "The number is too long."),
    ],
)
def test_what_cannot_be_dialled_is_refused_with_the_reason(written: str, country: str, sentence: str) -> None:
    with pytest.raises(Invalid) as refused:
        to_call_back(written, country)
    assert str(refused.value) == sentence
    assert refused.value.__cause__ is None, "the cause would tell the number"
    with pytest.raises(BadNumber) as bad:
        to_e164(written, country)
    assert f"The number {bad.value}." == sentence
    assert bad.value.__cause__ is None


@pytest.mark.parametrize("country", ["XX", "Germany", "49"])
def test_a_country_that_does_not_exist(country: str) -> None:
    with pytest.raises(Invalid, match="There is no country"):
        to_call_back("030 1234567", country)


def test_nobody_makes_us_dial_a_premium_rate() -> None:
    assert to_e164("0900 5 123456", "DE") == "+499005123456"
    with pytest.raises(Invalid, match="premium-rate"):
        to_call_back("0900 5 123456", "DE")
    assert to_call_back("030 1234567", "DE") == "+49301234567"


class TestZones:
    def test_of_a_fixed_line(self) -> None:
        assert zones("+49301234567") == ("Europe/Berlin",)
        assert zones("+12125550100") == ("America/New_York",)
        assert zones("+8613800138000") == ("Asia/Shanghai",)

    def test_a_number_that_may_be_anywhere_in_a_wide_country_has_them_all(self) -> None:
        assert {"America/New_York", "Pacific/Honolulu"} < set(zones("+18005550100"))
        assert "Australia/Perth" in zones("+61412345678")

    def test_a_number_range_that_is_not_known_has_its_countrys(self) -> None:
        assert zones("+491590000000") == ("Europe/Berlin",)

    def test_nothing_is_known_of_a_satellite_telephone(self) -> None:
        assert zones("+870773111632") == ()

    def test_only_zones_that_can_be_used(self) -> None:
        for zone in zones("+18005550100"):
            ZoneInfo(zone)

    def test_of_no_number(self) -> None:
        with pytest.raises(Invalid):
            zones("")
