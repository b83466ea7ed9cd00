"""`config.toml` goes round, is checked to the last key, and no secret is read that others may read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_agent.config import BudgetConfig, Config, OracleConfig, load_config, read_api_key, save_config
from pi_agent.contract.errors import CannotCreate, ConfigError, MagpieError
from pi_agent.errors import NoConfig
from pi_agent.http_config import HttpConfig
from pi_agent.paths import Home, find_home

URL = "http://oracle:8000"
GOOD = f'[oracle]\nurl = "{URL}"\n[budget]\ndaily_quota = 7\n'
readable = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def load(home: Home, text: str, **environment: str) -> Config:
    home.config.write_text(text)
    return load_config(home, {f"PI_AGENT_{key.upper()}": value for key, value in environment.items()})


@given(
    key=readable,
    timeout=st.floats(0.1, 600),
    attempts=st.integers(1, 10),
    quota=st.integers(0, 10**12),
    period=st.sampled_from(["20s", "24h", "7d"]),
    reset=st.sampled_from(["00:00", "23:59"]),
)
def test_what_is_saved_is_what_is_loaded(
    tmp_path_factory: pytest.TempPathFactory,
    key: str,
    timeout: float,
    attempts: int,
    quota: int,
    period: str,
    reset: str,
) -> None:
    home = Home(tmp_path_factory.getbasetemp() / "config").create()
    config = Config(OracleConfig(URL, "http", key, timeout, attempts), BudgetConfig(quota, period, reset))
    save_config(home, config)
    assert load_config(home, {}) == config
    assert home.config.stat().st_mode & 0o777 == 0o600


keys = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs",)), max_size=8).filter(
    lambda text: "{image}" not in text  # that word stands once, where the picture belongs
)
json_values = st.recursive(
    keys | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
http_sections = st.one_of(
    st.just(HttpConfig()),
    st.builds(
        HttpConfig,
        method=st.sampled_from(["POST", "PUT"]),
        path=st.sampled_from(["/", "/classify?all=1", '/a"b\\c']),
        probe=st.sampled_from(["", "/limits"]),
        headers=st.dictionaries(st.sampled_from(["X-Api-Key", "X-Model"]), st.sampled_from(["{key}", 'a "b" \\c'])),
        body=st.just("json-base64"),
        fields=st.dictionaries(keys, json_values, max_size=3).map(lambda fields: {**fields, "image": ["x{image}"]}),
        result=st.just("objects"),
        scores=st.sampled_from(["", "0", "data.0.tags"]),
        class_names=st.lists(st.sampled_from(["glass", 'a "b"', "wäste", "x\\y"]), min_size=2, unique=True).map(tuple),
        label=st.sampled_from(["label", "tag.näme"]),
        scale=st.sampled_from([1.0, 100.0]),
        remaining_header=st.sampled_from(["", "X-RateLimit-Remaining"]),
    ),
    st.builds(HttpConfig, result=st.just("label"), class_names=st.just(("a", "b")), label=st.sampled_from(["", "x.0"])),
)


@given(http=http_sections)
def test_other_peoples_apis_go_round_too_and_only_what_differs_is_written(
    tmp_path_factory: pytest.TempPathFactory, http: HttpConfig
) -> None:
    home = Home(tmp_path_factory.getbasetemp() / "http").create()
    config = Config(OracleConfig(URL), BudgetConfig(7), http)
    save_config(home, config)
    assert load_config(home, {}) == config
    text = home.config.read_text()
    assert ("[http]" in text) == (http != HttpConfig()) and "reset_header" not in text


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("methd = 'POST'", "unknown key 'http.methd'; did you mean 'method'?"),
        ("method = 'GET'", "method must be one of POST, PUT"),
        ("path = 'classify'", "path 'classify' must begin with /"),
        ("path = '/a b'", "hold neither spaces nor #"),
        ("path = '/a#b'", "hold neither spaces nor #"),
        ("path = '/a?key={key}'", "put it into a header"),
        ("probe = 'x'", "probe 'x' must begin with /"),
        ("headers = ['X: y']", "'http.headers': a table of keys"),
        ("headers = { 'X Y' = 'z' }", "'X Y' is no header that can be set"),
        ("headers = { Content-Length = '5' }", "is no header that can be set"),
        ("headers = { X-A = 'z', x-a = 'y' }", "stands there twice"),
        ("headers = { X-A = 5 }", "X-A must be a text in plain ASCII"),
        ('headers = { X-A = "a\\r\\nX-B: c" }', "X-A must be a text in plain ASCII"),
        ("headers = { X-A = 'ä' }", "X-A must be a text in plain ASCII"),
        ("headers = { Authorization = 'Bearer 0123' }", "write {key} in its place"),
        ("body = 'xml'", "body must be one of raw, json-base64, multipart"),
        ("fields = { a = '{image}' }", "fields need body json-base64 or multipart"),
        ("body = 'json-base64'", "fields must hold {image} once"),
        ("body = 'json-base64'\nfields = { a = '{image}', b = '{image}' }", "fields must hold {image} once"),
        ("body = 'json-base64'\nfields = { '{image}' = 1 }", "fields must hold {image} once"),
        ("body = 'json-base64'\nfields = { a = '{image}', b = 2026-11-21 }", "fields cannot be sent as JSON"),
        ("body = 'json-base64'\nfields = { a = '{image}', b = nan }", "fields cannot be sent as JSON"),
        ("body = 'multipart'\nfields = { a = 'x{image}' }", "as the value of the field that takes the file"),
        ("body = 'multipart'\nfields = { a = '{image}', b = 5 }", "must be texts"),
        ("body = 'multipart'\nfields = { a = '{image}' }\nheaders = { Content-Type = 'x' }", "set by pi-agent"),
        ("result = 'labels'", "result must be one of own, list, mapping, objects, label"),
        ("scores = 'predictions.0'", "scores means nothing with result 'own'"),
        ("result = 'mapping'\nclasses = 'names'", "classes means nothing with result 'mapping'"),
        ("result = 'label'\nclass_names = ['a', 'b']\nscale = 100", "scale means nothing with result 'label'"),
        ("result = 'mapping'\nscores = 'a..b'", "scores 'a..b' is no dotted path"),
        ("result = 'objects'\nscore = ''", "needs label and score"),
        ("result = 'list'", "result 'list' needs class_names"),
        ("result = 'label'", "result 'label' needs class_names"),
        ("result = 'label'\nclass_names = ['a']", "class_names: a list of 2 to 4096"),
        ("result = 'label'\nclass_names = ['a', 'a']", "class_names: class names must be distinct"),
        ("result = 'label'\nclass_names = ['a', 5]", r"'http.class_names\[1\]': a text is expected"),
        ("result = 'mapping'\nscale = 0", "scale must be 1 or more"),
        ("result = 'mapping'\nscale = inf", "'http.scale': a finite number"),
        ("remaining_header = 'X Y'", "remaining_header must be the name of a header"),
        ("body = 5", "'http.body': a text is expected"),
    ],
)
def test_a_wrong_http_section_is_refused_in_one_line(home: Home, section: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load(home, f"{GOOD}[http]\n{section}\n")
    assert caught.value.exit_code == 78 and "\n" not in str(caught.value)


def test_the_environment_reaches_single_values_of_http_but_no_tables(home: Home) -> None:
    config = load(home, GOOD, http_path="/classify", http_probe="", http_result="mapping", http_scale="100")
    assert config.http == HttpConfig(path="/classify", probe="", result="mapping", scale=100.0)
    assert load(home, f"{GOOD}[http]\npath = '/a'\nprobe = '/b'\n", http_path="/c").http == HttpConfig(
        path="/c", probe="/b"
    )
    for name in ("http_headers", "http_fields", "http_class_names"):
        with pytest.raises(ConfigError, match="is expected"):
            load(home, GOOD, **{name: "a"})
    with pytest.raises(ConfigError, match=r"unknown key 'http\.pth'; did you mean 'path'"):
        load(home, GOOD, http_pth="/a")


@pytest.mark.parametrize("value", ["1" + "0" * 5000, "[" * 3000])
def test_a_file_beyond_the_limits_of_python_is_a_configuration_error(home: Home, value: str) -> None:
    with pytest.raises(ConfigError):
        load(home, f"{GOOD}x = {value}\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "missing key 'oracle'"),
        ("[oracle]\n", "missing key 'oracle.url'"),
        (GOOD.replace("url", "ulr"), "unknown key 'oracle.ulr'; did you mean 'url'?"),
        (GOOD + "[budgets]\n", "did you mean 'budget'?"),
        (GOOD.replace("7", "-7"), "must not be negative"),
        (GOOD.replace("7", "7.5"), "a whole number"),
        (GOOD.replace("7", "true"), "a whole number"),
        (GOOD.replace("[budget]", f"timeout = 1{'0' * 400}\n[budget]"), "oracle.timeout"),
        (GOOD.replace("[budget]", "timeout = nan\n[budget]"), "oracle.timeout"),
        (GOOD.replace("[budget]", "timeout = 0.0\n[budget]"), "timeout must be"),
        (GOOD.replace("[budget]", "attempts = 99\n[budget]"), "attempts"),
        (GOOD + 'period = "soon"\n', "'soon' is not a period"),
        (GOOD + 'reset = "24:00"\n', "'24:00' is not a time of day"),
        (GOOD.replace("http:", "ftp:"), "must look like http://host:port"),
        (GOOD.replace("8000", "99999"), "oracle"),
        (GOOD.replace("oracle:8000", "[::1"), "oracle"),
        (GOOD.replace("oracle:8000", "user:secret@oracle"), "put the key into a file"),
        ("oracle = 5", "'oracle'|oracle:"),
        ("[oracle\n", "line 1"),
    ],
)
def test_a_wrong_file_is_refused_in_words(home: Home, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        load(home, text)
    assert caught.value.exit_code == 78 and caught.value.advice


def test_the_environment_does_not_hide_a_section_that_is_none(home: Home) -> None:
    with pytest.raises(ConfigError, match="a table of keys"):
        load(home, "oracle = 5\n", oracle_url=URL)


@given(text=st.text(max_size=80) | st.binary(max_size=80).map(lambda b: b.decode("latin-1")))
def test_no_text_at_all_is_more_than_a_configuration_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    home = Home(tmp_path_factory.getbasetemp() / "fuzz").create()
    home.config.write_bytes(text.encode("utf-8", "replace"))
    with pytest.raises(MagpieError):
        load_config(home, {})


def test_the_environment_stands_above_the_file_with_the_right_types(home: Home) -> None:
    changes = {"oracle_timeout": "2.5", "oracle_attempts": "1", "budget_daily_quota": "3", "budget_period": "1h"}
    config = load(home, GOOD, **changes)
    assert (config.oracle.timeout, config.oracle.attempts) == (2.5, 1)
    assert (config.budget.daily_quota, config.budget.period) == (3, "1h")
    assert load(home, GOOD) == Config(OracleConfig(URL), BudgetConfig(7))


@pytest.mark.parametrize("name", ["budget_daily_qouta", "budget_quota", "oracle_key"])
def test_a_misspelt_variable_is_not_ignored(home: Home, name: str) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        load(home, GOOD, **{name: "1"})


def test_no_file_no_folder_no_reading(tmp_path: Path) -> None:
    with pytest.raises(NoConfig):
        load_config(Home(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCreate):
        load_config(Home(tmp_path / "file"))
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(ConfigError):
        load_config(Home(tmp_path))


def test_the_home_is_the_first_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PI_AGENT_HOME", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert find_home(None).folder == tmp_path / "xdg" / "pi-agent"
    monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path / 'state'}:{tmp_path / 'second'}")
    assert find_home(None).folder == tmp_path / "state"
    monkeypatch.setenv("PI_AGENT_HOME", str(tmp_path / "env"))
    assert find_home(None).folder == tmp_path / "env"
    assert find_home(str(tmp_path / "flag")).folder == tmp_path / "flag"
    assert Home(tmp_path / "a" / "b").create().folder.stat().st_mode & 0o777 == 0o700


# -- the key -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OracleConfig:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    key = tmp_path / "key"
    key.write_text("0123\n")
    key.chmod(0o600)
    return OracleConfig(URL, api_key_file=str(key))


def test_a_key_is_one_line_of_a_private_file(oracle: OracleConfig) -> None:
    assert read_api_key(oracle) == "0123"
    assert read_api_key(OracleConfig(URL)) is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o610, 0o602])
def test_a_key_that_others_can_touch_is_refused(oracle: OracleConfig, mode: int) -> None:
    os.chmod(oracle.api_key_file, mode)
    with pytest.raises(ConfigError) as caught:
        read_api_key(oracle)
    assert f"chmod 600 {oracle.api_key_file}" in caught.value.advice and "0123" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo\n", b"one two", b"\xff\xfe", b"x" * 5000])
def test_a_file_that_is_no_key_is_refused_without_quoting_it(oracle: OracleConfig, content: bytes) -> None:
    Path(oracle.api_key_file).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_api_key(oracle)
    assert "one" not in str(caught.value).replace("exactly one key", "")


def test_systemds_credential_comes_first(oracle: OracleConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "creds"))
    assert read_api_key(oracle) == "0123"
    (tmp_path / "creds").mkdir()
    (tmp_path / "creds" / "api-key").write_text("from systemd")
    with pytest.raises(ConfigError):
        read_api_key(oracle)
    (tmp_path / "creds" / "api-key").write_text("4567")
    assert read_api_key(oracle) == "4567"
