"""What a campaign has seen, summed up over all homes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pi_agent.contract.output import table


@dataclass
class Tally:
    """Counts of one campaign, or of several added up. `refunded` counts nothing here: those never left the machine."""

    kills: int = 0
    runs: int = 0
    phases: Counter[str] = field(default_factory=Counter)
    under_way: Counter[int] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    clocks: Counter[str] = field(default_factory=Counter)
    disks: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    windows: int = 0
    full_windows: int = 0
    counted: int = 0
    settled: int = 0
    lost: int = 0
    destroyed: int = 0
    slow: int = 0
    disk_ends: int = 0
    allowed_lost: int = 0
    pictures: int = 0
    violations: list[str] = field(default_factory=list)

    def __iadd__(self, other: Tally) -> Tally:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {k: dict(v.most_common()) if isinstance(v, Counter) else v for k, v in vars(self).items()}

    def lines(self) -> list[str]:
        """For people."""

        def listed(counts: Counter[Any]) -> str:
            return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"

        rows = [
            ("kills of a living agent", self.kills, f"in {self.runs} runs; {listed(self.ends)} ended by themselves"),
            ("  where they struck", "", listed(self.phases)),
            ("  queries under way then", "", ", ".join(f"{n}: {c}" for n, c in sorted(self.under_way.items()))),
            ("windows", self.windows, f"{self.full_windows} of them spent to the last query"),
            ("counted by the server", self.counted, f"the ledger knew of {self.settled + self.lost}"),
            ("settled", self.settled, f"answers for {self.pictures} pictures, all equal to the server's log"),
            ("spent without an answer", self.lost, f"at most {self.allowed_lost} were allowed"),
            ("  destroyed by the network", self.destroyed, f"and {self.slow} too slow for the agent's patience"),
            ("network", sum(self.faults.values()), listed(self.faults)),
            ("clock", sum(self.clocks.values()), listed(self.clocks)),
            ("disk", sum(self.disks.values()), f"{listed(self.disks)}; {self.disk_ends} runs ended by it"),
            ("broken promises", len(self.violations), ""),
        ]
        return table(rows, ("what", "count", "more"))
