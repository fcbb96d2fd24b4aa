"""Telephone numbers: one written form (E.164) for every way of writing one. No message repeats a number: messages reach logs."""

from __future__ import annotations

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, ValidationResult

WITHHELD = frozenset({"", "anonymous", "private", "restricted", "unavailable", "unknown", "withheld", "blocked", "no caller id", "-", "s"})
"""What telephone systems write in place of a number that they do not know or may not show."""

UNPARSED = {
    NumberParseException.INVALID_COUNTRY_CODE: "has no country code that exists",
    NumberParseException.NOT_A_NUMBER: "is no telephone number",
    NumberParseException.TOO_SHORT_AFTER_IDD: "is too short",
    NumberParseException.TOO_SHORT_NSN: "is too short",
    NumberParseException.TOO_LONG: "is too long",
}
IMPOSSIBLE = {
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "has no area code",
    ValidationResult.INVALID_COUNTRY_CODE: "has no country code that exists",
    ValidationResult.TOO_SHORT: "is too short",
    ValidationResult.TOO_LONG: "is too long",
    ValidationResult.INVALID_LENGTH: "has a length that no number there has",
}


class BadNumber(ValueError):
    """It cannot be dialled from anywhere; the text is the rest of a sentence about it: "has no area code"."""


def parse(text: str, country: str = "") -> PhoneNumber | None:
    """None where it is withheld. `country`: two letters (ISO 3166), where numbers without a country code belong; none: only numbers with +
    are understood. Raises BadNumber."""
    text = text.strip()
    if text.lower() in WITHHELD:
        return None
    if not country and not text.startswith(("+", "tel:+")):
        raise BadNumber("has no country code: write it with + or name a default country")
    try:
        parsed = phonenumbers.parse(text, country.upper() or None)
    except NumberParseException as error:
        raise BadNumber(UNPARSED.get(error.error_type, "is no telephone number")) from None
    if parsed.extension:
        raise BadNumber("has an extension, which cannot be dialled: name the direct number")
    possible = phonenumbers.is_possible_number_with_reason(parsed)
    if possible != ValidationResult.IS_POSSIBLE:
        raise BadNumber(IMPOSSIBLE.get(possible, "cannot be dialled"))
    return parsed


def written(number: PhoneNumber) -> str:
    """In E.164."""
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def to_e164(text: str, country: str = "") -> str | None:
    """'030 1234567', 'DE' -> '+49301234567'. None where it is withheld. Raises BadNumber."""
    parsed = parse(text, country)
    return None if parsed is None else written(parsed)
