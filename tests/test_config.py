import json
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path

import pytest

from securechat.errors import UsageError
from securechat.server.config import MAX_NETWORKS, Networks, RoomNames, ServerConfig, load_config
from securechat.server.rate import Rate, Size

RATES = [name for name, value in vars(ServerConfig()).items() if isinstance(value, Rate)]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "server.toml"
    path.write_text(text)
    return path


def test_without_any_setting_the_defaults_hold() -> None:
    config = load_config({}, {})
    assert config == ServerConfig()
    assert (config.host, config.port, config.data, config.registration) == ("127.0.0.1", 4433, Path("data"), "open")


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(tmp_path: Path) -> None:
    file = written(tmp_path, 'port = 1\nmax_clients = 1\nname = "file"\n')
    environment = {"SECURECHAT_PORT": "2", "SECURECHAT_MAX_CLIENTS": "2"}
    config = load_config({"port": 3}, environment, file)
    assert (config.port, config.max_clients, config.name, config.greeting) == (3, 2, "file", "")


def test_every_setting_can_stand_in_the_file_and_in_the_environment(tmp_path: Path) -> None:
    values = {
        "host": "::", "port": 1, "data": "d", "cert": "c", "key": "k", "name": "n", "greeting": "g\nh",
        "max_clients": 2, "max_clients_per_address": 2,
        "registration": "invite", "invite_code": "i", "metrics_port": 3, "durability": "memory",
        "show_ciphertext": True, "log_level": "debug", "rooms": "#b #A", "bytes_per_account": "3 GiB",
        "disk_floor": "5 MiB", "trusted_proxies": "fd00:5::/64 10.0.0.5",
        "blob_bytes_per_account": "1 GiB", "blob_bytes": "2 TiB", "blob_days": 9, **dict.fromkeys(RATES, "7 + 0.5/s"),
    }  # fmt: skip
    toml = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    assert values.keys() == {field.name for field in fields(ServerConfig)}
    from_file = load_config({}, {}, written(tmp_path, toml))
    from_environment = load_config({}, {f"SECURECHAT_{key.upper()}": str(value) for key, value in values.items()})
    assert from_file == from_environment == load_config(values, {})
    assert from_file == ServerConfig(
        host="::", port=1, data=Path("d"), cert=Path("c"), key=Path("k"), name="n", greeting="g\nh",
        max_clients=2, max_clients_per_address=2,
        registration="invite", invite_code="i", metrics_port=3, durability="memory",
        show_ciphertext=True, log_level="debug", rooms=RoomNames(("#a", "#b")),
        bytes_per_account=Size(3 << 30), disk_floor=Size(5 << 20),
        trusted_proxies=Networks((ip_network("10.0.0.5"), ip_network("fd00:5::/64"))),
        blob_bytes_per_account=Size(1 << 30), blob_bytes=Size(2 << 40), blob_days=9,
        **dict.fromkeys(RATES, Rate(7, 0.5)),
    )  # fmt: skip


def test_what_is_beaten_need_not_make_sense() -> None:
    with pytest.raises(UsageError, match="SECURECHAT_PORT"):
        load_config({}, {"SECURECHAT_PORT": "many"})
    assert load_config({"port": 3}, {"SECURECHAT_PORT": "many"}).port == 3


def test_the_port_of_a_service_that_kubernetes_tells_of_is_none_of_ours(tmp_path: Path) -> None:
    environment = {"SECURECHAT_PORT": "tcp://10.96.0.1:4433", "SECURECHAT_PORT_4433_TCP_PORT": "4433"}
    assert load_config({}, environment).port == 4433
    assert load_config({"port": 3}, environment).port == 3
    assert load_config({}, environment, written(tmp_path, "port = 5")).port == 5
    of_metrics = {"SECURECHAT_METRICS_PORT": "tcp://10.96.0.1:9100"}
    assert load_config({}, of_metrics) == load_config({}, {})
    with pytest.raises(UsageError, match="SECURECHAT_MAX_CLIENTS"):  # what nobody sets for us is a mistake
        load_config({}, {"SECURECHAT_MAX_CLIENTS": "tcp://10.96.0.1:4433"})


