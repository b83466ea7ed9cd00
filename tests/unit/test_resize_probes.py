"""Probes tell seven ways of making pictures small apart, behind a real network, and say so where they cannot."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pi_agent.contract.errors import NothingToDo, RefusedInput
from pi_agent.contract.files import sha256_hex
from pi_agent.contract.manifest import RESIZE_FILTERS, InputSpec
from pi_agent.contract.transfer_set import TransferItem, safe_members, write_transfer_set
from pi_agent.prepare import decode_query, encode_query, is_query_image, resample, shrink_to
from training_host.attacks.resize_probes import PLAIN, choose_pictures, filter_matrix, hide, make_probes
from training_host.attacks.resize_verdict import judge_probes
from training_host.data import waste
from training_host.data.batch import write_batch
from training_host.data.pool import Pool, list_pool, read_pool
from training_host.predictor import load_predictor

SIZE = (64, 64)
VICTIM = Path(__file__).resolve().parents[2] / "models" / "victim"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Rendered pictures, a white one and a black one."""
    folder = tmp_path_factory.mktemp("pool")
    for number, name in enumerate(waste.CLASSES[:4]):
        pixels = waste.render(name, np.random.default_rng([3, number]))
        (folder / f"{name}.jpg").write_bytes(encode_query(pixels, 90))
    for level in (0, 255):
        (folder / f"flat-{level}.jpg").write_bytes(encode_query(np.full((300, 300, 3), level, np.uint8)))
    return read_pool(list_pool(folder), InputSpec())


