"""Who gets in: connections that are not logged in yet, and the login."""
