"""What every bench yields."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured number; beside it, where one is known, what it is held against.

    `baseline` is what another implementation needed for the same work in the same run, in the same unit. `goal` is the
    largest `value / baseline` that we are content with; without a baseline, the largest value. `at_least`: a number of
    which more is better, so that `goal` is the smallest. `system`: whose number it is, where several do the same work.
    `note`: without which the number would mislead.
    """

    case: str
    metric: str
    value: float
    unit: str
    baseline: float | None = None
    goal: float | None = None
    at_least: bool = False
    system: str = ""
    note: str = ""

    def as_dict(self) -> dict[str, object]:
        """Its JSON form: without the fields that are not known."""
        told: dict[str, object] = {"system": self.system} if self.system else {}
        told |= {"case": self.case, "metric": self.metric, "value": round(self.value, 3), "unit": self.unit}
        if self.baseline is not None:
            told |= {"baseline": round(self.baseline, 3), "ratio": round(self.value / self.baseline, 3)}
        if self.goal is not None:
            told |= {"goal": self.goal, "met": self.met}
        if self.note:
            told["note"] = self.note
        return told

    @property
    def met(self) -> bool:
        """Whether the goal, if there is one, is reached."""
        if self.goal is None:
            return True
        held = self.value if self.baseline is None else self.value / self.baseline
        return held >= self.goal if self.at_least else held <= self.goal

    def as_line(self) -> str:
        """Its form for people."""
        system = f"{self.system:29} " if self.system else ""
        line = f"{system}{self.case:36} {self.metric:32} {self.value:12,.1f} {self.unit}"
        if self.baseline is not None:
            line += f"   {self.value / self.baseline:.2f} x {self.baseline:,.1f}"
        if self.goal is not None:
            line += f"   goal {self.goal_in_words}{'' if self.met else '  MISSED'}"
        return f"{line}   {self.note}" if self.note else line

    @property
    def goal_in_words(self) -> str:
        """What the number, or its ratio to the baseline, shall be; empty: anything."""
        if self.goal is None:
            return ""
        return f"{'>=' if self.at_least else '<='} {self.goal:g}{'' if self.baseline is None else ' x'}"
