from __future__ import annotations

import pytest

from services.qa import store
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.qa.house import House


@pytest.fixture
def house(make_units: MakeUnits, at: SetClock) -> House:
    return House(make_units(store.metadata), at)
