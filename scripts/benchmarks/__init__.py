"""What securechat costs: `scripts/bench` runs these benches.

- `systems/`: what is put to work. Servers, ours and those of others, each with clients that speak its protocol
  (`system.py` says what they have in common); and implementations of MLS behind one interface (`mls_clients.py`).
- `work/`: the benches, a module for each, and the workloads that several of them use (`workloads.py`).
- `contest.py` lets several systems take turns at the same work, `figure.py` is what every bench yields, `table.py`
  prints figures in Markdown, `beside.py` compares this tree with another checkout.

To add a bench, write `work/NAME.py` with a function that yields `Figure`s, and name it in `__main__.py`: in `SERVERS`
if it takes a `Run` and so compares servers, else in `OTHERS`. What the client costs belongs in `work/client.py`. A new
bench gets a row in docs/performance.md. Speed is measured here and never in a test.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository: from here `scripts` can be imported."""
