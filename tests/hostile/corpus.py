"""All hostile files, by name."""

from __future__ import annotations

from tests.hostile import burdens, documents, places
from tests.hostile.suspects import Hostile

FAMILIES = {
    "other files": places.other_files,
    "paths": places.paths,
    "data elsewhere": documents.elsewhere,
    "code of their own": documents.own_code,
    "lies about sizes": documents.lies,
    "twisted protobuf": documents.twisted,
    "memory": burdens.memory,
    "time": burdens.time,
    "crashes": burdens.crashes,
    "wrong ends": burdens.wrong_ends,
}
CORPUS: dict[str, Hostile] = {hostile.name: hostile for family in FAMILIES.values() for hostile in family()}
