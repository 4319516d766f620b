"""Messaging Layer Security (RFC 9420): one module per noun of the RFC; knows nothing of the chat.

Begin with `group`, and with docs/mls.md, which walks a message and a commit through the modules. A module that does not
say what it keeps holds structures or functions: it keeps no secret, and nothing between two calls.
"""
