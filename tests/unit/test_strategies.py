"""Every query strategy keeps the contract, and prefers what its paper says it prefers."""

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support_nets import glance
from tests.support_students import CLASSES, Colours, OpenColours, filled, noisy_pool, situation_of
from training_host.attacks.base import OpenStudent, Query
from training_host.attacks.centres import herd, k_center
from training_host.attacks.copycat import Copycat
from training_host.attacks.dfal import DeepFool
from training_host.attacks.disagreement import Disagreement
from training_host.attacks.entropy import Entropy
from training_host.attacks.jacobian import Jacobian
from training_host.attacks.kcenter import KCenter
from training_host.attacks.knockoff import KnockoffAdaptive
from training_host.attacks.magpie import KINDS, Magpie
from training_host.attacks.mixmatch import MixMatch
from training_host.attacks.parts import interleave, picture_of, sketch
from training_host.attacks.random_choice import Random
from training_host.attacks.strategies import STRATEGIES
from training_host.attacks.students import NetworkStudent
from training_host.data.arrays import ScoredSet
from training_host.data.variants import mix
from training_host.training.device import Device
from training_host.training.evaluate import predict

POOL = noisy_pool(60)
LABELS = POOL.mean(axis=(1, 2)).argmax(axis=1).astype(np.int64)
COMMITTEE = (Colours(), Colours(4, (1, 0, 0)), Colours(20, (0, 0, 2)))
NEVER_SHORT = ("magpie", "random", "copycat")
CPU = Device("cpu", bf16=False)


@pytest.mark.parametrize("name", STRATEGIES)
@settings(max_examples=15)
@given(
    size=st.integers(1, 150),
    asked=st.sets(st.integers(0, 59)),
    students=st.integers(0, 3),
    labelled=st.booleans(),
    seed=st.integers(0, 9),
)
def test_a_choice_fits_the_budget_repeats_nothing_and_is_the_same_again(
    name: str, size: int, asked: set[int], students: int, labelled: bool, seed: int
):
    def chosen() -> list[Query]:
        labels = LABELS if labelled else None
        return STRATEGIES[name]().choose(situation_of(POOL, size, sorted(asked), COMMITTEE[:students], labels, seed))

    queries = chosen()
    assert queries == chosen()
    assert len(set(queries)) == len(queries) <= size
    plain = [q.index for q in queries if q.kind == "plain"]
    assert len(set(plain)) == len(plain) and not set(plain) & asked
    for query in queries:
        assert 0 <= query.index < len(POOL) and query.kind in KINDS
        assert (query.other is not None) == (query.kind == "mixed") and query.other != query.index
    if name in NEVER_SHORT:
        assert len(queries) == size
    elif name != "jacobian":
        assert len(queries) == min(size, len(POOL) - len(asked))
    assert sketch(queries, POOL).shape == (len(queries), *POOL.shape[1:])


@pytest.mark.parametrize("name", STRATEGIES)
def test_an_empty_pool_leaves_nothing_to_ask(name: str):
    assert STRATEGIES[name]().choose(situation_of(POOL[:0], 5, students=COMMITTEE)) == []


@pytest.mark.parametrize(
    ("strategy", "bad"),
    [
        (Copycat, {"augmented": 1.2}),
        (KnockoffAdaptive, {"rewards": ("luck",)}),
        (KnockoffAdaptive, {"rewards": ()}),
        (Disagreement, {"measure": "shouting"}),
        (DeepFool, {"step": 0.0}),
        (Jacobian, {"candidates": 0}),
        (Magpie, {"shares": (0.6, 0.6, -0.2, 0)}),
        (Magpie, {"shares": (0.6, 0.3, 0.2, 0)}),
        (Magpie, {"first": "random"}),
    ],
)
def test_settings_that_make_no_sense_are_refused(strategy: type, bad: dict):
    with pytest.raises(ValueError):
        strategy(**bad)


def test_random_asks_everything_once_before_it_asks_changed_pictures():
    queries = Random().choose(situation_of(POOL, 150, asked=range(10)))
    assert {q.index for q in queries[:50]} == set(range(10, 60))
    assert [q.kind for q in queries] == ["plain"] * 50 + ["augmented"] * 100
    assert max(Counter(q.index for q in queries[50:]).values()) == 2


def test_copycat_asks_as_many_changed_pictures_as_plain_ones_all_along():
    queries = Copycat().choose(situation_of(POOL, 40))
    for length in (10, 20, 40):
        assert Counter(q.kind for q in queries[:length])["augmented"] == length // 2


