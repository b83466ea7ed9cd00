"""Peak memory of a `pi-agent` command and of its child processes, emulated or native, as one JSON object on stdout.

    .venv/bin/python tests/pi/memory.py -- verify models/substitute/model.onnx --claim models/claim.json
    .venv/bin/python tests/pi/memory.py --collect 200      a home with so many pictures, against a server in here
    .venv/bin/python tests/pi/memory.py --native ...       the same on this machine's own processor

`together_rss_mb` is the most that all processes held at one moment, each page counted in every process that maps it;
`together_pss_mb` counts a page that is in several processes once. Both are looked at every 5 ms (20 ms emulated), and
of an emulated program only what is its own: pages below 2**40, where qemu puts its guest and nothing else. That is
what a Raspberry Pi would count.

For every process: `guest_peak_mb` is its own peak, counted in the same way (a native one by the kernel, VmHWM);
`host_peak_mb` is what the host's kernel counted, emulator and translated code included (qemu keeps some memory of
every thread that ended: it grows with the queries). Megabytes are 10**6 bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

CODE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CODE))

from pi_agent.prepare import encode_query  # noqa: E402

RUN = str(CODE / "tests" / "pi" / "run")
GUEST_END = 1 << 40
PAUSE = {False: 0.02, True: 0.005}


def family(pid: int) -> Iterator[int]:
    """A living process and its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def name_of(pid: int) -> str:
    """`agent`, `worker` (a suspect's process), or another Python's command line; empty for anything else."""
    if not Path(f"/proc/{pid}/comm").read_text().startswith(("python", "pi-agent", "qemu-aarch64")):
        return ""
    line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return "worker" if "worker.py" in line else "agent" if "pi_agent" in line else line[:80].strip()


@dataclass
class Held:
    """Bytes that one process holds: most ever, resident now, and now with shared pages counted in parts."""

    most: int
    rss: int = 0
    pss: int = 0


def held(pid: int, native: bool) -> Held:
    """What a process holds now; an emulated one below 2**40 only."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            found = Held(1024 * int(line.split()[1]))
            break
    else:
        return Held(0)  # it has ended
    inside = native
    for line in Path(f"/proc/{pid}/{'smaps_rollup' if native else 'smaps'}").read_text().splitlines():
        first, *rest = line.split(maxsplit=2)
        if not first.endswith(":"):
            inside = native or int(first.partition("-")[0], 16) < GUEST_END
        elif inside and first == "Rss:":
            found.rss += 1024 * int(rest[0])
        elif inside and first == "Pss:":
            found.pss += 1024 * int(rest[0])
    return found


def look(root: int, native: bool) -> dict[int, tuple[str, Held]]:
    """Everything that runs now. A fork that is not yet another program shares its parent's memory: left out."""
    found: dict[int, tuple[str, Held]] = {}
    lines: set[bytes] = set()
    with contextlib.suppress(OSError):
        for pid in family(root):
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
                if line not in lines and (name := name_of(pid)):
                    found[pid] = name, held(pid, native)
                lines.add(line)
    return found


def watch(process: subprocess.Popen[str], native: bool) -> dict[str, Any]:
    """Look at a process and its children until it ends."""
    names: dict[int, str] = {}
    peaks: dict[int, tuple[int, int]] = {}
    together = {"rss": 0, "pss": 0}
    while process.poll() is None:
        seen = look(process.pid, native)
        for pid, (name, now) in seen.items():
            own, host = peaks.get(pid, (0, 0))
            names[pid], peaks[pid] = name, (max(own, now.most if native else now.rss), max(host, now.most))
        for kind in together:
            together[kind] = max(together[kind], sum(getattr(now, kind) for _, now in seen.values()))
        time.sleep(PAUSE[native])
    return {f"together_{kind}_mb": _mb(most) for kind, most in together.items()} | {
        "processes": [
            {"process": names[pid], "host_peak_mb": _mb(host), "guest_peak_mb": _mb(own)}
            for pid, (own, host) in peaks.items()
        ]
    }


def _mb(count: int) -> float:
    return round(count / 1e6, 1)


def measure(arguments: list[str], native: bool) -> dict[str, Any]:
    """Run `pi-agent ARGUMENTS` and report."""
    command = [sys.executable if native else RUN, "-m", "pi_agent", *arguments]
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, text=True, cwd=CODE)
        memory = watch(process, native)
        errors.seek(0)
        last = errors.read().splitlines()[-1:]
    seconds = round(time.monotonic() - start, 1)
    return {
        "schema": "pi-memory/1",
        "emulated": not native,
        "command": arguments[2:] if arguments[0] == "--home" else arguments,
        "exit": process.returncode,
        "last_message": last,
        "seconds": seconds,
        **memory,
    }


class Oracle(BaseHTTPRequestHandler):
    """Twelve even scores for every picture."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet
    body = json.dumps({"classes": [f"c{i}" for i in range(12)], "scores": [1 / 12] * 12}).encode()

    def do_GET(self) -> None:
        """No quota is told."""
        self.say(404, b"{}")

    def do_POST(self) -> None:
        """An answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.say(200, self.body)

    def say(self, status: int, body: bytes) -> None:
        """Send a whole answer."""
        self.send_response_only(status)
        self.send_header("Date", formatdate(usegmt=True))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def collect(count: int, native: bool) -> dict[str, Any]:
    """Queue so many small pictures with the host's Python, then measure `collect`."""
    with tempfile.TemporaryDirectory() as folder, ThreadingHTTPServer(("127.0.0.1", 0), Oracle) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        home, photos = Path(folder) / "home", Path(folder) / "photos"
        photos.mkdir()
        for number in range(count):
            colour = np.full((300, 300, 3), (number % 251, number // 251 % 251, 128), np.uint8)
            (photos / f"{number:06}.jpg").write_bytes(encode_query(colour))
        agent = [sys.executable, "-m", "pi_agent", "--home", str(home)]
        url = f"http://127.0.0.1:{server.server_address[1]}"
        for line in (["init", "--url", url, "--daily-quota", str(count + 10)], ["add", str(photos)]):
            subprocess.run([*agent, *line], check=True, stdout=subprocess.DEVNULL, cwd=CODE)
        found = measure(["--home", str(home), "collect"], native)
        server.shutdown()
    return found | {"pictures": count}


def main() -> None:
    """Read the command line, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--native", action="store_true", help="on this processor, not emulated")
    parser.add_argument("--collect", type=int, metavar="N", help="collect over N small pictures")
    parser.add_argument("arguments", nargs="*", help="a pi-agent command, after --")
    given = parser.parse_args()
    if (given.collect is None) == (not given.arguments):
        parser.error("give either --collect N or a command after --")
    found = collect(given.collect, given.native) if given.collect else measure(given.arguments, given.native)
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
