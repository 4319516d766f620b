"""The cipher suites (RFC 9420, section 5). `suite` needs no secrets; `sealing` is everything that does.

Only modules of this package import `cryptography`.
"""
