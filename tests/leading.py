"""Steps that are no request, put before those of an engine, for every driver's tests."""

import pytest

from keywheel.core.steps import Report, Result, Step
from keywheel.core.types import Lease
from keywheel.engine import Engine
from keywheel.flow import Flow

NOWHERE = Lease(0, "primary", "account1", "a/small-8b:free", 0.0, 0.0, (), ())


def lead(engine: Engine, monkeypatch: pytest.MonkeyPatch, step: Step) -> list[Report | None]:
    """Put a step before the first one; the reports that came back."""
    steps, reports = [step], list[Report | None]()
    advance = engine.advance

    def led(flow: Flow, report: Report | None = None) -> Step | Result:
        if steps:
            return steps.pop()
        if not reports:
            reports.append(report)
            return advance(flow)
        return advance(flow, report)

    monkeypatch.setattr(engine, "advance", led)
    return reports
