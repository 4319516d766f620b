"""What every bench yields."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured number; beside it, where one is known, what it is held against.

    `baseline` is what another implementation needed for the same work in the same run, in the same unit; `goal` is the
    largest `value / baseline` that we are content with.
    """

    case: str
    metric: str
    value: float
    unit: str
    baseline: float | None = None
    goal: float | None = None

    def as_dict(self) -> dict[str, object]:
        """Its JSON form: without the fields that are not known."""
        told: dict[str, object] = {
            "case": self.case, "metric": self.metric, "value": round(self.value, 3), "unit": self.unit,
        }  # fmt: skip
        if self.baseline is not None:
            told |= {"baseline": round(self.baseline, 3), "ratio": round(self.value / self.baseline, 3)}
        if self.goal is not None:
            told |= {"goal": self.goal}
        return told

    def as_line(self) -> str:
        """Its form for people."""
        line = f"{self.case:28} {self.metric:34} {self.value:12,.1f} {self.unit}"
        if self.baseline is not None:
            line += f"   {self.value / self.baseline:.2f} x {self.baseline:,.1f}"
        if self.goal is not None:
            line += f"   goal <= {self.goal}"
        return line
