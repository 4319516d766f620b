"""Ends a process whose store has failed: nobody gets an answer that might not be true (docs/design.md, section 5)."""

import logging
import os
from typing import NoReturn

from securechat.errors import StorageError
from securechat.server.logs import get_logger

log = get_logger(__name__)

EXIT_STORE_BROKEN = 70
"""EX_SOFTWARE of sysexits.h: a supervisor may restart the server, which then reads what is really on the disk."""


class StoreBrokenError(StorageError):
    """The store failed in a way after which nothing it says can be trusted: the process has to end."""


def end_process(error: StoreBrokenError) -> NoReturn:
    """Log and end at once, without answers, farewells or further writes."""
    log.critical("the store has failed, the server ends at once", reason=str(error))
    logging.shutdown()
    os._exit(EXIT_STORE_BROKEN)
