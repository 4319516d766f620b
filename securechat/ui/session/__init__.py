"""A person's session, whatever face draws it: where one is, and what the commands do that one types."""
