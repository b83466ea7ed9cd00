"""Progress of long work: bars on a terminal, one line per stage elsewhere. Results go through `contract.output`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from training_host.training.loop import EpochReport


@contextmanager
def epochs_bar(epochs: int, label: str) -> Iterator[Callable[[EpochReport], None]]:
    """A bar on stderr that advances by epochs and shows the loss; silent where stderr is no terminal."""
    last = ""

    def loss(_: object) -> str:
        return last

    with click.progressbar(length=epochs, label=label, item_show_func=loss, show_eta=True, file=sys.stderr) as bar:

        def show(report: EpochReport) -> None:
            nonlocal last
            last = f"loss {report.loss:.3f}"
            bar.update(report.epoch - bar.pos)

        yield show


class Stages:
    """A running account of a long job on stderr: number, name, seconds; details on one line that is overwritten."""

    def __init__(self, total: int) -> None:
        self._total, self._number = total, 0
        self._start = time.monotonic()
        self._live = sys.stderr.isatty()
        self._open = False

    def begin(self, name: str) -> None:
        """Start the next stage."""
        self._number += 1
        self._line(f"[{self.elapsed:4.0f} s] {self._number}/{self._total} {name}", keep=True)

    def note(self, text: str) -> None:
        """A line worth keeping."""
        self._line(f"         {text}", keep=True)

    def detail(self, text: str) -> None:
        """A passing state; shown on terminals only."""
        if self._live:
            self._line(f"         {text}", keep=False)

    def epoch(self, report: EpochReport) -> None:
        """Progress of a training, for `progress=`."""
        self.detail(f"epoch {report.epoch} of {report.epochs}, loss {report.loss:.3f}")

    @property
    def elapsed(self) -> float:
        """Seconds since the job began."""
        return time.monotonic() - self._start

    def _line(self, text: str, keep: bool) -> None:
        clear = "\r\x1b[K" if self._open else ""
        sys.stderr.write(f"{clear}{text}" + ("\n" if keep else ""))
        sys.stderr.flush()
        self._open = not keep
