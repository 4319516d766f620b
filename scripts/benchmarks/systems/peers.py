"""The foreign servers with which ours is compared, and which of them this machine has."""

from scripts.benchmarks.systems.mosquitto import Mosquitto
from scripts.benchmarks.systems.ngircd import Ngircd
from scripts.benchmarks.systems.packaged import Packaged
from scripts.benchmarks.systems.xmpp import Ejabberd, Prosody

PEERS: tuple[type[Packaged], ...] = (Mosquitto, Ngircd, Ejabberd, Prosody)


def installed() -> list[type[Packaged]]:
    """Those that can run here."""
    return [peer for peer in PEERS if peer.installed()]


def described() -> str:
    """A line that says which there are, in which version, and one that says how to get the rest."""
    there = ", ".join(f"{peer.package} {peer.version()}".rstrip() for peer in installed())
    lines = [f"compared with: {there or 'the floor only'}"]
    if missing := [peer.package for peer in PEERS if not peer.installed()]:
        lines.append(f"not installed: {', '.join(missing)} (on Debian: apt install {' '.join(missing)})")
    return "\n".join(lines)
