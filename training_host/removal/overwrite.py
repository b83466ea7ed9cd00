"""Overwriting: the thief trains a second mark of the same scheme into the stolen network, with a key of its own.

The thief knows the scheme, not the key.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, field

from pi_agent.contract.claim import WatermarkKey, draw_rules, new_key, rules_needed
from pi_agent.contract.errors import RefusedInput
from training_host.removal.base import MODIFICATION, Stolen, Thief
from training_host.training.loop import Recipe
from training_host.training.supervised import train_classifier
from training_host.watermarks.krc import KrcMark, KrcSettings


@dataclass(frozen=True)
class Overwrite:
    """`epochs` at a highest rate of `lr` (AdamW, one cycle); `rules` of the second mark, None: as many as it needs;
    `settings` of its embedding.
    """

    lr: float = 3e-4
    epochs: int = 8
    rules: int | None = None
    settings: KrcSettings = field(default_factory=KrcSettings)

    @property
    def kind(self) -> str:
        """`MODIFICATION`."""
        return MODIFICATION

    def second_key(self, thief: Thief) -> WatermarkKey:
        """The thief's own key, the same for the same seed. Raises `RefusedInput` (65) for fewer than four classes."""
        classes = thief.pictures.classes
        seed = hashlib.sha256(f"magpie overwriting thief {thief.seed}".encode()).digest()
        try:
            return new_key(classes, self.rules or rules_needed(len(classes)), seed=seed)
        except ValueError as exc:
            raise RefusedInput(path="the thief's pictures", reason=str(exc), hint="four classes at least") from exc

    def steal(self, thief: Thief) -> Stolen:
        """The network with both marks, as far as the first one holds. Raises `RefusedInput` (65)."""
        rules = draw_rules(self.second_key(thief))
        mark = KrcMark(rules, thief.pictures, self.settings, thief.device)
        network = train_classifier(
            thief.arch,
            thief.pictures,
            Recipe(self.epochs, max_lr=self.lr, seed=thief.seed),
            thief.device,
            mark=mark,
            start=copy.deepcopy(thief.network),
            progress=thief.progress,
        )
        return Stolen.of(network, thief.device)
