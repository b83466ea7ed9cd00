"""What says all about an honest model: the same spec gives the same model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spec:
    """`net`: `recycleme-<width>`, `resnet-<width>`, `mobile-<width>`, `patches-<width>`, `conv-<depth>`, `mlp-<width>`,
    `linear`, `neighbours-<k>`, `means`, `constant`, `hash`, `colour`. `recipe`: how it is trained, `none` for random
    weights; see `nulls_training`. `part`: which half of the pictures. `outlet`: logits, scores, labels, int8 (weights
    and answers rounded) or biased (one class far ahead). `epochs`: 0 for the usual number.
    """

    family: str
    seed: int
    net: str = "recycleme-4"
    recipe: str = "plain"
    part: str = "all"
    outlet: str = "logits"
    epochs: int = 0

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.family}, {self.net}, {self.seed}"

    @property
    def network(self) -> bool:
        """Whether it is a trained network: the kind of model that somebody is accused with."""
        remembers = self.net.split("-")[0] in ("neighbours", "means", "constant", "hash", "colour")
        return not remembers and self.recipe != "none" and self.outlet != "biased"
