"""The options of `pi-agent verify` that leave a verdict as a document behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from pi_agent.contract.errors import from_write_error
from pi_agent.contract.signed import Signer
from pi_agent.paths import find_home
from pi_agent.signing import signer_at
from pi_agent.verify import Case, Verdict
from pi_agent.verify.report import Outputs

KEY = "judge.key"
"""The judge's signing key in the agent's home folder."""
KEY_HELP = "Yours, made if missing. [judge.key in the home folder; with --inbox .judge.key beside the verdicts]"
F = TypeVar("F", bound=Callable[..., Any])


def report_options(command: F) -> F:
    """Add `--report`, `--html` and `--signing-key`."""
    file = click.Path(path_type=Path)
    for option in (
        click.option("--signing-key", type=file, metavar="FILE", help=KEY_HELP),
        click.option("--html", type=file, metavar="OUT.html", help="The verdict as a page for people."),
        click.option("--report", type=file, metavar="OUT.json", help="The verdict as a document that you sign."),
    ):
        command = option(command)
    return command


@dataclass
class Paperwork:
    """What is to be written about a verdict. `signing_key`: None for the one in the home folder."""

    outputs: Outputs
    signing_key: Path | None
    home: str | None
    _signer: Signer | None = field(default=None, repr=False)
    _made: Path | None = None

    def prepare(self, case: Case, **inputs: Path | None) -> None:
        """Before the work: can it be written, and signed? `inputs`: files that must not be overwritten, by name.

        Raises `CannotCreate` (73), `StorageError` (74), `ConfigError` (78) for a signing key that is none.
        """
        if not self.outputs:
            return
        key = (self.signing_key or self._home_key()) if self.outputs.report else None
        carriers = case.where.parent / case.claim.carriers
        own = {name.replace("_", " "): path for name, path in inputs.items()}
        self.outputs.check({**own, "claim": case.where, "carriers": carriers, "signing key": key})
        if key is not None:
            self._signer, made = signer_at(key)
            self._made = key if made else None

    def finish(self, case: Case, verdict: Verdict) -> tuple[dict[str, str], list[str]]:
        """Write; what to add to the command's JSON, and to its text. Raises as `Outputs.write` does."""
        if not self.outputs:
            return {}, []
        self.outputs.write(case, verdict, self._signer)
        public = self._signer.public if self._signer else None
        told = {"report": self.outputs.report, "html": self.outputs.page, "signer": public, "new_key": self._made}
        lines = [""]
        if self._made:
            lines.append(f"new signing key: {self._made} (secret; keep it for all your verdicts)")
        if self.outputs.report:
            lines += [f"signed report: {self.outputs.report}", f"signed by: {public}"]
        if self.outputs.page:
            lines.append(f"page: {self.outputs.page}")
        return {name: str(value) for name, value in told.items() if value}, lines

    def _home_key(self) -> Path:
        folder = find_home(self.home).folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise from_write_error(exc, folder) from exc
        return folder / KEY
