"""One attack after the other: student of the student, extraction and then fine-tuning, laundering."""

from __future__ import annotations

from dataclasses import dataclass, replace

from training_host.removal.base import EVASION, EXTRACTION, MODIFICATION, Removal, Stolen, Thief


@dataclass(frozen=True)
class Chain:
    """`second` on what `first` leaves; either may be a chain itself.

    Combined attacks removed what single ones did not (Lukas et al., IEEE S&P 2022).
    """

    first: Removal
    second: Removal

    @property
    def kind(self) -> str:
        """The one of the two that goes further: a new network, a changed one, or changed inputs and answers."""
        kinds = {self.first.kind, self.second.kind}
        return next(kind for kind in (EXTRACTION, MODIFICATION, EVASION) if kind in kinds)

    def steal(self, thief: Thief) -> Stolen:
        """Both, in order; the second one's thief has the next seed, so that two students start differently.

        Raises `ValueError` where the first attack leaves no network, as a vote or an int8 file does.
        """
        between = self.first.steal(thief)
        if between.network is None:
            raise ValueError(f"{self.first!r} leaves no network for {self.second!r} to go on from")
        arch = between.arch or thief.arch
        result = self.second.steal(replace(thief, network=between.network, arch=arch, seed=thief.seed + 1))
        return replace(result, arch=result.arch or between.arch)
