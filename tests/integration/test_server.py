"""`train-host serve` as its users meet it: a real process, real sockets, its exit codes."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
import requests
from starlette.requests import Request
from starlette.types import Message

from pi_agent.contract.answers import parse_scores
from pi_agent.contract.errors import RefusedModel
from pi_agent.contract.files import sha256_hex
from pi_agent.contract.images import MAX_QUERY_BYTES
from pi_agent.contract.manifest import InputSpec, load_manifest, save_manifest
from pi_agent.contract.windows import Period
from pi_agent.prepare import decode_query
from tests.support import CLASSES, query_jpeg, tiny_model_folder
from tests.support_server import JPEG, KEY, Served, serving, start
from training_host.predictor import Predictor, load_predictor
from training_host.server import http
from training_host.server.http import make_app
from training_host.server.keys import KeyRing
from training_host.server.quota import Quota
from training_host.server.run import listen
from training_host.server.service import Refusal, Service


@pytest.fixture(scope="module")
def open_server(model: Path) -> Iterator[Served]:
    """One server with a large quota for all tests that do not exhaust it."""
    with serving(model, "--quota", 1000, "--quota-period", "366d") as served:
        yield served


def test_an_answer_is_the_models_and_says_what_is_left(open_server: Served, model: Path) -> None:
    before = open_server.quota().json()["remaining"]
    response = open_server.ask(query_jpeg(3))
    assert response.status_code == 200
    answer = parse_scores(response.json(), CLASSES)
    expected = load_predictor(model).scores(decode_query(query_jpeg(3)))
    np.testing.assert_allclose(answer.vector, expected, rtol=1e-6)
    assert response.headers["RateLimit-Limit"] == "1000"
    assert response.headers["RateLimit-Remaining"] == str(before - 1)
    assert int(response.headers["RateLimit-Reset"]) > 0
    assert "server" not in response.headers
    assert parsedate_to_datetime(response.headers["Date"]).tzinfo is not None


def test_asking_for_the_quota_costs_nothing(open_server: Served) -> None:
    first, second = open_server.quota(), open_server.quota()
    assert first.json() == second.json()
    assert set(first.json()) == {"limit", "remaining", "reset_at", "window", "locked_until"}
    assert first.json()["locked_until"] is None
    assert datetime.fromisoformat(first.json()["reset_at"]).tzinfo is not None
    assert first.headers["RateLimit-Remaining"] == str(first.json()["remaining"])


def test_what_is_no_query_image_is_refused_and_not_counted(open_server: Served) -> None:
    before = open_server.quota().json()["remaining"]
    whole = query_jpeg()
    for body in (b"", b"garbage", whole[:200], whole[: len(whole) // 2], b"\x89PNG\r\n\x1a\n" + bytes(100)):
        response = open_server.ask(body)
        assert response.status_code == 422
        assert "not counted" in response.json()["error"]
        assert response.headers["RateLimit-Remaining"] == str(before)
    assert open_server.quota().json()["remaining"] == before


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", "multipart/form-data", ""])
def test_other_content_types_are_415(open_server: Served, content_type: str) -> None:
    response = open_server.ask(headers={"Content-Type": content_type})
    assert response.status_code == 415
    assert "RateLimit-Remaining" in response.headers


def test_a_content_type_may_carry_parameters_and_capitals(open_server: Served) -> None:
    assert open_server.ask(headers={"Content-Type": "Image/JPEG; q=1"}).status_code == 200


def test_too_large_is_413_announced_or_chunked(open_server: Served) -> None:
    before = open_server.quota().json()["remaining"]
    announced = open_server.ask(bytes(MAX_QUERY_BYTES + 1))
    pieces = (bytes(65536) for _ in range(MAX_QUERY_BYTES // 65536 + 1))
    chunked = requests.post(f"{open_server.url}/v1/classify", pieces, headers=JPEG, timeout=30)
    for response in (announced, chunked):
        assert response.status_code == 413
        assert response.headers["RateLimit-Remaining"] == str(before)
    assert open_server.ask(bytes(MAX_QUERY_BYTES)).status_code == 422, "the limit itself is allowed"


def test_an_announced_giant_is_refused_before_its_body_comes(open_server: Served) -> None:
    with open_server.posting(99_999_999_999) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_query_is_as_good_as_any(open_server: Served) -> None:
    jpeg = query_jpeg()
    response = requests.post(f"{open_server.url}/v1/classify", iter([jpeg[:100], jpeg[100:]]), headers=JPEG, timeout=30)
    assert response.status_code == 200


def test_a_client_that_hangs_up_halfway_costs_nothing(open_server: Served) -> None:
    before = open_server.quota().json()["remaining"]
    with open_server.posting(1000, b"half"):
        pass
    assert open_server.ask().status_code == 200
    assert open_server.quota().json()["remaining"] == before - 1


def test_errors_are_json_also_where_there_is_no_page(open_server: Served) -> None:
    for path in ("/", "/docs", "/openapi.json", "/v1/classify"):
        response = requests.get(open_server.url + path, timeout=30)
        assert response.status_code == (405 if path == "/v1/classify" else 404)
        assert isinstance(response.json()["error"], str)


def test_health_and_metrics(model: Path) -> None:
    with serving(model, "--quota", 5, "--quota-period", "366d") as served:
        assert requests.get(f"{served.url}/healthz", timeout=30).json() == {"status": "ok"}
        served.ask()
        served.ask(b"garbage")
        text = requests.get(f"{served.url}/metrics", timeout=30).text.splitlines()
    assert 'magpie_requests_total{status="200"} 2.0' in text
    assert 'magpie_requests_total{status="422"} 1.0' in text
    assert "magpie_predictions_total 1.0" in text
    assert 'magpie_quota_remaining{client="anonymous"} 4.0' in text
    assert "magpie_request_seconds_count 3.0" in text


def test_keys_are_asked_for_and_each_client_has_its_own_quota(model: Path, keys: Path) -> None:
    with serving(model, "--quota", 2, "--quota-period", "366d", "--api-keys", keys) as served:
        for response in (served.ask(), served.ask(key="wrong"), served.ask(key=KEY + "x"), served.quota()):
            assert response.status_code == 401
            assert "RateLimit-Remaining" not in response.headers
        basic = served.ask(headers={"Authorization": f"Basic {KEY}"})
        assert basic.status_code == 401
        assert [served.ask(key=KEY).status_code for _ in range(4)] == [200, 200, 403, 403]
        assert served.ask(key=KEY[::-1]).status_code == 200
        assert served.quota(KEY[::-1]).json()["remaining"] == 1
        assert requests.get(f"{served.url}/healthz", timeout=30).status_code == 200


def test_above_the_quota_everything_is_locked_out_with_an_end(model: Path, tmp_path: Path) -> None:
    store = tmp_path / "quota.db"
    arguments = ("--quota", 2, "--quota-period", "366d", "--quota-store", store)
    with serving(model, *arguments) as served:
        assert [served.ask().status_code for _ in range(2)] == [200, 200]
        assert served.ask(b"garbage").status_code == 422, "garbage at the limit must not lock anybody out"
        assert served.quota().json()["locked_until"] is None
        first, garbage = served.ask(), served.ask(b"garbage")
        for response in (first, garbage):
            assert response.status_code == 403
            assert response.headers["RateLimit-Remaining"] == "0"
        quota = served.quota()
        assert quota.status_code == 200
        assert first.json()["until"] == quota.json()["locked_until"] == quota.json()["reset_at"]
    with serving(model, *arguments) as served:
        assert served.ask().status_code == 403, "a restart must not forgive"
    with sqlite3.connect(store) as rows:
        assert rows.execute("SELECT client, counted, refused FROM quota").fetchall() == [("anonymous", 2, 3)]


def test_a_new_window_unlocks(model: Path, tmp_path: Path) -> None:
    store = tmp_path / "quota.db"
    with serving(model, "--quota", 1, "--quota-period", "3s", "--quota-store", store) as served:
        while (refused := served.ask()).status_code == 200:  # two queries may fall into two windows
            pass
        assert refused.status_code == 403
        until = datetime.fromisoformat(refused.json()["until"]).timestamp()
        time.sleep(max(0.0, until - time.time()) + 0.01)
        answer = served.ask()
        assert answer.status_code == 200
        assert answer.headers["RateLimit-Limit"] == "1"
    with sqlite3.connect(store) as rows:
        assert rows.execute("SELECT max(counted) FROM quota").fetchone() == (1,)


def test_many_at_once_get_exactly_the_quota(model: Path, tmp_path: Path) -> None:
    store = tmp_path / "quota.db"
    with serving(model, "--quota", 20, "--quota-period", "366d", "--quota-store", store) as served:
        with ThreadPoolExecutor(8) as pool:
            statuses = Counter(pool.map(lambda seed: served.ask(query_jpeg(seed)).status_code, range(40)))
        assert statuses == {200: 20, 403: 20}
    with sqlite3.connect(store) as rows:
        assert rows.execute("SELECT counted, refused FROM quota").fetchall() == [(20, 20)]


def test_too_many_at_once_are_asked_to_come_back(model: Path) -> None:
    with serving(model, "--max-in-flight", 1, "--quota-period", "366d") as served:
        with served.posting(9) as slow:
            while (response := served.ask()).status_code == 200:  # until the server has seen the slow one
                pass
            assert response.status_code == 429
            assert int(response.headers["Retry-After"]) >= 1
            assert "RateLimit-Remaining" in response.headers
            slow.sendall(b"too short")
            assert slow.recv(65536).startswith(b"HTTP/1.1 422 ")
        assert served.ask().status_code == 200


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_a_normal_end_that_finishes_what_is_in_flight(model: Path, stop: signal.Signals) -> None:
    with serving(model, "--quota-period", "366d") as served:
        jpeg = query_jpeg()
        with served.posting(len(jpeg), jpeg[:100]) as connection:
            # Connections are served in their order: an answer to a second one shows that ours is under way.
            assert served.ask().status_code == 200
            served.process.send_signal(stop)
            with pytest.raises(requests.ConnectionError):  # it takes no new ones
                while True:
                    requests.get(f"{served.url}/healthz", timeout=30)
            connection.sendall(jpeg[100:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert served.process.wait(timeout=30) == 0


def test_the_text_form_names_the_url(model: Path) -> None:
    process = start(model, "--port", 0)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        url = next(word for word in line.split() if word.startswith("http://"))
        assert requests.get(f"{url}/healthz", timeout=30).status_code == 200
    finally:
        process.terminate()
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    assert stdout == "", "one line and no more"
    assert "no --api-keys" in stderr
    assert "no --quota-store" in stderr


def fails(*arguments: object) -> tuple[int, dict[str, str]]:
    """Exit code and error object of a server that must not start."""
    process = start(*arguments, "--json")
    stdout, stderr = process.communicate(timeout=60)
    assert stdout == ""
    return process.returncode, json.loads(stderr.splitlines()[-1])["error"]


def test_a_port_in_use_is_73(model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, error = fails(model, "--port", taken.getsockname()[1])
    assert (code, error["kind"]) == (73, "CannotCreate")
    assert "--port" in error["hint"]


def test_keys_that_others_may_read_are_78(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text(f"pi:{KEY}\n")
    path.chmod(0o644)
    assert fails(model, "--port", 0, "--api-keys", path)[0] == 78
    assert fails(model, "--port", 0, "--api-keys", tmp_path / "absent")[0] == 78


def test_bad_models_are_65(model: Path, tmp_path: Path) -> None:
    changed = tiny_model_folder(tmp_path / "changed")
    with (changed / "model.onnx").open("ab") as stream:
        stream.write(b"\x00")
    code, error = fails(changed, "--port", 0)
    assert (code, error["kind"]) == (65, "RefusedModel")
    assert "SHA-256" in error["message"]
    assert fails(tmp_path / "absent", "--port", 0)[0] == 65
    assert fails(tmp_path, "--port", 0)[0] == 65


def test_bad_arguments_are_2(model: Path) -> None:
    for wrong in (("--quota-period", "soon"), ("--reset", "25:00"), ("--quota", "-1")):
        assert fails(model, *wrong)[0] == 2


def test_a_model_file_stands_for_its_folder(model: Path) -> None:
    with serving(model / "model.onnx", "--quota-period", "366d") as served:
        assert served.ask().json()["classes"] == list(load_manifest(model).classes)


# -- inside one process: what a real one cannot be brought to do on demand ---------------------------------------------


def service_of(predictor: Predictor, limit: int = 5) -> Service:
    """A service without keys whose window does not end."""
    return Service(predictor, KeyRing(), Quota(limit, Period(3600)), clock=lambda: 1000.0)


def post_in_process(service: Service) -> httpx.Response:
    """One classification without a socket."""

    async def post() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(make_app(service)), base_url="http://here"
        ) as client:
            return await client.post("/v1/classify", content=query_jpeg(), headers=JPEG)

    return asyncio.run(post())


def test_a_prediction_that_fails_is_500_and_stays_counted(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Predictor, pixels: object) -> None:
        raise RuntimeError("out of memory")

    service = service_of(load_predictor(model))
    monkeypatch.setattr(Predictor, "scores", broken)
    response = post_in_process(service)
    assert response.status_code == 500
    assert "memory" not in response.text, "nothing of the inside goes out"
    assert response.headers["RateLimit-Remaining"] == "4"
    assert response.headers["RateLimit-Reset"] == "2600"


def test_without_its_store_the_oracle_answers_nothing(model: Path) -> None:
    service = service_of(load_predictor(model))
    service.quota.close()
    response = post_in_process(service)
    assert response.status_code == 500
    assert "scores" not in response.json()


def test_connections_do_not_hold_small_writes_back() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()[:2]):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_body_that_dawdles_is_408(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.01)

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(Refusal) as caught:
        asyncio.run(http.read_body(Request({"type": "http"}, never)))
    assert caught.value.status == 408


def test_logits_are_turned_into_the_same_scores(model: Path, tmp_path: Path) -> None:
    pixels = decode_query(query_jpeg(5))
    logits = load_predictor(tiny_model_folder(tmp_path / "logits", output="logits"))
    np.testing.assert_allclose(logits.scores(pixels), load_predictor(model).scores(pixels), rtol=1e-5)


def test_a_model_that_does_not_keep_its_manifests_word_is_refused(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model", output="logits")
    honest = load_manifest(folder)
    for lie in (
        dataclasses.replace(honest, output="scores"),
        dataclasses.replace(honest, output="embedding"),
        dataclasses.replace(honest, classes=("a", "b")),
        dataclasses.replace(honest, input=InputSpec(layout="NHWC")),
    ):
        save_manifest(folder, lie)
        with pytest.raises(RefusedModel):
            load_predictor(folder)


def test_weights_outside_the_hashed_file_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_model_folder(tmp_path / "model")
    whole = onnx.load(folder / "model.onnx")
    onnx.save(whole, folder / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    digest = sha256_hex((folder / "model.onnx").read_bytes())
    save_manifest(folder, dataclasses.replace(load_manifest(folder), onnx_sha256=digest))
    monkeypatch.chdir(folder)  # where onnxruntime would look for them
    with pytest.raises(RefusedModel):
        load_predictor(folder)
