"""All watermark schemes by name; in a module of its own, because most commands do without torch."""

from __future__ import annotations

from collections.abc import Mapping

from training_host.watermarks.adi import TriggerSet
from training_host.watermarks.base import Scheme
from training_host.watermarks.cosine import KeyedCosine
from training_host.watermarks.ewe import Entangled
from training_host.watermarks.krc import KrcSettings
from training_host.watermarks.margin import Margin

SCHEMES: Mapping[str, type[Scheme]] = {
    scheme.name: scheme for scheme in (KrcSettings, TriggerSet, Margin, Entangled, KeyedCosine)
}
"""`krc` is Magpie's own; the others are there to be compared with."""
