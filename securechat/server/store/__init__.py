"""Where the server keeps what must survive it."""
