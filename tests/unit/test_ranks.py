"""What several processes share of a training; real ones, over gloo."""

from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path

import pytest
import torch

from tests.support_nets import CPU, GLANCE, coloured_set, glance_known
from training_host.training.loop import Recipe
from training_host.training.ranks import Ranks, our_ranks
from training_host.training.supervised import train_classifier


def test_every_row_of_a_batch_goes_to_exactly_one_process():
    indices = torch.randperm(64)
    parts = [Ranks(rank, 3).part(indices) for rank in range(3)]
    assert sorted(torch.cat(parts).tolist()) == list(range(64))
    assert torch.equal(Ranks().part(indices), indices)
    assert len(Ranks(1, 8).part(torch.tensor([5]))) == 1, "nobody has nothing to do"


def test_processes_and_epochs_have_random_numbers_of_their_own():
    drawn = {
        tuple(torch.rand(2, generator=Ranks(rank, 2).generator(seed, epoch)).tolist())
        for rank in (0, 1)
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(drawn) == 8


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    ranks = our_ranks()
    assert ranks == Ranks() and ranks.first
    ranks.part_company()


def one_of_two(rank: int, port: int, out: Path, start_seed: int) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with glance_known():
        start = train_classifier(GLANCE, coloured_set(64, 1), Recipe(0, seed=start_seed), CPU)
        model = train_classifier(
            GLANCE, coloured_set(128, 1), Recipe(2, seed=3), CPU, start=start, checkpoint=out / "checkpoint.pt"
        )
    torch.save(model.state_dict(), out / f"{rank}.pt")


def test_two_processes_end_with_the_same_weights_though_they_began_with_different_ones(tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=one_of_two, args=(rank, port, tmp_path, rank)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(300)
        process.kill()  # no effect on one that has ended; the exit code tells
    assert [process.exitcode for process in both] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not (tmp_path / "checkpoint.pt").exists()