def test_mixmatch_asks_plain_pictures_only_and_does_not_mind_students():
    alone, advised = (MixMatch().choose(situation_of(POOL, 30, students=s)) for s in ((), COMMITTEE))
    assert alone == advised and {q.kind for q in alone} == {"plain"}


def test_k_center_finds_the_small_clusters_and_avoids_what_is_known():
    crowd = [(200, 40 + i % 5, 40) for i in range(40)]
    pool = filled(*crowd, (40, 200, 40), (40, 40, 200), (220, 220, 220))
    for students in ((), (Colours(),)):
        first = KCenter().choose(situation_of(pool, 4, students=students))
        assert {q.index for q in first} >= {40, 41, 42}
        later = KCenter().choose(situation_of(pool, 2, asked=[3, 40], students=students))
        assert {q.index for q in later} == {41, 42}
    by_scores = KCenter(by_scores=True).choose(situation_of(pool, 2, asked=[3], students=(Colours(),)))
    assert {q.index for q in by_scores} == {40, 41}


def test_weights_stretch_distances():
    line = np.array([[0.0], [1.0], [2.0], [-3.0]], np.float32)
    known = np.zeros((1, 1), np.float32)
    assert k_center(line, 1, known).tolist() == [3]
    assert k_center(line, 2, known, np.array([1, 1, 9, 1.0])).tolist() == [2, 3]


def test_herding_looks_like_the_whole_and_takes_outliers_last():
    rng = np.random.default_rng(0)
    cloud = np.concatenate([rng.normal(0, 1, (200, 4)), [[30, 30, 30, 30]]]).astype(np.float32)
    chosen = herd(cloud, 20, rng)
    assert 200 not in chosen.tolist() and k_center(cloud, 2).tolist()[1] == 200
    error = np.linalg.norm(cloud[chosen].mean(0) - cloud[:200].mean(0))
    others = [np.linalg.norm(cloud[rng.choice(200, 20)].mean(0) - cloud[:200].mean(0)) for _ in range(200)]
    assert error < np.quantile(others, 0.1)
    half = cloud[cloud[:, 0] > 0]
    continued = herd(cloud, 20, rng, known=half)
    assert (cloud[continued, 0] < 0).mean() > 0.8


def test_entropy_asks_where_the_students_are_undecided():
    pool = filled((250, 5, 5), (130, 125, 5), (5, 250, 5), (120, 120, 120), (5, 5, 250))
    queries = Entropy().choose(situation_of(pool, 2, students=(Colours(),)))
    assert [q.index for q in queries] == [3, 1]
    later = Entropy().choose(situation_of(pool, 1, asked=[3], students=(Colours(),)))
    assert [q.index for q in later] == [1]


def test_disagreement_asks_where_sure_students_contradict_each_other_and_not_where_all_doubt():
    pool = filled((120, 120, 120), (250, 5, 5), (5, 130, 120))
    rivals = (Colours(20, (0, 4, 0)), Colours(20, (0, 0, 4)))
    for measure in ("kl", "votes"):
        (query,) = Disagreement(measure).choose(situation_of(pool[[0, 1, 2]], 1, students=rivals))
        assert query.index in (0, 2) and query.index != 1
    doubting = (Colours(0.1), Colours(0.1, (0.01, 0, 0)))
    two = filled((120, 120, 120), (5, 130, 120))
    apart = [replace(s, sharpness=20) for s in rivals]

    class Both:
        """Doubts the first picture as all do, is sure of the second as only it is."""

        def __init__(self, doubt: Colours, sure: Colours) -> None:
            self._parts = doubt, sure

        def scores_of(self, images: np.ndarray) -> np.ndarray:
            first = (images.mean(axis=(1, 2)).std(axis=1) < 1)[:, None]
            return np.where(first, self._parts[0].scores_of(images), self._parts[1].scores_of(images))

    students = tuple(Both(d, s) for d, s in zip(doubting, apart, strict=True))
    assert [q.index for q in Entropy().choose(situation_of(two, 1, students=students))] == [0]
    assert [q.index for q in Disagreement().choose(situation_of(two, 1, students=students))] == [1]


@pytest.mark.parametrize("student", [Colours(), OpenColours()], ids=["finite differences", "gradients"])
def test_dfal_measures_the_distance_to_the_nearest_border(student: Colours):
    pictures = filled((200, 60, 60), (140, 120, 60), (90, 100, 190), (60, 122, 118))
    colours = np.sort(pictures[:, 0, 0].astype(float), axis=1) / 255
    # the border between two channels lies at their middle: each of SIDE * SIDE pixels moves in two channels
    true = (colours[:, 2] - colours[:, 1]) / np.sqrt(2) * 16
    found = DeepFool(probes=64).distances(student, pictures, np.random.default_rng(0))
    assert isinstance(student, OpenStudent) == isinstance(student, OpenColours)
    assert np.allclose(found, true, rtol=1e-3 if isinstance(student, OpenColours) else 0.4)
    queries = DeepFool().choose(situation_of(pictures, 2, students=(student,)))
    assert [q.index for q in queries] == [3, 1]


