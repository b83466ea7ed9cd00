"""`pi-agent` from a shell: nothing heavy is loaded for `--help`, every verb explains itself, wrong usage is 2."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest

from pi_agent.cli import VERBS, cli
from pi_agent.contract.output import run

HEAVY = ("numpy", "cv2", "PIL", "onnxruntime", "requests", "torch", "onnx", "sqlite3")


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from pi_agent.cli import cli; from pi_agent.contract.output import run; "
        f"run(cli, 'pi-agent', ['--help']); sys.exit({HEAVY!r} and str([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert process.stderr.strip() == "[]"
    assert all(verb in process.stdout for verb in VERBS)


def test_the_agent_needs_no_part_of_the_host() -> None:
    modules = [f"pi_agent.commands.{verb}" for verb in VERBS]
    hosts = ("torch", "onnx", "training_host", "fastapi", "matplotlib")
    code = f"import sys, {', '.join(modules)}; print([m for m in {hosts!r} if m in sys.modules])"
    assert python(code).strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_and_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, "pi-agent", [verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Example: pi-agent {verb}" in text
    assert "--json" in text
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    assert all(p.help for p in command.params if isinstance(p, click.Option)), "every option says what it does"


@pytest.mark.parametrize("verb", VERBS)
def test_every_example_is_a_valid_command_line(verb: str) -> None:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None and command.epilog is not None
    words = command.epilog.removeprefix("Example: pi-agent ").split()
    with click.Context(cli) as parent:
        resolved = cli.resolve_command(parent, words)
        assert resolved[0] == verb
        try:
            command.make_context(verb, resolved[2], parent=parent)
        except click.BadParameter as exc:  # only for files that are not there
            assert "does not exist" in exc.format_message()


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], [], ["collect", "--limit", "many"], ["collect", "--nonsense"], ["add"], ["--oops"]]
)
def test_wrong_usage_is_2_in_text_and_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, "pi-agent", arguments) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and "hint: see `pi-agent --help`" in text
    assert len(text.splitlines()) == 2
    assert run(cli, "pi-agent", [*arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["exit"] == 2


def test_the_version_is_the_packages() -> None:
    from pi_agent import __version__

    process = subprocess.run([sys.executable, "-m", "pi_agent", "--version"], capture_output=True, text=True)
    assert process.stdout.strip() == f"pi-agent, version {__version__}"
