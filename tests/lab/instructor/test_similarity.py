"""What looks alike is named, and what all were given is not."""

from pathlib import Path

from securechat_lab.exercises import find
from securechat_lab.instructor.course import Course
from tests.lab.instructor.conftest import TAMPER, Instructor, packed, solution

OWN = """
def forge(sealed, known, wanted):
    forged = bytearray(sealed)
    for place in range(len(known)):
        forged[place] = sealed[place] ^ known[place] ^ wanted[place]
    return bytes(forged)

def notices(position):
    for last, answer in ((4, "form"), (44, "place"), (46, "form"), (54, "secret"), (55, "form")):
        if position <= last:
            return answer
    return "secret"
"""
RENAMED = OWN.replace("forged", "out").replace("place in", "i in").replace("[place]", "[i]").replace("last", "n")
OTHER = """
def forge(sealed, known, wanted):
    stream = [a ^ b for a, b in zip(sealed, known)]
    return bytes(key ^ letter for key, letter in zip(stream, wanted))

def notices(position):
    if position in range(5):
        return "form"
    return "place" if position in range(5, 45) else "secret" if position > 46 else "form"
"""
WHY = "by the threat model: who is on the way has no key, so that no tag of theirs fits, and what they alter is refused"
LONG = "I think that all of them are refused, because of the tag"


def test_copies_with_other_names_are_found_and_others_are_not(
    tmp_path: Path, course: Course, instructor: Instructor
) -> None:
    given = {"s01": (OWN, LONG), "s02": (f"# mine!\n{RENAMED}", LONG.upper()), "s03": (OTHER, "0"), "s04": ("def", "0")}
    given |= {"s05": (find(5).load().attack, "0"), "s06": (find(5).load().attack, "0")}
    (tmp_path / "in").mkdir()
    for who, (attack, prediction) in given.items():
        progress = f'{{"hints": 0, "prediction": "{prediction}", "checks": []}}'
        files = solution(course, who) | {
            f"{TAMPER}/attack.py": attack, f"{TAMPER}/check.py": "", f"{TAMPER}/progress.json": progress,
        }  # fmt: skip
        (tmp_path / "in" / f"{who}.zip").write_bytes(packed(files))
    for who, why in (("s08", WHY), ("s09", WHY.upper()), ("s10", " ".join(WHY.split()[::-1]))):
        table = "".join(f"| holds | {n} | {why} {n} |\n" for n in range(5))
        files = {f"{TAMPER}/claims.md": f"| | | |\n|---|---|---|\n{table}"}
        (tmp_path / "in" / f"{who}.zip").write_bytes(packed(files))
    (tmp_path / "in" / "s07.zip").write_bytes(b"PK")
    done = instructor("similarity", str(tmp_path / "in"))
    assert done.exit_code == 0, done.output
    assert [line.partition(" have ")[0] for line in done.stdout.splitlines()] == [
        "s07: left out: it is no archive (ZIP) that could be read: File is not a zip file",
        "5, attack.py: s01 and s02", "5, claims.md: s08 and s09", "5, prediction: s01 and s02",
    ]  # fmt: skip
