"""One home, one server, one network: start the agent, kill it, look, and start it again."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pi_agent.contract.files import sha256_hex
from pi_agent.contract.transfer_set import read_transfer_set
from pi_agent.prepare import decode_query
from tests.chaos import promises
from tests.chaos.fate import Fate, Plan, draw
from tests.chaos.home import Machine, small_disk
from tests.chaos.inspection import Snapshot, inspect, windows
from tests.chaos.network import Network, Weather
from tests.chaos.promises import Run
from tests.chaos.report import Tally
from tests.support import tiny_model_folder
from tests.support_server import serving
from training_host.predictor import load_predictor

_PATIENCE = 6.0
"""Seconds that a kill waits for the event it is aimed at; then it strikes wherever the agent is."""
_LIFETIME = 120.0
"""Seconds after which a run of a few queries that nobody kills should have ended long ago."""
_LOOK_EVERY = 8
_MOST_VIOLATIONS = 5
_CALM = Weather(latency=0.0)
_DISK_MEGABYTES = 192


@dataclass
class Campaign:
    """A home that is being tormented. `progress` hears of every kill."""

    plan: Plan
    machine: Machine
    network: Network
    store: Path
    progress: Callable[[], None]
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.plan.seed)
        self._pictures, self._drift, self._spent_until = 0, 0.0, 0.0
        self._now: Snapshot | None = None

    # -- the storm ---------------------------------------------------------------------------------------------------

    def storm(self) -> None:
        """Strike until so many kills have hit a living agent, or too many promises are broken."""
        while self.tally.kills < self.plan.kills and len(self.tally.violations) < _MOST_VIOLATIONS:
            before = self._now
            if before is None or before.waiting < self.plan.batch:
                self._more_pictures()
                before = self._now = inspect(self.machine.home)
            if self.tally.runs % 25 == 0:
                self._drift = self._rng.uniform(-0.2, 0.2) * self.plan.skew
            budget_left = time.time() >= self._spent_until
            if not budget_left and self._rng.random() < 0.5:
                # Where the windows meet is where a ledger goes wrong.
                time.sleep(max(0.0, self._spent_until - self._rng.uniform(0.3, 2) - time.time()))
                budget_left = True
            fate = draw(self._rng, self.plan, self._drift, budget_left, before.wal_bytes)
            self._broken(fate, promises.after_run(self._strike(fate, before)))
            counted = windows(self.store)
            self._broken(fate, promises.of_server(self.plan, counted, self.network.statuses))
            if self.tally.runs % _LOOK_EVERY == 0:
                self._look(fate)

    def _more_pictures(self) -> None:
        self.machine.set_clock(0.0)
        added = self.machine.add(self._pictures, self.plan.batch)
        if added["added"] != self.plan.batch:
            raise RuntimeError(f"not all pictures were added: {added}")
        self._pictures += self.plan.batch

    def _strike(self, fate: Fate, before: Snapshot) -> Run:
        """One run of the agent, killed or not."""
        self.network.begin(fate.weather)
        self.machine.set_clock(fate.clock[0][1])
        limit = () if fate.limit is None else ("--limit", fate.limit)
        process = self.machine.start("collect", "--json", *limit, file_limit=fate.file_limit)
        started = time.monotonic()
        state, reached, full = 1, 0.0, fate.full_after
        asked, first = self.network.arrived, 0.0 if not fate.from_question else float("inf")
        event = self._event(fate.aim, process.pid)
        hung = ""
        while process.poll() is None:
            age = time.monotonic() - started
            if self.network.arrived > asked:
                first = min(first, age)
            while state < len(fate.clock) and first + fate.clock[state][0] <= age:
                self.machine.set_clock(fate.clock[state][1])
                state += 1
            if full is not None and full <= age:
                self.machine.fill(self._rng.randrange(40_000))
                full = None
            if not reached and event():
                reached = age
            if (reached and age >= reached + fate.moment) or (fate.aim != "none" and age > _PATIENCE):
                break
            if age > _LIFETIME:
                hung = f"alive after {age:.0f} s, although it was to ask {fate.limit} questions at most"
                break
            time.sleep(0.001)
        phase, under_way = self._phase(process.pid), self.network.under_way()
        process.kill()
        process.wait()
        self.machine.clear()
        ended = self.machine.ended(process)
        killed = ended.code == -9
        counted = sum(n for n, _ in windows(self.store).values())
        after = self._now = inspect(self.machine.home)
        posts = self.network.of_run(self.network.run)
        run = Run(fate, self.plan, before, after, posts, ended, killed, time.time())
        self._count(run, phase, under_way)
        unknown = [f"the server counted {counted} queries, the ledger knows of {after.spent}"]
        self._broken(fate, ([hung] if hung else []) + (unknown if counted > after.spent else []))
        return run

    def _event(self, aim: str, pid: int) -> Callable[[], bool]:
        """What a kill waits for."""
        network, machine = self.network, self.machine
        gets, arrived, delivered = network.gets, network.arrived, network.delivered
        more = self._rng.randrange(6)
        events: dict[str, Callable[[], bool]] = {
            "start-up": lambda: True,
            "recovery": lambda: machine.lock_holder() == str(pid),
            "opening": lambda: network.gets > gets,
            "sent": lambda: network.arrived > arrived + more,
            "settling": lambda: network.delivered > delivered + more,
            "asking": lambda: network.arrived > arrived,
            "ending": machine.says,
            "none": lambda: False,
        }
        return events[aim]

    def _phase(self, pid: int) -> str:
        """Where the agent is, as seen from outside."""
        if self.machine.says():
            return "checkpoint"
        if self.machine.lock_holder() != str(pid):
            return "start-up"
        if self.network.under_way():
            return "asking"
        return "between questions" if self.network.of_run(self.network.run) else "recovery and opening"

    def _count(self, run: Run, phase: str, under_way: int) -> None:
        tally = self.tally
        tally.runs += 1
        tally.clocks[run.fate.clock_name] += 1
        tally.disks["file limit"] += run.fate.file_limit is not None
        tally.disks["filled up"] += run.fate.full_after is not None
        tally.destroyed += run.destroyed
        tally.slow += run.slow
        tally.disk_ends += run.stopped_by_disk
        tally.allowed_lost += run.allowed_lost
        if run.killed:
            tally.kills += 1
            tally.phases[phase] += 1
            tally.under_way[under_way] += 1
            self.progress()
        else:
            tally.ends[run.end] += 1
            if run.end == "75 BudgetSpent":
                self._spent_until = (time.time() // self.plan.period + 1) * self.plan.period

    def _look(self, fate: Fate) -> None:
        """Ask the agent itself: its other commands work on whatever a kill left behind."""
        self.machine.set_clock(0.0)
        budget, status = self.machine.run("budget"), self.machine.run("status")
        if budget.code or status.code:
            self._broken(fate, [f"budget exits {budget.code}, status {status.code}:\n{budget.stderr}{status.stderr}"])
        elif min(budget.json["remaining"], budget.json["reserved"], budget.json["spent"]) < 0:
            self._broken(fate, [f"the budget is negative: {budget.json}"])

    def _broken(self, fate: Fate | None, sentences: Iterator[str] | list[str]) -> None:
        for sentence in sentences:
            where = f"seed {self.plan.seed}, run {self.tally.runs}, {self.plan}, {fate}"
            if not any(known.endswith(sentence) for known in self.tally.violations):
                self.tally.violations.append(f"[{where}] {sentence}")

    # -- the calm after ----------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """A quiet network, the right time: the queue becomes empty, window by window. Then look at everything."""
        self.machine.set_clock(0.0)
        waiting = inspect(self.machine.home).waiting
        for _ in range(waiting // self.plan.quota + 6):
            self.network.begin(_CALM)
            before = inspect(self.machine.home)
            ended = self.machine.run("collect")
            after, posts = inspect(self.machine.home), self.network.of_run(self.network.run)
            run = Run(Fate("none", 0, _CALM), self.plan, before, after, posts, ended, False, time.time())
            self.tally.allowed_lost += run.allowed_lost
            self._broken(None, promises.after_run(run))
            if ended.code == 0 or self.tally.violations:
                break
            time.sleep(max(0.0, self._resets_at() + 0.2 - time.time()))
        self._final()

    def _resets_at(self) -> float:
        return datetime.fromisoformat(self.machine.done("budget")["resets_at"]).timestamp()

    def _final(self) -> None:
        after, status, tally = inspect(self.machine.home), self.machine.done("status"), self.tally
        counted = windows(self.store)
        tally.windows, tally.counted = len(counted), sum(n for n, _ in counted.values())
        tally.full_windows = sum(n >= self.plan.quota for n, _ in counted.values())
        tally.settled, tally.lost, tally.pictures = after.settled, after.lost, len(after.answers)
        tally.faults += self.network.faults
        tally.statuses.update({str(status): n for status, n in self.network.statuses.items()})
        self._broken(None, promises.of_server(self.plan, counted, self.network.statuses))
        self._broken(None, promises.of_answers(after.answers, self.network.answers))
        facts = {
            "the queue is not empty": (status["queue"], 0),
            "not every picture has its answer": (status["answered_images"], self._pictures),
            "answers are missing": (status["answers"], self._pictures),
            "pictures were given up": (status["problems"], 0),
            "`status` does not report every query spent without an answer": (
                status["spent_without_answer"],
                after.lost,
            ),
        }
        self._broken(None, [f"{what}: {found} is not {due}" for what, (found, due) in facts.items() if found != due])
        if after.lost > tally.allowed_lost:
            self._broken(None, [f"{after.lost} queries spent without an answer, {tally.allowed_lost} can be explained"])

    def exported(self, model: Path) -> None:
        """The transfer set holds what the model itself says about each picture."""
        self.machine.done("export", self.machine.folder / "out.tar")
        predictor, images = load_predictor(model), 0
        for item in read_transfer_set(self.machine.folder / "out.tar"):
            images += 1
            due = predictor.scores(decode_query(item.jpeg))
            if item.vectors.shape != (1, len(due)) or (item.vectors[0] != due).any():
                self._broken(None, [f"{sha256_hex(item.jpeg)}: exported as {item.vectors}, the model says {due}"])
        if images != self._pictures:
            self._broken(None, [f"{images} of {self._pictures} pictures were exported"])


@contextlib.contextmanager
def prepared(plan: Plan, folder: Path, progress: Callable[[], None]) -> Iterator[tuple[Campaign, Path]]:
    """A campaign with its server, its network and its home, and the model that is served."""
    model, store = tiny_model_folder(folder / "tiny"), folder / "quota.db"
    arguments: tuple[Any, ...] = ("--quota", plan.server_quota, "--quota-period", f"{plan.period}s")
    environment = {"PI_AGENT_ORACLE_TIMEOUT": str(plan.timeout), "PI_AGENT_ORACLE_IN_FLIGHT": str(plan.in_flight)}
    with (
        small_disk(folder / "disk", _DISK_MEGABYTES) if plan.small_disk else contextlib.nullcontext(False) as mounted,
        serving(model, *arguments, "--quota-store", store, "--max-in-flight", 64) as served,
    ):
        host, port = served.url.removeprefix("http://").split(":")
        rng = random.Random(plan.seed + 1)
        with Network((host, int(port)), rng, plan.timeout, plan.skew / 5).open() as network:
            machine = Machine(folder, environment)
            machine.set_clock(0.0)
            machine.home.parent.mkdir(exist_ok=True)
            init = ("--url", network.url, "--daily-quota", plan.quota, "--period", f"{plan.period}s")
            machine.done("init", *init)
            if plan.small_disk and not mounted:
                plan = Plan(**{**vars(plan), "small_disk": False})
            yield Campaign(plan, machine, network, store, progress), model


def run_campaign(plan: Plan, folder: Path, progress: Callable[[], None] = lambda: None) -> Tally:
    """Storm, calm and the last look. The folder is kept where a promise was broken."""
    folder.mkdir(parents=True)
    with prepared(plan, folder, progress) as (campaign, model):
        campaign.storm()
        campaign.calm()
        if not campaign.tally.violations:
            campaign.exported(model)
        if campaign.tally.violations and campaign.plan.small_disk:
            shutil.copytree(campaign.machine.home, folder / "home-as-left")
    if not campaign.tally.violations:
        shutil.rmtree(folder)
    return campaign.tally