def test_adaptive_knockoff_asks_the_class_whose_answers_paid():
    rng = np.random.default_rng(0)
    pool, labels = noisy_pool(300, 5), np.arange(300) % 3
    asked = np.arange(90)
    scores = rng.dirichlet([5, 5, 5], 90).astype(np.float32)
    scores[labels[asked] == 1] = (0.02, 0.96, 0.02)
    situation = situation_of(pool, 60, asked, labels=labels)
    situation = replace(situation, answered=ScoredSet(pool[asked], scores, CLASSES))
    counts = Counter(labels[q.index] for q in KnockoffAdaptive(("certainty",)).choose(situation))
    plain = Counter(labels[q.index] for q in KnockoffAdaptive(("certainty",)).choose(replace(situation, answered=None)))
    assert counts[1] > 1.5 * max(counts[0], counts[2])
    assert counts[1] > 1.5 * plain[1] and max(plain.values()) < 30


def test_adaptive_knockoff_values_answers_that_its_student_got_wrong():
    pool, labels = noisy_pool(200, 6), np.arange(200) % 2
    situation = situation_of(pool, 60, np.arange(60), (Colours(),), labels)
    truth = Colours().scores_of(pool[:60])
    truth[labels[:60] == 0] = np.roll(truth[labels[:60] == 0], 1, axis=1)
    counts = Counter(
        labels[q.index]
        for q in KnockoffAdaptive(("loss",)).choose(replace(situation, answered=ScoredSet(pool[:60], truth, CLASSES)))
    )
    assert counts[0] > 1.5 * counts[1]


def test_jacobian_moves_asked_pictures_along_the_students_score():
    student, asked = Colours(), np.arange(12)
    queries = Jacobian().choose(situation_of(POOL, 24, asked, (student,)))
    assert {q.kind for q in queries} == {"augmented"} and {q.index for q in queries} == set(range(12))

    def moved(of: list[Query]) -> float:
        before, after = student.scores_of(POOL[[q.index for q in of]]), student.scores_of(sketch(of, POOL))
        rows = np.arange(len(of)), before.argmax(axis=1)
        return float(np.abs(after[rows] - before[rows]).mean())

    assert moved(queries) > 1.5 * moved(Jacobian(candidates=1).choose(situation_of(POOL, 24, asked, (student,))))
    assert {q.kind for q in Jacobian().choose(situation_of(POOL, 24, students=(student,)))} == {"plain"}


def test_magpie_asks_plain_pictures_alone_while_the_budget_is_small_each_class_by_its_share():
    labels = np.repeat([0, 1, 2], (30, 20, 10))
    assert {q.kind for q in Magpie().choose(situation_of(POOL, 12, students=COMMITTEE))} == {"plain"}
    queries = Magpie().choose(situation_of(POOL, 12, labels=labels))
    assert {q.kind for q in queries} == {"plain"}
    assert Counter(labels[q.index] for q in queries) == {0: 6, 1: 4, 2: 2}
    later = Magpie().choose(situation_of(POOL, 12, asked=[0, 1, 2, 3, 4, 5, 30, 50], labels=labels))
    assert Counter(labels[q.index] for q in later) == {0: 4, 1: 6, 2: 2}


def test_magpie_spends_a_part_on_changed_pictures_and_more_as_the_pool_is_used_up():
    magpie = Magpie(least=0)
    pool = noisy_pool(400, 3)
    fresh = Counter(q.kind for q in magpie.choose(situation_of(pool, 100)))
    assert fresh == {"plain": 65, "augmented": 15, "mixed": 12, "foreign": 8}
    half = Counter(q.kind for q in magpie.choose(situation_of(pool, 100, range(200))))
    assert half["plain"] == 58 and half.total() == 100 and half["augmented"] > half["mixed"] > half["foreign"]
    spent = Counter(q.kind for q in magpie.choose(situation_of(pool, 100, range(400))))
    assert spent == {"augmented": 43, "mixed": 34, "foreign": 23}
    start = Counter(q.kind for q in magpie.choose(situation_of(pool, 100))[:20])
    assert start["plain"] == 13 and start.total() == 20
    alone = {q.kind for q in magpie.choose(situation_of(pool[:1], 8, [0]))}
    assert alone == {"augmented", "foreign"}, "one picture cannot be mixed with itself"
    assert len(Magpie((1, 0, 0, 0), 0).choose(situation_of(pool, 100, range(350)))) == 50
    only_mixed = Counter(q.kind for q in Magpie((0.8, 0, 0.2, 0), 0).choose(situation_of(pool, 100, range(200))))
    assert only_mixed == {"plain": 75, "mixed": 25}


