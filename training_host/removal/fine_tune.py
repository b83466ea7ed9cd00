"""Fine-tuning on true labels: the last layer or all, fresh or as stolen, gently or strongly.

FTLL, FTAL, RTLL, RTAL: Adi et al., USENIX Security 2018, section 6. STRONG: Gan et al., ICCV 2023, section 4.1.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from training_host.nets.layers import last_layer, reinitialise
from training_host.removal.base import MODIFICATION, Stolen, Thief
from training_host.training.tuning import Tuning, some_of, true_labels, tune


@dataclass(frozen=True)
class FineTune:
    """`scope` "last" (everything before it stays as it is, statistics included) or "all"; `reinit_last`: fresh weights
    in the last layer first; `share` of the thief's pictures (0..1]. `optimiser`, `schedule`: see `Tuning`.

    Raises `ValueError` for another name.
    """

    scope: str = "all"
    reinit_last: bool = False
    lr: float = 0.01
    epochs: int = 10
    share: float = 1.0
    optimiser: str = "sgd"
    schedule: str = "constant"
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        if self.scope not in ("last", "all"):
            raise ValueError(f"scope is last or all, not {self.scope!r}")
        self._tuning()

    @property
    def kind(self) -> str:
        """`MODIFICATION`."""
        return MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        """The network, trained further. Raises `RefusedModel` (65) where the last layer is not dense."""
        network, device = copy.deepcopy(thief.network), thief.device
        data = some_of(thief.pictures, self.share, thief.rng())
        last = last_layer(network)
        if self.reinit_last:
            reinitialise(last, thief.seed)
        only_last = self.scope == "last"
        tune(
            network,
            data,
            true_labels(network, data, device),
            self._tuning(),
            device,
            thief.seed,
            parameters=last.parameters() if only_last else None,
            fixed=only_last,
            progress=thief.progress,
        )
        return Stolen.of(network, device)

    def _tuning(self) -> Tuning:
        return Tuning(self.epochs, self.lr, self.optimiser, self.schedule, weight_decay=self.weight_decay)


FTLL, FTAL = FineTune("last"), FineTune("all")
RTLL, RTAL = FineTune("last", reinit_last=True), FineTune("all", reinit_last=True)
STRONG = FineTune(lr=0.05, epochs=30, share=0.2, schedule="halve")
