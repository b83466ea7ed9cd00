"""Every outcome of a command becomes its documented exit code and one line, as text and as JSON."""

import errno
import json
import os
import subprocess
import sys

import click
import pytest

from pi_agent import errors as agent_errors
from pi_agent.contract import errors as contract_errors
from pi_agent.contract.errors import Exit, MagpieError, RefusedInput
from pi_agent.contract.output import run, table

CODES = {
    "RefusedImage": 65,
    "RefusedModel": 65,
    "NothingToDo": 65,
    "StorageError": 74,
    "CannotCreate": 73,
    "ConfigError": 78,
    "NoConfig": 78,
    "DamagedDatabase": 74,
    "LostDatabase": 74,
    "Busy": 75,
    "BudgetSpent": 75,
    "LockedOut": 75,
    "ClockDoubt": 69,
    "Unreachable": 69,
    "OracleFailing": 69,
    "NotAuthorised": 77,
}
FIELDS = {"path": "p", "reason": "r", "url": "u", "quota": 1, "resets_at": "t", "until": "t"}
FIELDS |= {"pid": "1", "kept": "", "lock": "l"}


def outcome(exc: BaseException | int | None, *arguments: str) -> int:
    @click.command()
    @click.option("--json", "as_json", is_flag=True)
    def command(as_json: bool) -> int | None:
        if isinstance(exc, BaseException):
            raise exc
        return exc

    return run(command, "pi-agent", list(arguments))


@pytest.mark.parametrize("name", CODES)
def test_each_error_has_its_code_a_one_line_message_and_a_json_form(name: str, capsys: pytest.CaptureFixture[str]):
    kind = getattr(agent_errors, name, None) or getattr(contract_errors, name)
    assert outcome(kind(**FIELDS)) == CODES[name]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("stopped: " if CODES[name] == 75 else "error: ") and len(lines) <= 2
    assert outcome(kind(**FIELDS), "--json") == CODES[name]
    error = json.loads(capsys.readouterr().err)["error"]
    assert set(error) == {"kind", "message", "hint", "exit"} and error["kind"] == name and error["exit"] == CODES[name]


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, 74), (errno.EIO, 74), (errno.EFBIG, 74), (errno.EACCES, 73), (errno.EROFS, 73), (errno.ENOENT, 65)],
)
def test_errors_of_the_system_are_mapped(number: int, code: int):
    assert outcome(OSError(number, os.strerror(number), "somewhere")) == code


def test_results_interrupts_usage_and_bugs(capsys: pytest.CaptureFixture[str]):
    assert outcome(None) == 0 and outcome(10) == 10
    assert outcome(KeyboardInterrupt()) == Exit.INTERRUPTED
    assert outcome(None, "--nonsense") == Exit.USAGE
    capsys.readouterr()
    assert outcome(ZeroDivisionError("x")) == Exit.BUG
    assert "this is a bug in pi-agent" in capsys.readouterr().err


def test_every_error_class_of_the_agent_is_in_this_tables_list():
    found = {
        name
        for module in (agent_errors, contract_errors)
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, MagpieError) and kind not in (MagpieError, RefusedInput)
    }
    assert found == set(CODES)


def test_a_reader_that_goes_away_is_no_error():
    line = f"{sys.executable} -m pi_agent --help | head -c 10"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_a_table_lines_up():
    assert table([("a", 1.5), ("long", 22)], ("name", "n")) == ["name  n", "----  ---", "a     1.5", "long   22"]
