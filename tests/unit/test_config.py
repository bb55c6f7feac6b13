"""Rules of the configuration: precedence, refusals by name, and open mode that stays at home."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker._core.shard import Shard
from broker.config import BrokerConfig, Capabilities, Flags, load_config
from broker.errors import ConfigError
from broker.net.gateway import core_limits


def written(path: Path, text: str) -> Path:
    file = path / "broker.toml"
    file.write_text(text)
    return file


def test_defaults_are_complete_and_listen_as_the_contract_says() -> None:
    config = load_config()
    assert config == BrokerConfig()
    assert [(one.name, one.host, one.port) for one in config.listeners] == [
        ("mqtt", "0.0.0.0", 1883),
        ("mqtts", "0.0.0.0", 8883),
        ("ws", "0.0.0.0", 8083),
        ("wss", "0.0.0.0", 8084),
    ]
    assert (config.http.host, config.http.port) == ("127.0.0.1", 8080)
    assert config.capabilities.maximum_packet_size_bytes == 1_048_576 + 131_072


def test_flags_beat_environment_beats_file_beats_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, 'public_host = "a"\nlog_level = "error"\n[http]\nport = 1\nhost = "127.0.0.9"\n')
    environ = {"IOT_BROKER_PUBLIC_HOST": "b", "IOT_BROKER_HTTP__PORT": "2", "UNRELATED": "x"}
    config = load_config(file, environ, Flags(http_port=3))
    assert (config.public_host, config.http.port, config.http.host, config.log_level) == ("b", 3, "127.0.0.9", "error")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("liseners = []", "liseners"),
        ("[http]\nprt = 1", "http.prt"),
        ("[[listeners]]\nnme = 'x'", "listeners.0.nme"),
        ("[capabilities]\nconnect_timeout = 3", "capabilities.connect_timeout"),
        ("[capabilities]\nserver_receive_maximum = 0", "capabilities.server_receive_maximum"),
        ("[capabilities]\nconnect_timeout_s = 0", "capabilities.connect_timeout_s"),
        ("[[listeners]]\n[[listeners]]\nport = 1884", "name of its own"),
        ("[http]\nport = 65536", "http.port"),
        ("http = 3", "http"),
        ("= 3", "not TOML"),
    ],
)
def test_what_is_unknown_or_out_of_range_is_refused_with_its_name(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")) as caught:
        load_config(written(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[https]\ncertificat_file = 'x'", "unknown key 'https.certificat_file'; is 'certificate_file' meant?"),
        ("[[listeners]]\nunixpath = '/s'", "unknown key 'listeners.0.unixpath'; is 'unix_path' meant?"),
        ("colour = 'red'", "unknown key 'colour'"),
        ("[listeners]\nport = 1", "listeners: expected a list of tables: [[listeners]], in two pairs of brackets"),
        ("[http]\nallowed_origins = 'https://a.example'", "http.allowed_origins: expected a list"),
        ("[http]\nport = 'eighty'", "http.port: expected a whole number"),
        ("strict = 'perhaps'", "strict: expected true or false"),
        ("public_host = 7", "public_host: expected a text, in quotes"),
        (
            "trusted_proxies = ['10.0.0.0/33']",
            "trusted_proxies.0: expected an address or a network, such as 10.0.0.0/8 or ::1",
        ),
        ("http = 3", "http: expected a table"),
        ("data_dir = 3", "data_dir: expected a path, in quotes"),
        ("[[listeners]]\ncert_file = 'x'", "unknown key 'listeners.0.cert_file'; is 'certificate_file' meant?"),
        (
            "[[listeners]]\ntransport = 'ws'\npath = 'mqtt'",
            "listeners.0.path: expected a path that begins with /, without blanks, such as /mqtt",
        ),
        (
            "[[listeners]]\nname = 'My door'",
            "listeners.0.name: expected 1 to 32 small letters, digits, dashes and underscores",
        ),
    ],
)
def test_a_refusal_says_what_was_expected_and_which_key_was_meant(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text))
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[listeners]]\n[[listeners]]\nname = 'b'", "'mqtt' and 'b' would both listen on 0.0.0.0:1883"),
        ("[https]\nhost = '127.0.0.1'\nport = 8080", "'http' and 'https' would both listen on 127.0.0.1:8080"),
        ("[[listeners]]\nunix_path = '/s'\n[[listeners]]\nname = 'b'\nunix_path = '/s'", "would both listen on /s"),
    ],
)
def test_two_that_would_listen_in_one_place_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(written(tmp_path, text))
    free = "[http]\nport = 0\n[[listeners]]\nport = 0\n[[listeners]]\nname = 'b'\nport = 0"
    assert len(load_config(written(tmp_path, free)).listeners) == 2


@pytest.mark.parametrize("host", ["https://mqtt.example.org", "mqtt.example.org:8883", "a/b", "a b", "::1]", "a\nb"])
def test_a_public_host_is_a_name_or_an_address_and_nothing_beside_it(host: str) -> None:
    with pytest.raises(
        ConfigError, match="public_host: expected a host name or an address, without scheme, port"
    ) as told:
        load_config(environ={"IOT_BROKER_PUBLIC_HOST": host})
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("host", ["mqtt.example.org", "broker_1", "192.0.2.10", "2001:db8::1", "münchen.example"])
def test_names_and_addresses_of_both_kinds_are_public_hosts(host: str) -> None:
    assert load_config(environ={"IOT_BROKER_PUBLIC_HOST": host}).public_host == host


def test_a_variable_with_one_underscore_for_two_is_told_the_right_one() -> None:
    with pytest.raises(ConfigError, match=r"between table and key: IOT_BROKER_HTTP__PORT$"):
        load_config(environ={"IOT_BROKER_HTTP_PORT": "1"})


@pytest.mark.parametrize("name", ["IOT_BROKER_DATA_DIRR", "IOT_BROKER_"])
def test_an_unknown_variable_of_our_prefix_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load_config(environ={name: "x"})


def test_variables_of_the_build_are_not_configuration() -> None:
    assert load_config(environ={"IOT_BROKER_BUILD": "debug", "IOT_BROKER_CONFIG": "x.toml"}) == BrokerConfig()


def largest(name: str) -> int:
    """The largest whole number that a capability takes."""
    bounds = [bound.le for bound in Capabilities.model_fields[name].metadata if hasattr(bound, "le")]
    assert len(bounds) == 1, f"{name} has no upper bound"
    return int(bounds[0])


def test_the_largest_value_of_every_capability_fits_the_core() -> None:
    figures = [name for name in Capabilities.model_fields if name != "queue_full_policy"]  # a word
    capabilities = Capabilities.model_validate({name: largest(name) for name in figures})
    Shard(core_limits(capabilities), secret=bytes(32), hash_seed=1, now_ns=0)
    for name in figures:
        with pytest.raises(ConfigError, match=rf"capabilities\.{name}"):
            load_config(environ={f"IOT_BROKER_CAPABILITIES__{name.upper()}": str(largest(name) + 1)})


def test_a_list_in_the_environment_is_json() -> None:
    config = load_config(environ={"IOT_BROKER_LISTENERS": '[{"port": 0, "open": true}]'})
    assert (config.listeners[0].port, config.listeners[0].host) == (0, "127.0.0.1")
    with pytest.raises(ConfigError, match="IOT_BROKER_LISTENERS"):
        load_config(environ={"IOT_BROKER_LISTENERS": "[{"})


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load_config(tmp_path / "absent.toml")


def test_open_mode_alone_moves_the_default_address_to_loopback() -> None:
    config = load_config(flags=Flags(open_mode=True))
    assert config.listeners[0].open
    assert config.listeners[0].host == "127.0.0.1"


@pytest.mark.parametrize(
    "flags",
    [
        Flags(open_mode=True, host="0.0.0.0"),
        Flags(open_mode=True, host="192.0.2.1"),
        Flags(open_mode=True, host="::"),
        Flags(open_mode=True, host="example.org"),
    ],
)
def test_open_mode_is_refused_where_others_can_reach_it(flags: Flags) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        load_config(flags=flags)


def test_open_mode_is_refused_when_another_listener_or_http_is_reachable(tmp_path: Path) -> None:
    two = written(tmp_path, "[[listeners]]\nopen = true\n[[listeners]]\nname = 'b'\nport = 1884\n")
    with pytest.raises(ConfigError, match=r"'b' listens on 0\.0\.0\.0"):
        load_config(two)
    with pytest.raises(ConfigError, match="'http'"):
        load_config(written(tmp_path, "[[listeners]]\nopen = true\n[http]\nhost = '0.0.0.0'"))


def test_host_flag_moves_every_listener_and_mqtt_port_the_first(tmp_path: Path) -> None:
    file = written(tmp_path, "[[listeners]]\n[[listeners]]\nname = 'b'\nport = 1884\n")
    config = load_config(file, flags=Flags(host="::1", mqtt_port=0, data_dir=tmp_path))
    assert [(one.host, one.port) for one in config.listeners] == [("::1", 0), ("::1", 1884)]
    assert config.http.host == "::1"
    assert config.data_dir == tmp_path


def test_configuration_is_frozen() -> None:
    with pytest.raises(ValueError):
        Capabilities().server_receive_maximum = 3  # type: ignore[misc]
