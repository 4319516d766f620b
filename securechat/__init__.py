"""securechat: TLS-secured, authenticated chat with end-to-end encryption (MLS, RFC 9420)."""

__version__ = "0.1.0"
