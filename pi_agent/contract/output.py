"""How both programs speak: results to stdout, everything else to stderr, one JSON object under `--json`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from pi_agent.contract.errors import Exit, MagpieError, from_os_error
from pi_agent.contract.log import discreet
from pi_agent.contract.log import start_logging as start_logging


class Command(Protocol):
    """The part of a click command that `run` needs."""

    @property
    def main(self) -> Callable[..., Any]:
        """click's `main(args, prog_name, standalone_mode)`."""
        ...


def say(text: str = "") -> None:
    """Write one line of a result to stdout."""
    sys.stdout.write(text + "\n")


def emit(command: str, data: dict[str, Any], text: Iterable[str], *, as_json: bool) -> None:
    """Print a command's result: either its JSON object or its lines of text."""
    if as_json:
        say(json.dumps({"schema": f"{command}/1", **data}, sort_keys=False))
    else:
        for line in text:
            say(line)
    sys.stdout.flush()


def table(rows: Sequence[Sequence[object]], header: Sequence[str]) -> list[str]:
    """Lines of a plain text table; numbers are right-aligned by their look."""
    cells = [[str(c) for c in row] for row in rows]
    widths = [max(len(header[i]), *(len(r[i]) for r in cells)) if cells else len(header[i]) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        parts = [c.rjust(w) if c[:1].isdigit() else c.ljust(w) for c, w in zip(row, widths, strict=True)]
        return "  ".join(parts).rstrip()

    return [line(header), "  ".join("-" * w for w in widths), *(line(row) for row in cells)]


def _report(error: dict[str, Any], as_json: bool) -> None:
    body = {k: discreet(v) if isinstance(v, str) else v for k, v in error["error"].items()}
    if as_json:
        line = json.dumps({"error": body})
    else:
        word = "stopped" if body["exit"] == Exit.TRY_TOMORROW else "error"  # a spent budget is how a good night ends
        line = f"{word}: {body['message']}" + (f"\n  hint: {body['hint']}" if body["hint"] else "")
    with contextlib.suppress(OSError):
        sys.stderr.write(line + "\n")


def _as_error(kind: str, message: str, hint: str, code: int) -> dict[str, Any]:
    return {"error": {"kind": kind, "message": message, "hint": hint, "exit": int(code)}}


def _abandon_stdout() -> None:
    """Let what is still buffered go nowhere: Python would try again at its exit, and end with a code of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(command: Command, program: str, argv: Sequence[str] | None = None) -> int:
    """Run a click command and turn every outcome into the documented exit code and a one-line message.

    Click's own exceptions are recognised by their `format_message`, so that this module needs no click.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    try:
        code = command.main(args=arguments, prog_name=program, standalone_mode=False)
        sys.stdout.flush()
        return int(code) if isinstance(code, int) else Exit.OK
    except MagpieError as exc:
        _report(exc.as_dict(), as_json)
        return exc.exit_code
    except BrokenPipeError:
        _abandon_stdout()  # the reader (head, less) has gone: not an error of ours
        return Exit.OK
    except OSError as exc:
        try:
            sys.stdout.flush()
        except OSError:
            _abandon_stdout()  # stdout itself is a full disk
        error = from_os_error(exc)
        _report(error.as_dict(), as_json)
        return error.exit_code
    except KeyboardInterrupt:
        _report(_as_error("Interrupted", "interrupted", "run the same command again to go on", 130), as_json)
        return Exit.INTERRUPTED
    except Exception as exc:
        if hasattr(exc, "format_message"):
            code = int(getattr(exc, "exit_code", Exit.USAGE))
            _report(_as_error("Usage", exc.format_message(), f"see `{program} --help`", code), as_json)
            return code
        if type(exc).__name__ == "Abort":
            _report(_as_error("Interrupted", "interrupted", "run the same command again to go on", 130), as_json)
            return Exit.INTERRUPTED
        _report(
            _as_error(
                "Bug",
                f"unexpected {type(exc).__name__}: {exc}",
                f"this is a bug in {program}: please report it with the command and the lines below",
                Exit.BUG,
            ),
            as_json,
        )
        if not as_json:
            with contextlib.suppress(OSError):
                sys.stderr.writelines(f"{discreet(line)}\n" for line in traceback.format_exc().splitlines())
        return Exit.BUG
