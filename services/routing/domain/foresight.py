"""What each queue has taught about waiting: how long conversations last, how long customers stay, how wrong we were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from .estimate import Calibration, Estimate, Patience, ServiceTimes, expected_wait


class Foreseen(NamedTuple):
    """`position` counts from 1; `seconds` None: nobody who could take it is signed in."""

    position: int
    seconds: float | None


@dataclass
class Experience:
    """One queue's. Kept with the queue and carried over restarts."""

    service: ServiceTimes = field(default_factory=ServiceTimes.assume)
    patience: Patience = field(default_factory=Patience.assume)
    calibration: Calibration = field(default_factory=Calibration)

    def estimate(self, ahead: float, servers: float) -> Estimate | None:
        raw = expected_wait(ahead, servers, self.service.mean, self.patience.rate)
        return None if raw is None else self.calibration.apply(raw)

    def to_row(self) -> dict[str, Any]:
        return {"service": self.service.to_row(), "patience": self.patience.to_row(), "calibration": self.calibration.to_row()}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        return cls(ServiceTimes.from_row(row["service"]), Patience.from_row(row["patience"]), Calibration.from_row(row["calibration"]))
