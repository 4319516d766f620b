"""Who may log in: accounts, invites, password hashes."""
