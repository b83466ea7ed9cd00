"""Whole runs of the agent against APIs that nobody made for it; only `[http]` in config.toml says how they speak."""

from __future__ import annotations

import base64
import email
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pi_agent.contract.manifest import InputSpec
from pi_agent.contract.transfer_set import TransferItem, read_transfer_set
from pi_agent.prepare import decode_query
from tests.support import CLASSES, query_jpeg
from tests.support_agent import Pi, pictures
from tests.support_foreign import Foreign, Request, foreign
from training_host.data.arrays import load_transfer_sets

KEY = "hf_0123456789"
QUOTA = 6
HUGGING_FACE = """
[http]
path = ""
probe = ""
result = "objects"
"""
TF_SERVING = """
[http]
path = "/v1/models/waste:predict"
probe = "/v1/models/waste"
headers = { X-Api-Key = "{key}" }
body = "json-base64"
fields = { signature_name = "serving_default", instances = [ { image_bytes = { b64 = "{image}" } } ] }
result = "list"
scores = "predictions.0.probabilities"
class_names = ["cardboard", "glass", "metal", "trash"]
scale = 100
"""
LABEL_ONLY = """
[http]
path = "/classify"
probe = "/health"
headers = { Authorization = "Token {key}" }
body = "multipart"
fields = { file = "{image}", lang = "en" }
result = "label"
label = "data.0.class"
class_names = ["cardboard", "glass", "metal", "trash"]
"""


def truth(jpeg: bytes) -> npt.NDArray[np.float64]:
    """What all three oracles think of a picture, from its mean colour."""
    red, green, blue = decode_query(jpeg).reshape(-1, 3).mean(axis=0) / 64
    weights = np.exp([red, green, blue, 1.0])
    scores: npt.NDArray[np.float64] = weights / weights.sum()
    return scores


def rules(request: Request, header: str, key: str, count: Iterator[int]) -> tuple[int, Any] | None:
    """What every API asks for first: the key, and not too much."""
    if request.headers.get(header) != key:
        return 401, {"detail": "no"}
    if next(count) > QUOTA:
        return 403, {"detail": "quota exceeded, come back tomorrow"}
    return None


def hugging_face() -> Iterator[Foreign]:
    count = itertools.count(1)

    def api(request: Request) -> tuple[int, Any]:
        if (request.method, request.path) != ("POST", "/models/waste-vit"):
            return 403, {"error": "not for you"}  # a page that says no is no lock-out
        if refusal := rules(request, "authorization", f"Bearer {KEY}", count):
            return refusal
        found = zip(CLASSES, truth(request.body).tolist(), strict=True)
        return 200, [{"label": c, "score": s} for c, s in sorted(found, key=lambda pair: -pair[1])]

    with foreign(api) as server:
        yield server


def tf_serving() -> Iterator[Foreign]:
    count = itertools.count(1)

    def api(request: Request) -> tuple[int, Any]:
        if request.method == "GET":
            return 200, {"model_version_status": [{"state": "AVAILABLE"}]}
        if refusal := rules(request, "x-api-key", KEY, count):
            return refusal
        (instance,) = request.json["instances"]
        assert request.headers["content-type"] == "application/json" and request.json["signature_name"]
        scores = truth(base64.b64decode(instance["image_bytes"]["b64"], validate=True))
        return 200, {"predictions": [{"probabilities": [round(s * 100, 3) for s in scores]}]}

    with foreign(api) as server:
        yield server


def label_only() -> Iterator[Foreign]:
    """Every third answer names the second best class."""
    count, noise = itertools.count(1), itertools.count()

    def api(request: Request) -> tuple[int, Any]:
        if request.method == "GET":
            return 404, {}
        if refusal := rules(request, "authorization", f"Token {KEY}", count):
            return refusal
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        form = {p.get_param("name", header="content-disposition"): p for p in parts(head + request.body)}
        assert form["lang"].get_payload(decode=True) == b"en"
        order = truth(form["file"].get_payload(decode=True)).argsort()
        return 200, {"data": [{"class": CLASSES[order[-2 if next(noise) % 3 == 2 else -1]]}]}

    with foreign(api) as server:
        yield server


def parts(message: bytes) -> list[Any]:
    """The parts of a multipart message."""
    payload = email.message_from_bytes(message).get_payload()
    assert isinstance(payload, list)
    return payload


@pytest.fixture(params=[(hugging_face, HUGGING_FACE), (tf_serving, TF_SERVING)], ids=["HuggingFace", "TF Serving"])
def scoring(request: pytest.FixtureRequest) -> Iterator[tuple[Foreign, str]]:
    make, section = request.param
    for server in make():
        yield server, section


@pytest.fixture
def naming() -> Iterator[Foreign]:
    yield from label_only()