@pytest.mark.parametrize("empty", ["", "\n"])
def test_an_empty_variable_counts_as_unset(tmp_path: Path, empty: str) -> None:
    file = written(tmp_path, 'name = "file"\nport = 1\n')
    names = ("NAME", "PORT", "DATA", "HOST", "REGISTRATION", "METRICS_PORT", "INVITE_CODE", "ROOMS")
    config = load_config({}, {f"SECURECHAT_{name}": empty for name in names}, file)
    assert config == load_config({}, {}, file)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_secret_from_a_file_in_the_environment_has_no_line_break_at_its_end(end: str) -> None:
    assert load_config({}, {"SECURECHAT_INVITE_CODE": f"open sesame{end}"}).invite_code == "open sesame"


@pytest.mark.parametrize("home", ["~", "$HOME", "${HOME}"])
def test_a_path_may_begin_at_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    wanted = Path("/home/alice/chat")
    assert load_config({}, {}, written(tmp_path, f'data = "{home}/chat"\n')).data == wanted
    assert load_config({}, {"SECURECHAT_DATA": f"{home}/chat"}).data == wanted
    assert load_config({}, {"SECURECHAT_DATA": home}).data == Path("/home/alice")
    for other in (f"{home}x/chat", f"chat/{home}"):
        if not other.startswith("~"):
            assert load_config({}, {"SECURECHAT_DATA": other}).data == Path(other)
    with pytest.raises(UsageError, match="SECURECHAT_DATA: nobody knows the home folder that ~nobody-here/x begins"):
        load_config({}, {"SECURECHAT_DATA": "~nobody-here/x"})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("prot = 1\n", 1),
        ("# a comment\n\nport = 1\nprot = 2", 4),
        ('greeting = """\nprot = 1\n"""\nprot = 2\n', 4),
        ('prot = """\na\nb"""\n', 1),
        ('"prot" = [\n 1,\n 2]\n', 1),
        ("port = 1\r\nprot = 2\r\n", 2),
        ("port = 1\n[prot]\nhost = 1\n", 2),
        ("port = 1\nprot.x = 1\n", 2),
        ('name = """\n"" \\"""[\n"""""\ngreeting = \'\'\'\n"""\'\'\'\n# it\'s "[\nprot = 1', 7),
        ("greeting = \"\\\"[\"\nname = '\\'\nprot = [ # ]\n\"]\",\n]\n", 3),
        ("prot = [\n" + "1,\n" * 5000 + "]", 1),  # half a minute and more, were it read line by line
    ],
)
def test_an_unknown_setting_is_an_error_that_names_file_and_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(UsageError, match=f"server.toml, line {line}: there is no setting 'prot'; there are host, port"):
        load_config({}, {}, written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('port = "4433"', "line 1, port: Expected `int`, got `str`"),
        ("port = 70000", "line 1, port: Expected `int` <= 65535"),
        ("port = true", "line 1, port: Expected `int`, got `bool`"),
        ("port = 44.5", "line 1, port: Expected `int`"),
        ("max_clients = 0", "line 1, max_clients: Expected `int` >= 1"),
        ('trusted_proxies = "10.0.0.5 balancer"', "line 1, trusted_proxies: Expected addresses or networks"),
        ('trusted_proxies = "10.0.0.5/24"', "trusted_proxies: Expected addresses or networks"),
        (f'trusted_proxies = "{"::1 " * (MAX_NETWORKS + 1)}"', "trusted_proxies: Expected at most 64 addresses"),
        ('rooms = "#lobby help"', "line 1, rooms: Expected names of rooms: a room's name begins with '#'"),
        (f'rooms = "{" ".join(f"#x{number}" for number in range(65))}"', "rooms: Expected at most 64 names of rooms"),
        ('attempts_per_account = "5"', "line 1, attempts_per_account: Expected a burst and a rate, as in `200 . 5/s`"),
        ("attempts_per_account = 5", "line 1, attempts_per_account: Expected a burst and a rate"),
        ("show_ciphertext = 1", "line 1, show_ciphertext: Expected `bool`"),
        ("\ndata = 7", "line 2, data: Expected a path"),
        ('data = ""', "line 1, data: Expected a path"),
        ('registration = "perhaps"', "line 1, registration: Invalid enum value 'perhaps'"),
        ('host = ""', "line 1, host: the name of a host cannot be empty"),
        ("port = 1\nport = 2\n", "line 2"),
        ("port =\n", "line 1, column 7"),
        ("a = " + "[" * 15_000, "server.toml: "),
        ("port = " + "9" * 5000, "server.toml: Exceeds the limit"),
        ("port = 0x" + "f" * 5000, "server.toml, line 1, port: "),
        ("port = inf", "line 1, port: Expected `int`"),
        ('name = "\\ud800"', "server.toml: .*not a Unicode scalar value"),
        ("port = 1\nport.x = 1", "server.toml: "),
    ],
)
def test_a_bad_setting_is_an_error_that_names_file_and_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_config({}, {}, written(tmp_path, text))


