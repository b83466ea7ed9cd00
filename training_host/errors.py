"""What can go wrong on the host's side."""

from __future__ import annotations

from pi_agent.contract.errors import ConfigError, Exit, MagpieError


class HostNotInstalled(ConfigError):
    """train-host needs the package {package}, which is not installed"""

    hint = "only the agent is installed; in the project's folder run: pip install -c constraints.txt '.[host]'"


class ParityError(MagpieError):
    """the exported ONNX differs from torch by {difference:.2g} (allowed: {allowed:.2g})"""

    exit_code = Exit.BUG
    hint = "nothing was written; report it with the architecture and the opset"


class StageFailed(MagpieError):
    """{stage} ended with exit code {code}: {said}"""

    exit_code = Exit.BUG
    hint = "the demo folder keeps everything up to here; run the same command again to go on"


class AttacksFailed(MagpieError):
    """{count} could not be carried out: {names}"""

    exit_code = Exit.BUG
    hint = "the table says why; the same command tries them again and keeps the rest"


class WorkerDied(MagpieError):
    """the system ended one of the worker processes"""

    exit_code = Exit.BUG
    hint = "memory, most likely: run the same command with fewer --jobs; it keeps what is finished"
