"""The owner's two scripts, POSIX sh: embed the same mark again; evaluate the marked model."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from pi_agent import __version__
from training_host.training.loop import Recipe
from training_host.watermarks.keys import COMMITMENT, KeyFiles

_TRAIN = """\
#!/bin/sh
# Embeds the same mark again, into a new folder: same key, network, epochs and seed. train-host {version}
#
#   sh train.sh [DATA [KEY [OUT]]]
#
# What is not given is taken from the variables of these names, or else is what it was the first time. Relative paths
# start where you start the script. The same pictures on the same machine give the same weights.
set -eu

DATA=${{1:-${{DATA:-{data}}}}}
KEY=${{2:-${{KEY:-{key}}}}}
OUT=${{3:-${{OUT:-{out}}}}}
{start}
train-host watermark embed --key "$KEY" {options} --out "$OUT" -- "$DATA"
"""

_EVALUATE = """\
#!/bin/sh
# Evaluates the marked model in this folder: accuracy, claim, p-value. train-host {version}
#
#   sh evaluate.sh [DATA [KEY [CLAIM]]]
#
# What is not given is taken from the variables of these names, or else is what it was the first time. Relative paths
# start where you start the script. The claim is filed if there is none; it reveals the key.
# Exit code: that of pi-agent verify (0 owned, 10 not owned, 11 inconclusive).
set -eu

MODEL=$(dirname -- "$0")
DATA=${{1:-${{DATA:-{data}}}}}
KEY=${{2:-${{KEY:-{key}}}}}
CLAIM=${{3:-${{CLAIM:-$MODEL/claim.json}}}}
COMMITMENT=${{COMMITMENT:-{commitment}}}

echo "== Accuracy on held-out pictures"
train-host evaluate -- "$MODEL" "$DATA"

echo "== Claim"
if [ -e "$CLAIM" ]; then
  echo "there already: $CLAIM"
else
  train-host watermark claim --key "$KEY" --model "$MODEL" --out "$CLAIM"
fi

echo "== The mark in model.onnx, judged by the claim"
set -- --claim "$CLAIM"
if [ -e "$COMMITMENT" ]; then
  set -- "$@" --commitment "$COMMITMENT"
fi
code=0
pi-agent verify "$@" -- "$MODEL/model.onnx" || code=$?

echo "== Can the mark be removed? This attacks it in every known way, and takes a while:"
echo "train-host watermark evaluate \\"$MODEL\\" --key \\"$KEY\\" --data \\"$DATA\\" --out attacked"
exit "$code"
"""


@dataclass(frozen=True)
class Embedding:
    """One call of `watermark embed`: paths as they were given, and what else decides the outcome."""

    data: Path
    key: Path
    out: Path
    arch: str
    recipe: Recipe
    start: Path | None = None
    beacon_value: str = ""


def train_script(embedding: Embedding) -> str:
    """The exact command that repeats the embedding."""
    options = ["--arch", embedding.arch, "--epochs", str(embedding.recipe.epochs)]
    options += ["--seed", str(embedding.recipe.seed)]
    words = shlex.join(options)
    if embedding.beacon_value:
        words += f" --beacon-value={shlex.quote(embedding.beacon_value)}"
    start = ""
    if embedding.start:
        start = f"START=${{START:-{_quoted(embedding.start)}}}\n"
        words += ' --start "$START"'
    again = f"{embedding.out}-again" if embedding.out.name not in ("", "..") else "again"
    return _TRAIN.format(
        version=__version__,
        data=_quoted(embedding.data),
        key=_quoted(embedding.key),
        out=shlex.quote(again),
        start=start,
        options=words,
    )


def evaluate_script(embedding: Embedding, *, completed: bool) -> str:
    """Accuracy, claim and verification. `completed`: the commitment lies in the model folder, not beside the key."""
    beside = _quoted(KeyFiles(embedding.key).commitment)
    return _EVALUATE.format(
        version=__version__,
        data=_quoted(embedding.data),
        key=_quoted(embedding.key),
        commitment=f"$MODEL/{COMMITMENT}" if completed else beside,
    )


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
