"""`pi-agent check`: is this document what its signer wrote?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pi_agent.commands.options import json_option
from pi_agent.contract.errors import RefusedInput
from pi_agent.contract.log import harmless
from pi_agent.contract.output import emit
from pi_agent.contract.signed import is_hex
from pi_agent.papers import Bond, Paper, bonds, read_paper

_LABEL = {"verdict": "signed verdict of an inbox", "report": "signed report", "claim": "claim", "document": "document"}
_LABEL |= {"commitment": "commitment", "model": "model file, hashed only", "carriers": "carriers, hashed only"}


def _public_keys(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    for key in given:
        if not is_hex(key, 64):
            raise click.BadParameter("a public key is 64 hexadecimal digits")
    return given


@click.command(epilog="Example: pi-agent check report.json claim.json suspect.onnx")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--signer",
    "signers",
    multiple=True,
    metavar="PUBLIC_KEY",
    callback=_public_keys,
    help="Who must have signed every document; may be given several times.",
)
@json_option
def command(files: tuple[Path, ...], signers: tuple[str, ...], as_json: bool) -> int:
    """Check signed documents: claims, commitments, reports and verdicts. What belongs together is compared.

    Models (*.onnx) and carriers (*.tar) are hashed, never opened. Nothing secret of a claim is shown.

    Exit 0: all are intact and belong together. 65: refused, with the reason.
    """
    papers: list[Paper] = []
    refused: list[RefusedInput] = []
    for path in dict.fromkeys(files):
        try:
            papers.append(read_paper(path, signers))
        except RefusedInput as exc:
            refused.append(exc)
    found, wrong = bonds(papers)
    data = {
        "intact": not refused,
        "belong_together": not wrong,
        "files": [paper.as_dict() for paper in papers],
        "refused": [{"file": harmless(str(e.fields["path"])), "reason": str(e.fields["reason"])} for e in refused],
        "bonds": [asdict(bond) for bond in found],
    }
    emit("check", data, _text(papers, found, bool(signers)), as_json=as_json)
    if len(refused) > 1:
        reasons = "; ".join(f"{e.fields['path']}: {e.fields['reason']}" for e in refused)
        raise RefusedInput(path=f"{len(refused)} of {len(set(files))} files", reason=reasons, hint=refused[0].advice)
    if refused:
        raise refused[0]
    if wrong:
        hint = "the files are intact, but not of one case"
        raise RefusedInput(path="they do not belong together", reason=wrong, hint=hint)
    return 0


def _text(papers: list[Paper], found: list[Bond], known: bool) -> Iterator[str]:
    for paper in papers:
        yield f"{harmless(str(paper.path))}: {'intact' if paper.signer else 'read'}, {_LABEL[paper.kind]}"
        yield from (f"  {name:<15} {value}" for name, value in _facts(paper))
    for bond in found:
        if bond.fits:
            yield f"{bond.file} and {bond.other}: {bond.said}"
    if not known and any(paper.signer for paper in papers):
        yield "Whose keys signed this you must know from elsewhere; --signer PUBLIC_KEY compares them."


def _facts(paper: Paper) -> Iterator[tuple[str, Any]]:
    yield "sha256", paper.sha256
    for name, value in paper.facts.items():
        if value not in ("", None):
            yield name, value
    if paper.signer:
        yield "signed by", paper.signer