def agent(tmp_path: Path, server: Foreign, section: str, quota: int = QUOTA) -> Pi:
    """An agent with this section in its configuration."""
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")
    key.chmod(0o600)
    pi = Pi(tmp_path / "home")
    url = f"{server.url}/models/waste-vit" if 'path = ""' in section else server.url
    pi.init(url, quota, "--period", "366d", "--api-key-file", key)
    with (pi.home / "config.toml").open("a") as config:
        config.write(section)
    return pi


def exported(pi: Pi, path: Path) -> list[TransferItem]:
    """The transfer set of everything that was answered."""
    pi.done("export", path)
    return list(read_transfer_set(path))


def test_scores_of_other_peoples_apis_are_collected_whole(scoring: tuple[Foreign, str], tmp_path: Path) -> None:
    server, section = scoring
    pi = agent(tmp_path, server, section)
    pi.done("add", pictures(tmp_path / "photos", 4))
    done = pi.done("collect")
    assert (done["sent"], done["settled"], done["failed"]) == (4, 4, 0)

    items = exported(pi, tmp_path / "night.tar")
    assert [i.jpeg for i in items] == [query_jpeg(seed) for seed in range(4)]
    for item in items:
        assert (item.kind, item.classes) == ("scores", CLASSES)
        np.testing.assert_allclose(item.mean, truth(item.jpeg), atol=1e-5)
    again = pi.done("query", tmp_path / "photos" / "000.jpg")
    assert again["cached"] and again["label"] == CLASSES[int(truth(query_jpeg(0)).argmax())]
    assert len(server.asked) == 4


def test_labels_alone_are_collected_and_repeats_give_shares_of_votes(naming: Foreign, tmp_path: Path) -> None:
    pi = agent(tmp_path, naming, LABEL_ONLY)
    pi.done("add", pictures(tmp_path / "photos", 2))
    done = pi.done("collect", "--repeats", 3)
    assert (done["sent"], done["settled"], len(naming.asked)) == (6, 6, 6)

    items = exported(pi, tmp_path / "night.tar")
    assert [(i.kind, i.classes, len(i.vectors)) for i in items] == [("label", CLASSES, 3)] * 2
    for item in items:
        assert np.isin(item.vectors, (0, 1)).all() and (item.vectors.sum(axis=1) == 1).all()
        assert set(item.vectors.argmax(axis=1)) <= set(truth(item.jpeg).argsort()[-2:])
    assert sum(item.vectors[:, truth(item.jpeg).argmax()].sum() for item in items) == 4, "two of six were noise"

    arrays = load_transfer_sets([tmp_path / "night.tar"], InputSpec())
    np.testing.assert_allclose(arrays.scores, [i.mean for i in items])


def test_a_quota_set_too_high_ends_in_a_lock_out_and_not_in_knocking(
    scoring: tuple[Foreign, str], tmp_path: Path
) -> None:
    server, section = scoring
    pi = agent(tmp_path, server, section, quota=100)
    pi.done("add", pictures(tmp_path / "photos", 12))
    ended = pi.run("collect", "--json", PI_AGENT_ORACLE_IN_FLIGHT="1")
    assert (ended.code, ended.error["kind"], ended.json["settled"]) == (75, "LockedOut", QUOTA)
    assert len(server.asked) == QUOTA + 1
    assert pi.run("collect", "--json").code == 75
    assert len(server.asked) == QUOTA + 1


def test_a_section_that_does_not_fit_the_api_stores_nothing_and_stops_early(
    scoring: tuple[Foreign, str], tmp_path: Path
) -> None:
    server, section = scoring
    wrong = section.replace('"objects"', '"mapping"').replace("predictions.0.", "predictions.1.")
    pi = agent(tmp_path, server, wrong)
    pi.done("add", pictures(tmp_path / "photos", 6))
    ended = pi.run("collect", "--json", PI_AGENT_ORACLE_IN_FLIGHT="1")
    assert (ended.code, ended.error["kind"], ended.json["settled"]) == (69, "OracleFailing", 0)
    assert len(server.asked) < QUOTA, "the night ends before the budget is burnt"
    assert "predictions.1" in ended.stderr or "no object of scores" in ended.stderr
    assert pi.fails("export", tmp_path / "none.tar")["exit"] == 65


def test_a_mistake_in_the_section_is_found_before_anything_is_asked(naming: Foreign, tmp_path: Path) -> None:
    pi = agent(tmp_path, naming, LABEL_ONLY.replace("label =", "labels ="))
    error = pi.fails("collect")
    assert (error["exit"], naming.requests) == (78, [])
    assert "unknown key 'http.labels'; did you mean 'label'?" in error["message"]


def test_a_header_that_wants_the_key_needs_one(naming: Foreign, tmp_path: Path) -> None:
    pi = agent(tmp_path, naming, LABEL_ONLY)
    pi.done("add", pictures(tmp_path / "photos", 1))
    error = pi.fails("collect", PI_AGENT_ORACLE_API_KEY_FILE="")
    assert (error["exit"], naming.requests) == (78, [])
    assert "api_key_file" in error["hint"]
