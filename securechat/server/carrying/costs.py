"""What messages cost the I/O thread, in units: about as much as a ping, three microseconds on one slow core.

Measured by what floods of each type take of that thread, its turns included; what other threads do for it they count in
seconds (`workers`). What a message costs by its size is counted where it is read (`BYTES_PER_UNIT`).
"""

from collections.abc import Mapping

from securechat.wire import messages as m

BYTES_PER_UNIT = 256
"""Of what is read: to decrypt, keep and send on a KiB of a message takes four times what a ping takes."""

BYTES_PER_UNIT_SENT = 4096
"""Of what is sent: it is encrypted, and copied."""

HANDSHAKE_UNITS = 160
"""What comes for a TLS handshake: half a millisecond and more."""

UNITS: Mapping[type[m.Message], int] = {
    m.Ping: 1, m.Pong: 1, m.Closing: 1, m.Acknowledge: 1, m.Submit: 1,
    m.Ephemeral: 8,
    m.ClientHello: 4,
    # before the login
    m.Register: 64, m.Login: 64, m.Resume: 128,
    # the account, its devices and keys
    m.ExtendToken: 48, m.ChangePassword: 24, m.DeleteAccount: 24, m.FetchSessions: 24, m.EndSession: 20,
    m.Publish: 64, m.PublishKeyPackages: 32, m.FetchStatements: 28, m.FetchKeyPackages: 40,
    m.PutKeepsake: 32, m.FetchKeepsake: 16,
    # conversations
    m.OpenDirect: 240, m.OpenRoom: 240, m.Join: 28, m.Resync: 28, m.Commit: 100, m.Leave: 80, m.HandBack: 64,
    m.FetchCheckpoints: 16, m.CommitFailed: 12, m.ListRooms: 28, m.Members: 16, m.Subscribe: 72,
    # blobs: what their bytes cost is counted where those are read and sent
    m.StartBlob: 24, m.PutBlob: 8, m.FetchBlob: 12, m.DropBlob: 20,
    # beside any of them
    m.Refused: 4,
}  # fmt: skip
"""A request takes as much whether it is refused or not: mostly that is known no earlier."""
