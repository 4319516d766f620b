"""What a command is told when the program that has the vault open, and through which it went, has ended."""


class OwnerGone(Exception):  # noqa: N818  # it is no error: whoever sees it goes on by themselves
    """The vault's owner has ended. What it was asked for is in the vault, or was not begun."""

    def __init__(self) -> None:
        """It is always the same."""
        super().__init__("The program that has your data open has ended. Start this one again.")
