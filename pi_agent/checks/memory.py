"""Does the kernel keep the memory limits of the systemd units?"""

from __future__ import annotations

from pi_agent.checks.base import Context, Finding, passed, warning

_COMMAND_LINES = (("boot", "firmware", "cmdline.txt"), ("boot", "cmdline.txt"))


def check(context: Context) -> Finding:
    """Kernels of the Raspberry Pi start with the memory controller off, and then MemoryMax= is silently ignored."""
    controllers = context.read("sys", "fs", "cgroup", "cgroup.controllers")
    total = _total(context)
    if controllers is None:
        return warning(
            f"{total}; no unified cgroup hierarchy, so MemoryMax= of the units does nothing",
            "use a system with cgroup v2; a suspect's own limits hold without it",
        )
    if "memory" in controllers.split():
        return passed(f"{total}; the memory controller is on")
    places = [parts for parts in _COMMAND_LINES if context.read(*parts) is not None]
    where = f"/{'/'.join(places[0])}" if places else "the kernel's command line"
    return warning(
        f"{total}; the memory controller is off, so MemoryMax= of the units does nothing",
        f"add cgroup_enable=memory to the one line of {where} and reboot",
    )


def _total(context: Context) -> str:
    for line in (context.read("proc", "meminfo") or "").splitlines():
        if line.startswith("MemTotal:") and line.split()[1].isdigit():
            return f"{int(line.split()[1]) // 1024} MiB of memory"
    return "memory of unknown size"
