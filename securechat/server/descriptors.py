"""How many files this process may have open: each connection is one."""

MOST_FILES = 65_536
"""Open files that the server asks the system for: far more than there are seats."""

RESERVED_FILES = 64
"""Open files kept from clients: for store, accounts, log, our own sockets, a backup. About 40 are in use, and up to 16
for connections of which a load balancer has not said whose they are."""


def files_allowed() -> int:
    """Let this process have as many files open as it may, and return how many that is."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return MOST_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # the soft one is often 256 or 1024
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft
    return wanted
