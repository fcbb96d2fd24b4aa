"""Secrets at rest: sealed, and unsealed by whoever has one of the keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import sealing, store
from services.gateway.sealing import Sealer
from shared.errors import Unavailable
from tests.unit.conftest import MakeUnits

FORMER, NEWEST, OTHER = "f" * 32, "n" * 43, "o" * 32


@given(st.text())
def test_what_is_sealed_is_hidden_and_comes_back(text: str) -> None:
    sealer = Sealer([NEWEST])
    sealed = sealer.seal(text)
    assert sealed.isascii()
    assert len(text) < 4 or text not in sealed
    assert sealer.unseal(sealed) == text
    assert sealer.seal(text) != sealed, "two that are alike do not look alike"


def test_a_former_key_unseals_and_the_newest_seals() -> None:
    sealed = Sealer([FORMER]).seal("token")
    both = Sealer([NEWEST, FORMER])
    assert both.unseal(sealed) == "token"
    assert Sealer([NEWEST]).unseal(both.seal("token")) == "token"


@pytest.mark.parametrize("damage", [lambda sealed: sealed[:-4] + "AAAA", lambda _: "token", lambda _: "", lambda _: "é"])
def test_what_no_key_fits_is_told_without_it(damage: object) -> None:
    sealed = Sealer([OTHER]).seal("token")
    for sealer, text in ((Sealer([NEWEST]), sealed), (Sealer([OTHER]), damage(sealed))):  # type: ignore[operator]
        with pytest.raises(Unavailable, match="ANSWERLINE_SECRET_KEY") as told:
            sealer.unseal(text)
        assert not text or text not in str(told.value)


def test_all_are_sealed_anew_or_none(make_units: MakeUnits) -> None:
    units, column = make_units(store.metadata), store.source_secret.c.value

    def kept() -> list[str]:
        with units.database.reading() as connection:
            return list(connection.scalars(store.source_secret.select().with_only_columns(column).order_by(store.source_secret.c.source)))

    def keep(source: str, sealed: str) -> None:
        with units() as work:
            work.connection.execute(store.source_secret.insert().values(source=source, name="twilio_auth_token", value=sealed))

    keep("a", Sealer([FORMER]).seal("one"))
    keep("b", Sealer([FORMER]).seal("two"))
    assert sealing.reseal(units, Sealer([NEWEST, FORMER]), [column]) == 2
    assert [Sealer([NEWEST]).unseal(sealed) for sealed in kept()] == ["one", "two"]
    keep("c", Sealer([OTHER]).seal("three"))
    before = kept()
    with pytest.raises(Unavailable):
        sealing.reseal(units, Sealer([OTHER, FORMER]), [column])
    assert kept() == before
