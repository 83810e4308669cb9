"""Ways of keeping thresholds that a deployment can run: their state outlives a process, and users come and go. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from budgets.paced import PacedController, PacedState
from budgets.thresholds import Cells, Controller, Sent, SteeredController, SteeredState

KeptName = Literal["steered", "paced"]
KeptState = SteeredState | PacedState


class Keeping(Controller[Any], Protocol):
    """A controller whose state can be carried from day to day in a store."""

    def carried(self, state: Any, place: npt.NDArray[np.intp], cells: Cells) -> Any:
        """Return the state for other cells of the same groups: each as at its place in `state`, like its group where that is -1."""
        ...

    def usual(self, state: Any) -> float:
        """Return how many new values a usual day has, of all cells; 0 where nothing is known."""
        ...


@dataclass(frozen=True)
class Kept:
    """`share`: of the ledger's limit, the weekly sends to aim at. `state`: what the controller's state is made of."""

    controller: Keeping
    share: float
    state: type[KeptState]

    def pack(self, state: KeptState) -> dict[str, Any]:
        """Return a state as arrays by name."""
        return {each.name: getattr(state, each.name) for each in fields(self.state)} | {"sent": state.sent.days}

    def unpack(self, arrays: Mapping[str, Any]) -> KeptState:
        """Return the state of arrays; what a state of an older version did not know is as at the start."""
        known = [each.name for each in fields(self.state) if each.default is MISSING or each.name in arrays]
        found: dict[str, Any] = {name: arrays[name] for name in known}
        return self.state(**(found | {"sent": Sent(arrays["sent"])}))


KEPT: dict[KeptName, Kept] = {
    "steered": Kept(SteeredController(), 0.8, SteeredState),
    "paced": Kept(PacedController(), 1.0, PacedState),
}
