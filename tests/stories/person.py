"""The program `securechat`, for people who are in a hurry: what it waits for between two notices or marks is gone.

    python -m tests.stories.person COMMAND...
"""

from securechat.cli import main
from securechat.client.conversations import marking
from securechat.ui import ring
from tests.support.cheap import make_clients_cheap

if __name__ == "__main__":
    make_clients_cheap()
    marking.GATHER_SECONDS = 0.1  # type: ignore[misc]  # constants of the program
    marking.PERIOD_SECONDS = 0.2  # type: ignore[misc]
    ring.PERIOD_SECONDS = 0.0  # type: ignore[misc]
    main()
