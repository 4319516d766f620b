"""Messaging Layer Security (RFC 9420): one module per noun of the RFC; knows nothing of the chat."""
