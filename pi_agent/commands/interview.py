"""`pi-agent verify --oracle` and `--questions`: a suspect that somebody else runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pi_agent.agent import Agent
from pi_agent.commands.options import progress_bar
from pi_agent.contract.errors import Exit
from pi_agent.contract.output import emit
from pi_agent.verify import Case, Verdict
from pi_agent.verify.remote import Interview
from pi_agent.verify.sheet import write_questions


def ask_oracle(home: str | None, case: Case) -> tuple[Verdict, dict[str, Any]]:
    """The verdict on the model behind the agent's oracle, and what it cost. Raises what `Interview.verdict` does."""
    with Agent.open(home) as agent:
        interview = Interview(agent, case)
        interview.foretell()
        with progress_bar(length=len(interview.missing), label="asking") as bar, agent.stop.watched():
            verdict = interview.verdict(bar.update)
        return verdict, {"sent": interview.sent, "cached": interview.cached}


def save_questions(case: Case, path: Path, as_json: bool) -> int:
    """Write the query batch and say what is in it. Raises what `write_questions` does."""
    sheet = write_questions(case, path)
    data = {"questions": sheet.questions, "images": len(sheet.numbers), "path": str(path)}
    text = f"{len(sheet.numbers)} images for {sheet.questions} questions written to {path}"
    emit("verify-questions", data, [text], as_json=as_json)
    return Exit.OK
