"""Figures as a table in Markdown: a row for each piece of work, a column for each system."""

from collections.abc import Sequence

from scripts.benchmarks.figure import Figure


def as_table(figures: Sequence[Figure]) -> str:
    """The table. Ratios to the baseline are in brackets; notes are below."""
    systems = list(dict.fromkeys(figure.system for figure in figures))
    rows: dict[tuple[str, str, str], dict[str, Figure]] = {}
    for figure in figures:
        rows.setdefault((figure.case, figure.metric, figure.unit), {})[figure.system] = figure
    lines = [_line(["work", "measured", *(system or "value" for system in systems), "goal"])]
    lines.append(_line(["---", "---", *("--:" for _ in systems), "---"]))
    for (case, metric, unit), cells in rows.items():
        held = [each for each in cells.values() if each.goal is not None]
        goals = [each.goal_in_words + ("" if each.met else " (missed)") for each in held]
        told = [_cell(cells[system]) if system in cells else "" for system in systems]
        lines.append(_line([case, f"{metric}, {unit}", *told, "; ".join(goals)]))
    notes = dict.fromkeys(f"\n{each.system}, {each.case}: {each.note}." for each in figures if each.note)
    return "\n".join((*lines, *notes))


def _cell(figure: Figure) -> str:
    value = f"{figure.value:,.1f}" if figure.value < 100 else f"{figure.value:,.0f}"
    return value if figure.baseline is None else f"{value} ({figure.value / figure.baseline:.2f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
