"""Bytes: threads, connections, TLS."""
