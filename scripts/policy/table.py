"""The result as Markdown, and its place in the page."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from scripts.policy import gates
from scripts.policy.measures import Figures, percentile
from scripts.policy.scenarios import SCENARIOS

PAGE = Path(__file__).parents[2] / "docs" / "policy.md"
BLOCK = re.compile(r"(<!-- begin bench:policy -->\n).*?(<!-- end bench:policy -->)", re.DOTALL)
OURS, BEST = "keywheel", "oracle"

Results = Mapping[str, Mapping[str, Figures]]  # scenario → policy → figures

COMPARED = (
    "policy", "success", "answers/h", "answers per unit", "in vain", "own 429s", "others'", "after restart",
    "first content p50 / p95 / p99", "whole answer p50 / p95 / p99", "Jain accounts", "Jain clients",
    "utility", "regret",
)  # fmt: skip
CHECKED = (
    "scenario", "avoidable errors", "idle lane", "closed scope", "beyond limit", "after a kill", "disabled", "cooling",
    "Retry-After", "deadline", "queue", "noticed after", "closed on for",
    "first answer after",
)  # fmt: skip


def render(results: Results) -> str:
    """Everything."""
    parts = (_gates(results), _checks(results), *(_compare(n, r) for n, r in results.items()))
    return "\n\n".join(parts)


def write(text: str) -> None:
    """Put it into the page."""
    page = PAGE.read_text("utf-8")
    PAGE.write_text(BLOCK.sub(lambda m: f"{m[1]}{text}\n{m[2]}", page), "utf-8")


def judge(results: Results) -> tuple[gates.Gate, ...]:
    """Every gate that these results can answer."""
    found: list[gates.Gate] = []
    pairs = {n: (p[OURS], p[BEST]) for n, p in results.items() if OURS in p and BEST in p}
    if "reference" in pairs:
        found += gates.reference(*pairs["reference"])
    if "top-up" in pairs:
        found.append(gates.top_up(*pairs["top-up"]))
    if OURS in results.get("greedy", {}):
        found.append(gates.greedy(results["greedy"][OURS]))
    ours = [policies[OURS] for policies in results.values() if OURS in policies]
    return (*found, *(gates.everywhere(ours) if ours else ()))


def _gates(results: Results) -> str:
    rows = [(g.name, g.wanted, g.figure, "yes" if g.holds else "**no**") for g in judge(results)]
    return "### Gates\n\n" + _table(("what", "wanted", "measured", "holds"), rows)


def _checks(results: Results) -> str:
    rows = [_check(name, p[OURS]) for name, p in results.items() if OURS in p]
    return "### keywheel, checked against the truth\n\n" + _table(CHECKED, rows)


def _check(name: str, f: Figures) -> tuple[str, ...]:
    promises = sum(len(sample.promises) for sample in f.samples)
    attempts, seconds = f.noticed
    return (
        name,
        f"{f.count('avoidable'):.0f}",
        f"{f.count('idle_lane'):.0f}",
        f"{f.count('on_closed'):.0f}",
        f"{f.over_limit:.0f}",
        f"{f.count('over_forgotten'):.0f}",
        f"{100 * f.disabled:.2f} %",
        f"{100 * f.cooling:.2f} %",
        f"{f.promise:.1f} s of {promises}" if promises else "–",
        f"{f.most('late'):.1f} s",
        f"{f.most('queue'):.0f}",
        f"{attempts} attempts, {seconds:.0f} s" if attempts else "–",
        f"{f.lingering:.0f} s" if SCENARIOS[name].faults else "–",
        f"{f.recovered:.0f} s" if f.recovered else "–",
    )


def _compare(name: str, policies: Mapping[str, Figures]) -> str:
    scenario = SCENARIOS[name]
    first = next(iter(policies.values()))
    seeds = ", ".join(str(sample.seed) for sample in first.samples)
    best = policies.get(BEST)
    rows = [_row(policy, figures, best) for policy, figures in policies.items()]
    asks = first.count("asks")
    head = f"### {name}\n\n{scenario.summary[0].upper()}{scenario.summary[1:]}. "
    head += f"Seeds {seeds}; {first.samples[0].hours:g} h each; {asks:.0f} requests."
    return f"{head}\n\n{_table(COMPARED, rows)}"


def _row(policy: str, f: Figures, best: Figures | None) -> tuple[str, ...]:
    return (
        f"**{policy}**" if policy == OURS else policy,
        f"{100 * f.success:.2f} %",
        f"{f.goodput:.0f}",
        f"{f.efficiency:.3f}",
        f"{f.wasted:.3f}",
        *(str(f.platform(cause)) for cause in ("self", "others", "restart")),
        _percentiles(f.firsts),
        _percentiles(f.totals),
        f"{f.accounts:.3f}",
        f"{f.clients:.3f}",
        f"{f.worth:.3f}",
        f"{best.worth - f.worth:.3f}" if best else "–",
    )


def _percentiles(ordered: tuple[float, ...]) -> str:
    return " / ".join(f"{percentile(ordered, share):.1f}" for share in (0.5, 0.95, 0.99)) + " s"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = (head, ("---",) * len(head), *rows)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
