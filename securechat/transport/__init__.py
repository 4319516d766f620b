"""TLS contexts, deadlines, and the pump between a socket and a protocol."""
