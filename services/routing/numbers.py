"""Telephone numbers: one written form (E.164) for every way of writing one, and the time zones where its owner may be.

No message repeats the number: messages reach logs.
"""

from __future__ import annotations

from functools import lru_cache
from zoneinfo import available_timezones

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberType, ValidationResult, timezone

from services.routing.domain.errors import Invalid

WITHHELD = frozenset({"", "anonymous", "private", "restricted", "unavailable", "unknown", "withheld", "blocked", "no caller id", "-", "s"})
"""What telephone systems write in place of a number that they do not know or may not show."""
PREMIUM = frozenset({PhoneNumberType.PREMIUM_RATE})

_UNPARSED = {
    NumberParseException.INVALID_COUNTRY_CODE: "has no country code that exists",
    NumberParseException.NOT_A_NUMBER: "is no telephone number",
    NumberParseException.TOO_SHORT_AFTER_IDD: "is too short",
    NumberParseException.TOO_SHORT_NSN: "is too short",
    NumberParseException.TOO_LONG: "is too long",
}
_IMPOSSIBLE = {
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "has no area code",
    ValidationResult.INVALID_COUNTRY_CODE: "has no country code that exists",
    ValidationResult.TOO_SHORT: "is too short",
    ValidationResult.TOO_LONG: "is too long",
    ValidationResult.INVALID_LENGTH: "has a length that no number there has",
}


def to_e164(number: str | None, country: str = "") -> str | None:
    """'030 1234567', 'DE' -> '+49301234567'. None where it is withheld.

    country: two letters (ISO 3166), for numbers written without a country code; none: only numbers with + are understood.
    Invalid where it cannot be dialled from anywhere, with the reason.
    """
    parsed = _parse(number, country)
    return None if parsed is None else phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def to_call_back(number: str | None, country: str = "") -> str | None:
    """As to_e164, and Invalid where calling it would cost a fortune: anybody can ask to be called back."""
    parsed = _parse(number, country)
    if parsed is None:
        return None
    if phonenumbers.number_type(parsed) in PREMIUM:
        raise Invalid("The number is a premium-rate one, which is not called back.")
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


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


def _parse(number: str | None, country: str) -> phonenumbers.PhoneNumber | None:
    if country and country.upper() not in phonenumbers.SUPPORTED_REGIONS:
        raise Invalid(f"There is no country {country!r}: use its two letters, as in 'DE'.")
    text = (number or "").strip()
    if text.lower() in WITHHELD:
        return None
    if not country and not text.startswith(("+", "tel:+")):
        raise Invalid("The number has no country code: write it with + or name a default country.")
    try:
        parsed = phonenumbers.parse(text, country.upper() or None)
    except NumberParseException as error:
        raise Invalid(f"The number {_UNPARSED.get(error.error_type, 'is no telephone number')}.") from None
    if parsed.extension:
        raise Invalid("The number has an extension, which cannot be dialled: name the direct number.")
    possible = phonenumbers.is_possible_number_with_reason(parsed)
    if possible != ValidationResult.IS_POSSIBLE:
        raise Invalid(f"The number {_IMPOSSIBLE.get(possible, 'cannot be dialled')}.")
    return parsed


@lru_cache(maxsize=1)
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones())
