"""Results of checks: CheckResult of one, Findings of one implementation, Table of several as text, Markdown, JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from speechattn.system.text_table import text_table

PASSED, FAILED, NOT_OFFERED = "passed", "failed", "not offered"


class NonconformingError(Exception):
    """Error of an implementation whose output has the wrong kind or shape."""


class NotOfferedError(Exception):
    """Error of a check that does not apply; the message says what is missing."""


@dataclass(frozen=True)
class CheckResult:
    """Result of one check of one implementation.

    Args:
        status: "passed", "failed" or "not offered".
        value: the measured number: the largest error, or a count; inf where nothing finite can be compared.
        measured: text of a table cell: the number with its unit, or the cases that failed.
        meaning: the result in one sentence.
    """

    status: str
    value: float | None
    measured: str
    meaning: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; a value that is not finite is None, and `measured` says why."""
        value = self.value if self.value is not None and math.isfinite(self.value) else None
        return {"status": self.status, "value": value, "measured": self.measured, "meaning": self.meaning}


@dataclass(frozen=True)
class Findings:
    """Results of one implementation by check; `absent` says why there are none.

    Examples:
        >>> print(Findings("mine", {"repeat": CheckResult(PASSED, 0.0, "0", "Twice the same bits.")}))
        mine
        repeat  passed  0  Twice the same bits.
    """

    name: str
    outcomes: Mapping[str, CheckResult] = field(default_factory=dict)
    absent: str = ""

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [check for check, outcome in self.outcomes.items() if outcome.status == FAILED]

    def __str__(self) -> str:
        if self.absent:
            return f"{self.name}: {self.absent}"
        rows = [(check, o.status, o.measured, o.meaning) for check, o in self.outcomes.items()]
        return "\n".join([self.name, *text_table(rows)])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        if self.absent:
            return {"name": self.name, "absent": self.absent}
        return {"name": self.name, "outcomes": {check: o.to_dict() for check, o in self.outcomes.items()}}


@dataclass(frozen=True)
class Table:
    """Several implementations side by side: a row for each check, a column for each implementation.

    Examples:
        >>> found = {"repeat": CheckResult(FAILED, 0.25, "0.25", "Two calls differ by 0.25.")}
        >>> print(Table([Findings("mine", found), Findings("yours", absent="not installed")]))
        check   mine       yours
        repeat  FAIL 0.25  not installed
    """

    columns: Sequence[Findings]

    @property
    def checks(self) -> list[str]:
        """Names of the rows, in the order of the suite."""
        return list(dict.fromkeys(check for column in self.columns for check in column.outcomes))

    def rows(self, failed: Callable[[str], str] = "FAIL {}".format) -> list[tuple[str, ...]]:
        """Return the cells, the header first. `failed` formats the measured value of a failed check."""

        def cell(column: Findings, check: str) -> str:
            outcome = column.outcomes.get(check)
            if outcome is None:
                return column.absent or "not run"
            if outcome.status == FAILED:
                return failed(outcome.measured)
            return outcome.status if outcome.status == NOT_OFFERED else f"pass {outcome.measured}"

        head = ("check", *(column.name for column in self.columns))
        return [head, *((check, *(cell(column, check) for column in self.columns)) for check in self.checks)]

    def __str__(self) -> str:
        return "\n".join(text_table(self.rows()))

    def markdown(self) -> str:
        """Return a Markdown table, failures in bold."""
        head, *rows = self.rows("**FAIL** {}".format)
        lines = [head, ("---",) * len(head), *rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {"columns": [column.to_dict() for column in self.columns]}


def judge(value: float, allowed: float, meaning: str, unit: str = "") -> CheckResult:
    """Return a pass if `value` is at most `allowed`; NaN fails. The number replaces `{}` in `meaning`."""
    if value <= allowed:
        return CheckResult(PASSED, value, magnitude(value), meaning.format(magnitude(value)))
    return CheckResult(FAILED, value, _amount(value, unit), meaning.format(number(value)))


def judge_cases(cases: Mapping[str, Callable[[], float]], allowed: float, meaning: str, unit: str = "") -> CheckResult:
    """Run every case, also after a failure; return a pass if all errors are at most `allowed`.

    `measured` names the cases that failed and their largest error; an exception is a failure like any other.
    """
    errors, failures = [], dict[str, list[str]]()
    for case, measure in cases.items():
        try:
            error, raised = measure(), ""
        except Exception as exception:  # any exception of an implementation is a finding
            error, raised = math.inf, first_line(exception)
        errors.append(error)
        if not error <= allowed:
            failures.setdefault(raised or _amount(error, unit), []).append(case)
    finite = [error for error in errors if math.isfinite(error)]
    worst = max(finite, default=0.0) if len(finite) == len(errors) else math.inf
    if not failures:
        return judge(worst, allowed, meaning)
    wrong = [case for names in failures.values() for case in names]
    named = ", ".join(wrong)
    measured = named if len(named) <= 24 else f"{len(wrong)} of {len(cases)} cases"
    if finite and max(finite) > allowed:
        measured += f" ({_amount(max(finite), unit)})"
    meaning = "; ".join(f"{_listed(names)} -> {failure}" for failure, names in failures.items())
    return CheckResult(FAILED, worst, measured, meaning if meaning.endswith(".") else f"{meaning}.")


def first_line(exception: Exception) -> str:
    """Return the first line of an exception, shortened for a footnote; its type first, unless it is ours."""
    lines = str(exception).strip().splitlines() or [""]
    if isinstance(exception, NonconformingError):
        return lines[0].removesuffix(".")
    line = lines[0] if len(lines[0]) <= 100 else f"{lines[0][:97]}..."
    return f"raises {type(exception).__name__}: {line}" if line else f"raises {type(exception).__name__}"


def number(value: float) -> str:
    """Return two digits of an error, or a count unchanged.

    Examples:
        >>> number(0.1234), number(1306.0), number(112.3), number(float("nan"))
        ('0.12', '1306', '112', 'NaN or Inf')
    """
    if not math.isfinite(value):
        return "NaN or Inf"
    whole = value < 1e6 and (value >= 10 or value == int(value))
    return f"{value:.0f}" if whole else f"{value:.2g}"


def _amount(value: float, unit: str) -> str:
    return f"{number(value)} {unit}".rstrip() if math.isfinite(value) else number(value)


def magnitude(value: float) -> str:
    """Return the next power of ten; the digits of an error differ between machines.

    Examples:
        >>> magnitude(3.1e-16), magnitude(0.0), magnitude(1.0)
        ('<1e-15', '0', '1')
    """
    if value <= 0 or value >= 1:
        return number(value)
    return f"<1e{math.ceil(math.log10(value)):+03d}"


def _listed(names: Sequence[str]) -> str:
    """Return up to six names, and how many more there are."""
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more"
