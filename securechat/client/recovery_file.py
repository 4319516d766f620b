"""The recovery file: what it takes to be the same identity on a new machine, under a passphrase of its own.

    struct {
        opaque address<V>;          /* HOST:PORT of the server */
        opaque ca_pin[32];          /* SHA-256 of its CA's public key */
        opaque server_id[16];
        opaque account<V>;          /* UTF-8, normalised */
        opaque identity_key[32];    /* the private half: the seed of Ed25519 */
    } Contents;                     /* presentation language of RFC 9420, section 2.1 */

    body = wrapped(Contents), as `wrapping` says: time[4] memory[4] lanes[1] salt[16] nonce[12] commitment[32]
           ciphertext tag[16], context = "securechat recovery file v2"
    line = "screcovery1" base32(uint8 version = 2; uint16 length; body; opaque checksum[4]), as `identity.armour` says

The file holds the line, in ASCII, and a line break. So what is on the disk, on paper and in a QR code is one and the
same, about 330 characters, and each is read by `open_recovery`. Each guess at the passphrase costs FOR_A_FILE
(`passphrase`). docs/design.md, section 6.
"""

from dataclasses import field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securechat import codes
from securechat.client.passphrase import FOR_A_FILE, MOST, check_own, letters_of, wrong
from securechat.client.settings import ClientSettings
from securechat.client.vault.vault import Vault
from securechat.client.wrapping import Cost, WrongPasswordError, unwrap, wipe, wrap
from securechat.errors import DecodeError, StorageError, UsageError
from securechat.identity.armour import MAX_TEXT, Armour
from securechat.identity.certificate import KEY_LENGTH
from securechat.identity.invite_line import MAX_ADDRESS
from securechat.names import normalise_account
from securechat.tlscodec import Reader, Writer
from securechat.value import value
from securechat.wire.limits import MAX_ACCOUNT, SERVER_ID_LENGTH

PREFIX: Final = "screcovery1"

_CONTEXT: Final = b"securechat recovery file v2"
_ARMOUR: Final = Armour("recovery file", PREFIX, b"securechat recovery line v1", version=2)
"""Version 1 did not commit to its key, and is read no more."""
_PIN_LENGTH: Final = 32


@value
class RecoveryContents:
    """What is in a recovery file. Printing it does not show the key."""

    address: str  # HOST:PORT
    pin: str  # of the server's CA: `sha256:` and 64 hexadecimal digits
    server_id: bytes
    account: str
    private: bytearray = field(repr=False)
    """The private half of the identity key, 32 bytes; whoever is done with it calls `wipe`."""

    @property
    def public(self) -> bytes:
        """The public half of the identity key, 32 bytes."""
        return Ed25519PrivateKey.from_private_bytes(self.private).public_key().public_bytes_raw()

    @property
    def ca_pin(self) -> bytes:
        """The pin itself, 32 bytes."""
        return bytes.fromhex(self.pin.removeprefix("sha256:"))

    def wipe(self) -> None:
        """Overwrite the key."""
        wipe(self.private)


def recovery_of(vault: Vault, settings: ClientSettings) -> RecoveryContents:
    """Return what somebody's recovery file holds; its caller wipes it. The vault's password has to be at hand.

    Raises `UsageError` for a vault that has not met its server yet, and what `IdentityKey.opened` raises.
    """
    device = vault.device.load()
    if device is None or not device.server_id:
        raise UsageError("This vault has not met its server yet. Start the client once, then make the recovery file.")
    with vault.password.read() as password, device.identity.opened(password) as key:
        private = bytearray(key.secret())
    trusted = vault.authorities.current()
    pin = trusted.text if trusted is not None else settings.ca_pin
    return RecoveryContents(settings.address, pin, device.server_id, device.account, private)


def seal_recovery(contents: RecoveryContents, own: str = "", *, cost: Cost = FOR_A_FILE) -> tuple[str, str]:
    """Return the line that a recovery file holds, and its passphrase, which is nowhere else. Takes a second.

    The passphrase is `own`, by default a new code. Raises `UsageError` if `own` is too weak (`check_own`).
    """
    if own:
        check_own(own, contents.account)
    passphrase = own or codes.make_code()
    encoded, letters = _encode(contents), letters_of(passphrase)
    try:
        return _ARMOUR.encode(wrap(encoded, letters, context=_CONTEXT, cost=cost)), passphrase
    finally:
        wipe(encoded)
        wipe(letters)


def open_recovery(data: bytes, passphrase: str) -> RecoveryContents:
    """Return what is in a recovery file, or in its line. Takes a second.

    Spaces, line breaks and capitals are forgiven, in the passphrase dashes as well. Raises `UsageError`, which says in
    a sentence what is wrong with the file; `WrongPassphraseError` if nothing is, or if it was altered on purpose.
    """
    try:
        text = data[: MAX_TEXT + 1].decode("ascii")
    except UnicodeDecodeError:
        raise UsageError("This is no recovery file: it is not text, or damaged.") from None
    body = _ARMOUR.decode(text)
    letters = letters_of(passphrase)
    try:
        encoded = unwrap(body, letters, context=_CONTEXT, most=MOST)
    except WrongPasswordError:
        raise wrong("recovery file") from None
    except StorageError as error:
        raise UsageError(f"This recovery file was not made by securechat. {error}") from None
    finally:
        wipe(letters)
    try:
        return _decode(encoded)
    except (DecodeError, UsageError) as error:
        raise UsageError(f"This recovery file was not made by this version of securechat: {error}.") from None
    finally:
        wipe(encoded)


def _encode(contents: RecoveryContents) -> bytearray:
    public = Writer().vector(contents.address.encode()).opaque(contents.ca_pin)
    public.opaque(contents.server_id).vector(contents.account.encode())
    return bytearray(bytes(public)) + contents.private


def _decode(encoded: bytearray) -> RecoveryContents:
    """Read the contents. Raises `DecodeError` or `UsageError`."""
    reader = Reader(bytes(encoded[:-KEY_LENGTH]))  # the key comes last, and no reader copies it
    address = _text(reader, MAX_ADDRESS)
    pin, server_id = reader.opaque(_PIN_LENGTH), reader.opaque(SERVER_ID_LENGTH)
    account = _text(reader, 4 * MAX_ACCOUNT)
    reader.done()
    if normalise_account(account) != account:
        raise DecodeError("its account is not in its one spelling")
    return RecoveryContents(address, f"sha256:{pin.hex()}", server_id, account, encoded[-KEY_LENGTH:])


def _text(reader: Reader, limit: int) -> str:
    try:
        return reader.vector(limit).decode()
    except UnicodeDecodeError:
        raise DecodeError("a text in it is not UTF-8") from None
