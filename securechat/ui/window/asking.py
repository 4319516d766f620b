"""A question over the window: for what is not to be seen while it is typed."""

import tkinter as tk
from collections.abc import Callable
from tkinter import ttk


def ask_secret(master: tk.Tk, question: str, take: Callable[[str], object], ground: str) -> None:
    """Ask for a secret, and hand over what was typed; nothing, if nothing was."""
    window = tk.Toplevel(master, background=ground, padx=24, pady=20)
    window.title("securechat")
    window.transient(master)
    window.resizable(width=False, height=False)
    ttk.Label(window, text=question).pack(anchor="w", pady=(0, 10))
    entry = ttk.Entry(window, show="•", width=34)
    entry.pack(fill="x")
    ttk.Label(window, text="Enter gives it, Escape leaves everything as it is.").pack(anchor="w", pady=(10, 0))

    def give(_: object = None) -> None:
        said = entry.get()
        window.destroy()
        if said:
            take(said)

    entry.bind("<Return>", give)
    window.bind("<Escape>", lambda _: window.destroy())
    window.geometry(f"+{master.winfo_rootx() + 80}+{master.winfo_rooty() + 80}")
    window.wait_visibility()
    window.grab_set()
    entry.focus_force()