@pytest.fixture(scope="module")
def batch(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("batch") / "probes.tar"
    write_batch(path, make_probes(pool, choose_pictures(pool, 2, rng), SIZE, rng))
    return path


def queries(batch: Path) -> list[tuple[str, bytes]]:
    return [(name, jpeg) for name, jpeg in safe_members(batch, 1 << 20) if name.endswith(".jpg")]


def answered(batch: Path, out: Path, say, first: int | None = None) -> Path:
    """A night's transfer set; `say` gives the scores of uint8 (300, 300, 3)."""
    items = []
    for name, jpeg in queries(batch)[:first]:
        vector = np.asarray(say(decode_query(jpeg, name)), np.float32)
        classes = tuple(f"class{i}" for i in range(len(vector)))
        items.append(TransferItem(sha256_hex(jpeg), jpeg, classes, vector[None]))
    write_transfer_set(out, {}, items)
    return out


@pytest.mark.parametrize("name", RESIZE_FILTERS)
def test_a_matrix_is_what_the_library_does(name: str):
    picture = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    rows, columns = filter_matrix(name, 48), filter_matrix(name, 64)
    assert rows.shape == (48, 300) and np.allclose(rows.sum(axis=1), 1, atol=1e-3)
    linear = np.stack([rows @ picture[..., c].astype(np.float32) @ columns.T for c in range(3)], axis=-1)
    seen = resample(picture, name, (48, 64))
    assert seen.shape == (48, 64, 3) and seen.dtype == np.uint8
    assert np.abs(linear.clip(0, 255) - seen).max() <= 1.01


@pytest.mark.parametrize("name", RESIZE_FILTERS)
def test_a_probe_looks_the_same_through_its_filter_only_and_after_jpeg(pool: Pool, name: str):
    picture = decode_query(pool.query(choose_pictures(pool, 1, np.random.default_rng(1))[0]).jpeg, "picture")
    hidden = hide(picture, name, SIZE, np.random.default_rng(2))
    assert hidden.shape == picture.shape and hidden.dtype == np.uint8
    after = decode_query(encode_query(hidden, 100), "hidden")

    def change(other: str) -> float:
        small, before = (shrink_to(x, InputSpec(resize=other)).astype(float) for x in (after, picture))
        return float(np.sqrt(((small - before) ** 2).mean()))

    assert change(name) < 2
    assert min(change(other) for other in RESIZE_FILTERS if other != name) > 2 * change(name)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("colour", [(0, 0, 255), (255, 255, 255), (0, 0, 0)])
def test_pure_colours_leave_little_room_or_none_and_break_nothing(colour: tuple[int, int, int]):
    picture = np.broadcast_to(np.array(colour, np.uint8), (300, 300, 3)).copy()
    hidden = hide(picture, "area", SIZE, np.random.default_rng(0))
    small, before = (shrink_to(x, InputSpec()).astype(int) for x in (hidden, picture))
    assert np.array_equal(hidden, picture) == (colour == (0, 0, 255))
    assert np.abs(small - before).max() <= 3


def test_a_batch_is_a_picture_and_its_probes_and_an_agent_takes_them_as_they_are(pool: Pool, batch: Path):
    kinds = [name[7:-4] for name, _ in queries(batch)]
    assert kinds == [PLAIN, *RESIZE_FILTERS] * 2
    assert all(is_query_image(jpeg) for _, jpeg in queries(batch))
    assert len({jpeg for _, jpeg in queries(batch)}) == len(kinds)
    assert {sha256_hex(jpeg) for name, jpeg in queries(batch) if PLAIN in name} < set(pool.sha256)


def test_pictures_without_room_for_a_change_are_the_last_choice(pool: Pool):
    chosen = choose_pictures(pool, 99, np.random.default_rng(0))
    assert sorted(chosen) == list(range(len(pool)))
    assert {pool.pictures[i].name for i in chosen[-2:]} == {"flat-0.jpg", "flat-255.jpg"}


@pytest.mark.parametrize("name", RESIZE_FILTERS)
def test_the_oracles_filter_is_found(batch: Path, tmp_path: Path, name: str):
    model = load_predictor(VICTIM)
    small = InputSpec(resize=name)
    night = answered(batch, tmp_path / "n.tar", lambda x: model.scores_of(shrink_to(x, small)[None])[0])
    verdict = judge_probes(batch, [night])
    assert (verdict.filter, verdict.pictures, verdict.ranking[0]) == (name, 2, name)
    assert set(verdict.distances) == set(RESIZE_FILTERS)


def test_a_filter_that_is_none_of_these_and_an_oracle_that_looks_at_nothing_are_undecided(batch: Path, tmp_path: Path):
    model = load_predictor(VICTIM)

    def otherwise(x: np.ndarray) -> np.ndarray:
        corner = cv2.resize(x[20:, 20:], SIZE, interpolation=cv2.INTER_AREA)
        return model.scores_of(corner[None])[0]

    assert judge_probes(batch, [answered(batch, tmp_path / "a.tar", otherwise)]).filter is None
    blind = judge_probes(batch, [answered(batch, tmp_path / "b.tar", lambda x: [0.5, 0.5])])
    assert blind.filter is None and set(blind.distances.values()) == {0.0}


def test_labels_alone_tell_filters_that_are_far_apart(batch: Path, tmp_path: Path):
    model, small = load_predictor(VICTIM), InputSpec(resize="nearest")
    best = lambda x: np.eye(12)[model.scores_of(shrink_to(x, small)[None])[0].argmax()]  # noqa: E731
    verdict = judge_probes(batch, [answered(batch, tmp_path / "n.tar", best)])
    apart = sorted(verdict.distances.values())[1]
    assert verdict.distances["nearest"] == 0 and apart >= np.sqrt(2) / 2 - 1e-6
    assert verdict.filter == "nearest"


def test_one_label_that_changed_tells_nothing(batch: Path, tmp_path: Path):
    """All labels are the same but those of one picture's probes for all filters but one."""
    each, seen = len(RESIZE_FILTERS) + 1, iter(range(99))

    def say(x: np.ndarray) -> list[float]:
        group, kind = divmod(next(seen), each)
        return [0.0, 1.0] if group == 0 and kind > 1 else [1.0, 0.0]

    one = [(name[7:-4], jpeg) for name, jpeg in queries(batch)][:each]
    other = [(kind, jpeg + bytes(extra)) for extra in range(4) for kind, jpeg in one]  # bytes behind a JPEG's end
    write_batch(tmp_path / "b.tar", other)
    verdict = judge_probes(tmp_path / "b.tar", [answered(tmp_path / "b.tar", tmp_path / "n.tar", say)])
    assert verdict.pictures == 4 and verdict.ranking[0] == "area" and verdict.distances["area"] == 0
    assert verdict.filter is None


def test_a_picture_counts_once_all_its_probes_are_answered(batch: Path, tmp_path: Path):
    model, each = load_predictor(VICTIM), len(RESIZE_FILTERS) + 1
    say = lambda x: model.scores_of(shrink_to(x, InputSpec())[None])[0]  # noqa: E731
    one = answered(batch, tmp_path / "1.tar", say, first=each + 3)
    assert judge_probes(batch, [one]).pictures == 1
    none = answered(batch, tmp_path / "2.tar", say, first=each - 1)
    with pytest.raises(NothingToDo, match="7 of 16 probes"):
        judge_probes(batch, [none])
    assert judge_probes(batch, [none, one]).filter == "area"


def test_another_batch_is_refused(batch: Path, tmp_path: Path):
    some = [(name[7:-4], jpeg) for name, jpeg in queries(batch)]
    for number, wrong in enumerate((some[1:], some[:-1], [], [("", jpeg) for _, jpeg in some])):
        path = tmp_path / f"{number}.tar"
        write_batch(path, wrong)
        with pytest.raises(RefusedInput, match="no batch of probes"):
            judge_probes(path, [path])
