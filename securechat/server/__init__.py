"""The server: routes, orders and stores what it cannot read."""
