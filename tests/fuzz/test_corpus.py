"""Every fuzz target for a moment: the kept corpus, good inputs, and some hundred altered ones, the same in each run."""

import random

import pytest

from tests.fuzz import registry

TARGETS = registry.targets()
SEEDS = registry.seeds()
ALTERED = 60
"""Altered inputs for each target: `scripts/fuzz` is for more."""


def altered(data: bytes, chance: random.Random) -> bytes:
    """`data` with a few bytes flipped, cut out, doubled or put in."""
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randint(0, len(data)), chance.choice([1, 1, 2, 4, 16, 64])
        piece = chance.choice(
            [
                b"",
                chance.randbytes(length),
                data[at : at + length] * 2,
                bytes(length),
                b"\xff" * length,
                bytes(byte ^ 1 << chance.randrange(8) for byte in data[at : at + length]),
            ]
        )
        data = data[:at] + piece + data[at + chance.choice([0, len(piece), length]) :]
    return data


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_target_survives_its_corpus_and_altered_inputs(name: str) -> None:
    good = [*SEEDS[name], *registry.corpus(name)]
    assert good, "a target without one good input is not tested"
    chance = random.Random(name)
    inputs = [b"", *good, *(altered(chance.choice(good), chance) for _ in range(ALTERED))]
    for data in inputs:
        try:
            TARGETS[name](data)
        except Exception as error:
            raise AssertionError(f"{name} fails for {data.hex()}") from error


def test_every_folder_of_the_corpus_has_a_target_and_is_small() -> None:
    for folder in registry.CORPUS.iterdir():
        assert folder.name in TARGETS
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 8192
