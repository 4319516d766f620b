"""What a device signs in order to resume: that it holds its key, here and now (docs/protocol.md).

    struct {
        opaque server_id[16];
        opaque shown[32];
        opaque account<V>;
        opaque device[16];
        opaque nonce[32];
    } Possession;

It is signed as SignWithLabel of RFC 9420, section 5.1.2, says, under LABEL, with the device's signature key. `shown` is
SHA-256 of the certificate (DER) that the server shows in this very connection. A server that only imitates another one,
under a CA of its own, gets a proof that is worthless at the other, though it repeats the other's id and nonce.
"""


from securechat.tlscodec import Writer
from securechat.value import value

LABEL = b"securechat resume"


@value
class Channel:
    """What tells a connection from all others: the server, the certificate that it shows, the nonce in its `Hello`."""

    server_id: bytes
    shown: bytes
    nonce: bytes

    def possession(self, account: str, device: bytes) -> bytes:
        """Return what the device of an account signs."""
        writer = Writer().opaque(self.server_id).opaque(self.shown).vector(account.encode())
        return bytes(writer.opaque(device).opaque(self.nonce))
