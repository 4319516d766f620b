"""What is fuzzed: every target of every `targets_*.py` in this folder, by name.

A target is a function of bytes that returns for every input. It swallows the errors that the code under it documents
and lets every other one through: that is a finding. It may assert more, such as that what decodes encodes again to
the same bytes. Such a module holds

    TARGETS: dict[str, Target]
    seeds() -> dict[str, list[bytes]]    inputs that go deep, made anew in each run: they may hold secrets

and `corpus/<target>/` holds inputs worth keeping, none of them secret. `scripts/fuzz` runs a target under atheris,
`test_corpus.py` runs them all for a moment in the ordinary suite.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

Target = Callable[[bytes], None]

FOLDER = Path(__file__).parent
CORPUS = FOLDER / "corpus"


def targets() -> dict[str, Target]:
    """All targets."""
    found: dict[str, Target] = {}
    for module in _modules():
        theirs: dict[str, Target] = import_module(module).TARGETS
        assert found.keys().isdisjoint(theirs), f"{module} takes the name of another target"
        found.update(theirs)
    return found


def seeds() -> dict[str, list[bytes]]:
    """Good inputs by target, made anew."""
    found: dict[str, list[bytes]] = {name: [] for name in targets()}
    for module in _modules():
        for name, inputs in import_module(module).seeds().items():
            found[name] += inputs
    return found


def corpus(target: str) -> list[bytes]:
    """The kept inputs of a target, in a fixed order."""
    folder = CORPUS / target
    return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []


def _modules() -> list[str]:
    return [f"tests.fuzz.{path.stem}" for path in sorted(FOLDER.glob("targets_*.py"))]
