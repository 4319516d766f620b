"""A person's settings file: who they are, and where their server is. Flag, else variable, else this file, else default.

    user = "alice"                   # ~/.config/securechat/config.toml, or where the system has such files
    server = "chat.example:4433"
    pin = "sha256:0123..."           # or ca = "~/ca.pem"
    color = "never"                  # or always, or auto: at a terminal that has colours, unless NO_COLOR is set
    plain = "yes"                    # lines, one below the other, and never the full screen
    theme = "light"                  # or dark: colours of the full screen
    profile = "home"                 # a table below whose settings go before these, unless --profile names another

    [profiles.work]
    server = "chat.work.example"
    ca = "~/work/ca.pem"

    [keys]                           # of the full screen (`ui.terminal.keys`)
    search = "ctrl+s"

It says whom this program trusts, so nobody else may be able to change it. No secret stands in it.
"""

import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from platformdirs import user_config_path

from securechat.errors import SecurechatError, UsageError
from securechat.files import expand, is_ours
from securechat.names import normalise_account
from securechat.toml import TomlFile
from securechat.ui.plain.colour import parse_choice
from securechat.ui.start import parse_server
from securechat.ui.terminal.keys import check_keys, parse_plain, parse_theme
from securechat.value import value


def _path(text: str) -> None:
    if not text or "\0" in text:
        raise UsageError("it is no path")
    expand(text)


SETTINGS: Final[Mapping[str, Callable[[str], object]]] = {
    "user": normalise_account,
    "server": parse_server,
    "ca": _path,
    "pin": str,  # whoever uses it says what it has to look like
    "vault": _path,
    "password_file": _path,
    "color": parse_choice,
    "plain": parse_plain,
    "theme": parse_theme,
}
"""What can be set, and what raises `SecurechatError` for a text that it cannot be."""

_TRUST: Final = ("ca", "pin")
"""Ways to know the server: where a profile names one of them, or another server, none comes from above it."""


@value
class Preference:
    """One setting, as it is written, and where: file and line."""

    text: str
    place: str


def preferences_path() -> Path:
    """Return where the file is, or would be."""
    return user_config_path("securechat") / "config.toml"


def read_preferences(path: Path, profile: str = "") -> dict[str, Preference]:
    """Return the settings of a file, with those of a profile before them. None is there: no settings.

    Raises `UsageError`, a sentence that names the line, for what others may change or cannot be meant.
    """
    if not path.exists():
        if profile:
            raise UsageError(f"There is no profile {profile!a}: {path} is not there.")
        return {}
    _check_owner(path)
    file = TomlFile(path)
    table = dict(file.table)
    chosen, profiles, keys = table.pop("profile", ""), table.pop("profiles", {}), table.pop("keys", {})
    if not isinstance(chosen, str):
        raise UsageError(f"{file.place('profile')}: profile is the name of one, in quotation marks.")
    if not (isinstance(profiles, dict) and all(isinstance(each, dict) for each in profiles.values())):
        raise UsageError(f"{file.place('profiles')}: a profile is a table, as in [profiles.work].")
    found = _settings(file, table) | _keys(file, keys)
    of_profiles = {name: _settings(file, each, "profiles", name) for name, each in profiles.items()}
    if name := profile or chosen:
        if name not in profiles:
            where = str(path) if profile else file.place("profile")
            there = f"there are {', '.join(f'{each!a}' for each in profiles)}" if profiles else "there are none"
            raise UsageError(f"{where}: there is no profile {name!a}; {there}.")
        own = of_profiles[name]
        if own.keys() & {"server", *_TRUST}:
            found = {key: each for key, each in found.items() if key not in _TRUST}
        found |= own
    return found


def _keys(file: TomlFile, keys: object) -> dict[str, Preference]:
    """Return the keys that a table gives, as `keys.NAME`."""
    if not isinstance(keys, dict):
        raise UsageError(f"{file.place('keys')}: keys is a table, as in [keys].")
    for name, text in keys.items():
        try:
            check_keys(name, text if isinstance(text, str) else "")
        except UsageError as error:
            raise UsageError(f"{file.place('keys', name)}: {error}") from None
    return {f"keys.{name}": Preference(text, file.place("keys", name)) for name, text in keys.items()}


def _settings(file: TomlFile, table: Mapping[str, Any], *within: str) -> dict[str, Preference]:
    for name, text in table.items():
        where = file.place(*within, name)
        if name not in SETTINGS:
            raise UsageError(f"{where}: there is no setting {name!a}; there are {', '.join(SETTINGS)}, and profile.")
        if not isinstance(text, str):
            raise UsageError(f"{where}: {name} is a text, in quotation marks.")
        try:
            text.encode()
            SETTINGS[name](text)
        except (SecurechatError, UnicodeEncodeError) as error:
            reason = "it is no text in UTF-8" if isinstance(error, UnicodeEncodeError) else str(error)
            raise UsageError(f"{where}: {name}: {reason}") from None
    if "ca" in table and "pin" in table:
        raise UsageError(f"{file.place(*within, 'pin')}: ca and pin are two ways to say one thing: leave one out.")
    return {name: Preference(text, file.place(*within, name)) for name, text in table.items()}


def _check_owner(path: Path) -> None:
    """Raise `UsageError` where somebody else can say in it whom we trust. Windows decides by other means."""
    if sys.platform == "win32":
        return
    try:
        real = path.resolve(strict=True)  # whoever can change the folder of what a link leads to can put another there
        for each in dict.fromkeys((path, path.parent, real, real.parent)):
            found = each.stat()
            if not (is_ours(each) or found.st_uid == 0):
                raise UsageError(f"{each} belongs to another user, who could say in it whom this program trusts.")
            # A folder where each has their own.
            owned_each = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
            if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not owned_each:
                raise UsageError(
                    f"Others can change {each}, and so whom this program trusts: chmod go-w takes that from them."
                )
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