def test_a_bad_variable_or_flag_is_named() -> None:
    with pytest.raises(UsageError, match="SECURECHAT_PORT: Expected `int`"):
        load_config({}, {"SECURECHAT_PORT": "many"})
    with pytest.raises(UsageError, match="--max-clients: Expected `int` >= 1"):
        load_config({"max_clients": 0}, {})


@pytest.mark.parametrize(
    "name", ["host", "name", "greeting", "invite_code", "registration", "rooms", "attempts_per_account"]
)
def test_what_is_no_text_is_refused_wherever_it_comes_from(name: str) -> None:
    """Bytes that are not UTF-8 reach Python as lone surrogates, which no message can hold."""
    for text in ("\udcff", "\ud800"):
        with pytest.raises(UsageError, match=f"SECURECHAT_{name.upper()}: "):
            load_config({}, {f"SECURECHAT_{name.upper()}": text})
        with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}: "):
            load_config({name: text}, {})


@pytest.mark.parametrize("name", ["host", "name", "invite_code", "log_level", "rooms", "attempts_per_account", "port"])
def test_ten_megabytes_of_a_setting_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"SECURECHAT_{name.upper()}: ") as caught:
        load_config({}, {f"SECURECHAT_{name.upper()}": "1" * 10_000_000})
    assert len(str(caught.value)) < 1000


def test_variables_of_other_programs_are_none_of_our_business() -> None:
    assert load_config({}, {"SECURECHAT_MLS_VECTORS": "x", "PORT": "1"}) == ServerConfig()


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read .*: No such file"):
        load_config({}, {}, tmp_path / "missing.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="binary.toml"):
        load_config({}, {}, tmp_path / "binary.toml")
    with pytest.raises(UsageError, match="larger than 16,384 bytes"):
        load_config({}, {}, written(tmp_path, "#" * ((16 << 10) + 1)))
    assert load_config({}, {}, written(tmp_path, "#" * (16 << 10))) == ServerConfig()


def test_a_key_of_thousands_of_parts_is_not_even_read(tmp_path: Path) -> None:
    for text in ("{}a = 1", "[{}a]", "port = {{{}a = 1}}"):
        with pytest.raises(UsageError, match="server.toml, line 2: more than 100 dots in one line"):
            load_config({}, {}, written(tmp_path, "# settings\n" + text.format("a." * 5000)))
    assert load_config({}, {}, written(tmp_path, f'greeting = "{"." * 100}"')).greeting == "." * 100


def test_an_invite_code_is_not_shown() -> None:
    config = load_config({"registration": "invite"}, {"SECURECHAT_INVITE_CODE": "Tiger 7"})
    assert config.invite_code == "Tiger 7"
    assert "Tiger" not in repr(config)
