"""A suspect behind an API: the questions of a case, asked through the ledger like any other query.

Answers are stored as they land, so a verification may take several nights, and may be killed in each of them. There is
no verdict on a part of the questions: how many there are was decided before anybody saw an answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from pi_agent.agent import Agent
from pi_agent.asking import Bounds, NoAnswer, Outcome
from pi_agent.contract.errors import BROKEN_DISK, Exit, MagpieError, StorageError
from pi_agent.contract.images import QueryImage
from pi_agent.contract.log import event
from pi_agent.contract.windows import iso
from pi_agent.errors import BudgetSpent, LockedOut, OracleFailing
from pi_agent.store.labels import FOR_A_VERIFICATION
from pi_agent.store.lock import spender_lock
from pi_agent.telemetry import write_textfile
from pi_agent.verify.case import Case
from pi_agent.verify.sheet import Sheet
from pi_agent.verify.verdict import Ground, Verdict

log = logging.getLogger(__name__)

_BATCH = 64
_REFUSED = "refused by the oracle"
"""How `asking` begins the reason of an image that the oracle will never answer."""


class Unfinished(MagpieError):
    """{answered} of {questions} questions are answered, {reason}; run the same command again after {until}"""

    exit_code = Exit.TRY_TOMORROW
    hint = "what is answered costs nothing any more; there is no verdict on a part of the questions"


class Unanswered(MagpieError):
    """{answered} of {questions} questions are answered; of the others the oracle made nothing usable: {reason}"""

    exit_code = Exit.UNREACHABLE
    hint = "run the same command again, or ask the oracle's owner; what is answered costs nothing any more"


class Interview:
    """A case, put to the oracle of an agent. `cached`: images that had their answer before; `sent`: queries spent.

    Raises `RefusedInput` (65) for bad carriers, `StorageError` (74).
    """

    def __init__(self, agent: Agent, case: Case) -> None:
        self._started = time.monotonic()
        self._agent, self._case = agent, case
        self._sheet = Sheet(case)
        self._refused = {sha256 for sha256 in self._sheet.numbers if self._was_refused(sha256)}
        self._why = ""
        self.cached = len(self._answered())
        self.sent = 0

    @property
    def missing(self) -> list[str]:
        """The images that are still to be asked, in the order of the questions."""
        done = {*self._answered(), *self._refused}
        return [sha256 for sha256 in self._sheet.numbers if sha256 not in done]

    def foretell(self) -> None:
        """Say, before the first query, where this window's budget will not do. The reserve is kept for this."""
        missing, left, quota = len(self.missing), self._agent.ledger.budget().remaining, self._agent.ledger.quota
        if left < missing:
            windows = "never" if quota == 0 else -(-(missing - left) // quota)
            log.warning(event("not-in-this-window", missing=missing, queries_left=left, further_windows=windows))

    def verdict(self, progress: Callable[[int], object] = lambda count: None) -> Verdict:
        """Ask what has no answer yet, the reserve included, and weigh all answers.

        Raises `Unfinished` (75) where the budget does not suffice or the oracle locks us out, `Unanswered` (69),
        `Busy` (75) when another process is spending, what else `Oracle.ask_all` raises, and `KeyboardInterrupt` when
        told to stop. Every answer that has landed is kept.
        """
        if self.missing:
            with spender_lock(self._agent.home.lock):
                refunded, lost = self._agent.ledger.recover()
                if refunded or lost:
                    log.warning(event("recovered", refunded=refunded, spent_without_answer=lost))
                try:
                    self._ask(self.missing, progress)
                finally:
                    write_textfile(self._agent)
        return replace(self._weigh(), seconds=time.monotonic() - self._started)

    # -- asking ------------------------------------------------------------------------------------------------------

    def _ask(self, missing: Sequence[str], progress: Callable[[int], object]) -> None:
        self._store(missing)
        oracle = self._agent.oracle
        doubtful: dict[str, str] = {}

        def landed(image: QueryImage, outcome: Outcome) -> None:
            if isinstance(outcome, NoAnswer):
                log.error(event("no-answer", image=image.sha256[:12], why=outcome, permanent=outcome.permanent))
                self._why = str(outcome)
                if outcome.permanent:
                    doubtful[image.sha256] = str(outcome)
            else:
                self._believe(doubtful)
            progress(1)

        try:
            oracle.ask_all(self._stored(missing), landed, Bounds(keep=0))
        except BudgetSpent as exc:
            until = iso(self._agent.ledger.budget().resets_at)
            raise self._unfinished("and the budget is spent", until) from exc
        except LockedOut as exc:
            raise self._unfinished("and the oracle has locked us out", exc.fields["until"]) from exc
        finally:
            self.sent = oracle.sent
            log.debug(event("asked", answered=self._count(), questions=self._sheet.questions, sent=self.sent))
        self._believe(doubtful)

    def _store(self, missing: Sequence[str]) -> None:
        """Where `query` keeps its picture, too; the source says what it is, so that nobody trains with it unawares."""
        source = f"{FOR_A_VERIFICATION}{self._case.claim.commitment[:12]}"
        for start in range(0, len(missing), _BATCH):
            some = missing[start : start + _BATCH]
            self._agent.pictures.put_all(self._sheet.images(some))
            self._agent.queue.add([(sha256, source) for sha256 in some], 0, self._agent.clock.now(), queued=False)

    def _stored(self, missing: Sequence[str]) -> Iterator[QueryImage]:
        for sha256 in missing:
            image = self._agent.pictures.get(sha256)
            if image is None:
                raise StorageError(path=self._agent.pictures.path(sha256), reason="it changed", hint=BROKEN_DISK)
            yield image

    # -- refused images ----------------------------------------------------------------------------------------------

    def _believe(self, doubtful: dict[str, str]) -> None:
        """It refused these and answered another: so it is the images, and not the way in which we ask."""
        while doubtful:
            sha256, why = doubtful.popitem()
            self._agent.queue.set_problem(sha256, why)
            self._refused.add(sha256)

    def _was_refused(self, sha256: str) -> bool:
        """Whether this oracle refused the image for ever, on another night or in `collect`."""
        database = self._agent.database
        image = database.value("SELECT seq FROM image WHERE sha256=? AND problem LIKE ?", sha256, f"{_REFUSED}%")
        asked = (
            "SELECT 1 FROM attempt WHERE image=? AND state='sent' AND closed_at IS NOT NULL "
            "AND oracle=(SELECT id FROM oracle WHERE name=?) LIMIT 1"
        )
        return image is not None and database.value(asked, image, self._agent.oracle_id) is not None

    # -- weighing ----------------------------------------------------------------------------------------------------

    def _answered(self) -> list[str]:
        return [sha256 for sha256 in self._sheet.numbers if self._agent.labels.get(sha256) is not None]

    def _count(self) -> int:
        return self._sheet.count(self._answered())

    def _unfinished(self, reason: str, until: str) -> Unfinished:
        return Unfinished(answered=self._count(), questions=self._sheet.questions, reason=reason, until=until)

    def _weigh(self) -> Verdict:
        agent, sheet = self._agent, self._sheet
        if self.missing:
            raise Unanswered(answered=self._count(), questions=sheet.questions, reason=self._why)
        answers = {sha256: found.vector for sha256 in sheet.numbers if (found := agent.labels.get(sha256))}
        if not sheet.has_ordinary(answers):
            reason = "it refuses every ordinary picture, so nobody can tell which of its outputs is which class"
            raise OracleFailing(url=agent.config.oracle.url, reason=reason)
        names = agent.labels.classes() or ()
        ground = Ground("answers", f"given to this agent by {agent.oracle_id}", True)
        return sheet.weigh(answers, names, "oracle", agent.oracle_id, ground)
