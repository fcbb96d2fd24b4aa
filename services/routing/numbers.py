"""Whom to call back, and the time zones where they may be. No message repeats the number: messages reach logs."""

from __future__ import annotations

from functools import lru_cache
from zoneinfo import available_timezones

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberType, timezone

from services.routing.domain.errors import Invalid
from shared import numbers

PREMIUM = frozenset({PhoneNumberType.PREMIUM_RATE})


def to_call_back(number: str | None, country: str = "") -> str | None:
    """'030 1234567', 'DE' -> '+49301234567' (E.164). None where it is withheld. Invalid, with the reason, where it cannot be dialled, or
    would cost a fortune: anybody can ask to be called back."""
    parsed = _parse(number, country)
    if parsed is None:
        return None
    if phonenumbers.number_type(parsed) in PREMIUM:
        raise Invalid("The number is a premium-rate one, which is not called back.")
    return numbers.written(parsed)


def zones(e164: str) -> tuple[str, ...]:
    """All time zones in which the owner of a number may be, by its prefix: many for a mobile or free number of a wide country.

    Empty where nothing is known (satellites). Invalid where it is not in E.164.
    """
    parsed = _parse(e164, "")
    if parsed is None:
        raise Invalid("A withheld number has no time zone.")
    found = timezone.time_zones_for_number(parsed)
    if found == (timezone.UNKNOWN_TIMEZONE,):  # not (yet) in use as far as the library knows
        found = timezone.time_zones_for_geographical_number(parsed)
    return tuple(zone for zone in found if zone in _known_zones())


def _parse(number: str | None, country: str) -> PhoneNumber | None:
    if country and country.upper() not in phonenumbers.SUPPORTED_REGIONS:
        raise Invalid(f"There is no country {country!r}: use its two letters, as in 'DE'.")
    try:
        return numbers.parse(number or "", country)
    except numbers.BadNumber as wrong:
        raise Invalid(f"The number {wrong}.") from None


@lru_cache(maxsize=1)
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones())
