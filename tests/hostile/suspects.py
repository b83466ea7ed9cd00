"""One hostile file: how it is made, and what has to come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import helper

from tests.hostile.protobuf import write
from tests.support_models import colour_net, save, with_extra

HONEST = colour_net(8)


@dataclass(frozen=True)
class Hostile:
    """`place` makes it in an empty folder and returns the path to hand over.

    `reasons` stand in the refusal. Where there are none the file passes the inspection and is run: it ends in a refusal
    or in a verdict. `slow` ones want more time than a test should take and are run with smaller limits.
    """

    name: str
    place: Callable[[Path], Path]
    reasons: tuple[str, ...] = ()
    slow: bool = False


def model(name: str, made: onnx.ModelProto | bytes, *reasons: str, slow: bool = False) -> Hostile:
    """A hostile file that is one by its bytes."""
    data = made if isinstance(made, bytes) else made.SerializeToString()
    return Hostile(name, lambda folder: save(data, folder / "suspect.onnx"), reasons, slow)


def with_parts(**parts: object) -> onnx.ModelProto:
    """The honest model with more of something in its graph: `initializer=`, `node=`, `input=` and so on."""
    changed = onnx.ModelProto()
    changed.CopyFrom(HONEST)
    for name, part in parts.items():
        getattr(changed.graph, name).append(part)
    return changed


def with_graph_bytes(extra: bytes) -> bytes:
    """The honest model, and behind it in its graph whatever no library would write."""
    opset = write(8, 2, write(2, 0, 18))
    return write(1, 0, 10) + opset + write(7, 2, HONEST.graph.SerializeToString() + extra)


def with_node_bytes(node: bytes) -> bytes:
    """The honest model and one more node, called 'odd'."""
    return with_graph_bytes(write(1, 2, write(3, 2, b"odd") + node))


def with_node(operator: str, domain: str = "", **attributes: object) -> onnx.ModelProto:
    """The honest model and one more node, called 'odd'."""
    return with_extra(helper.make_node(operator, [], ["burden"], name="odd", domain=domain, **attributes))
