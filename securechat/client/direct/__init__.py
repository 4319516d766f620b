"""The direct link: bytes from one client to another, past the server (docs/direct-link.md)."""