def test_magpie_trusts_students_that_know_true_labels_from_the_first_query_on():
    pool, labels = noisy_pool(200, 5), np.arange(200) % 3
    told = Magpie().choose(situation_of(pool, 60, students=COMMITTEE, labels=labels))
    assert Counter(q.kind for q in told) == {"plain": 39, "augmented": 9, "mixed": 7, "foreign": 5}
    assert {q.kind for q in Magpie().choose(situation_of(pool, 60, students=COMMITTEE))} == {"plain"}


def test_magpie_prefers_doubtful_pictures_once_its_students_are_worth_asking():
    pool = noisy_pool(300, 4)
    doubt = -np.sort(Colours().scores_of(pool), axis=1)[:, -1]
    chosen = {}
    for least in (0, 600):
        queries = Magpie((0.8, 0.1, 0.1, 0), least).choose(situation_of(pool, 60, range(30), COMMITTEE))
        chosen[least] = doubt[[q.index for q in queries if q.kind == "plain"]].mean()
    assert chosen[0] > chosen[600] + 0.03
    doubts = []
    for floor in (0, 1e9):  # a floor so high that no doubt matters any more
        magpie = Magpie((0, 0.5, 0.5, 0), 0, floor=floor)
        made = magpie.choose(situation_of(pool, 60, range(30), COMMITTEE))
        doubts.append(-Colours().scores_of(sketch(made, pool)).max(axis=1).mean())
    assert doubts[0] > doubts[1] + 0.03


def test_every_beginning_of_interleaved_lists_holds_its_share_of_each():
    lists = [[Query(i) for i in range(60)], [Query(i, "augmented") for i in range(30)], []]
    assert Counter(q.kind for q in interleave(lists)[:30]) == {"plain": 20, "augmented": 10}


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_a_mix_holds_both_pictures_and_looks_the_same_in_small(seed: int):
    first, second = filled((255, 0, 0))[0], filled((0, 0, 255))[0]
    large = mix(*(np.repeat(np.repeat(p, 8, 0), 8, 1) for p in (first, second)), np.random.default_rng(seed))
    small = mix(first, second, np.random.default_rng(seed))
    assert 0.12 < small[..., 0].mean() / 255 < 0.88 and small.dtype == np.uint8
    assert (large[..., 0].astype(int) + large[..., 2] - 255).max() <= 1
    shrunk = cv2.resize(large, (16, 16), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(float) - small).mean() < 20


def test_a_query_is_made_again_from_its_seed_and_others_are_refused():
    picture, other = noisy_pool(2)
    for kind in ("augmented", "mixed", "foreign"):
        made = [picture_of(Query(0, kind, 1, seed), picture, other) for seed in (7, 7, 8)]
        assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])
    assert picture_of(Query(0), picture, None) is picture
    for query in (Query(0, "mixed", 1), Query(0, "stolen")):
        with pytest.raises(ValueError, match="cannot be made"):
            picture_of(query, picture, None)


def test_a_network_shows_what_its_last_layer_is_given_and_the_slope_of_its_log_scores():
    network = glance(3, seed=4).eval()
    student = NetworkStudent(network, CPU)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    features, scores = student.features_of(images), student.scores_of(images)
    assert features.shape == (5, 64) and np.array_equal(scores, predict(network, images, CPU))
    last = network.head[-1]
    with torch.no_grad():
        logits = last(torch.from_numpy(features))
    assert np.allclose(torch.softmax(logits, 1).numpy(), scores, atol=1e-5)

    weights = np.tile(np.array([1, -1, 0], np.float32), (5, 1))
    gradients = student.gradients_of(images, weights)
    assert gradients.shape == images.shape and isinstance(student, OpenStudent)
    up = np.clip(images + 2 * np.sign(gradients), 0, 255).astype(np.uint8)
    values = [(np.log(student.scores_of(i)) * weights).sum(axis=1) for i in (images, up)]
    expected = (gradients * (up.astype(float) - images) / 255).sum(axis=(1, 2, 3))
    assert np.allclose(values[1] - values[0], expected, rtol=0.25, atol=1e-3) and (values[1] > values[0]).all()
