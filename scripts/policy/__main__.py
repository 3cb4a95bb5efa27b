"""`python -m scripts.policy`: play every scenario with every policy and write the tables into docs/policy.md.

With `--scenario` or `--policy` only a part is played, and nothing is written. Exit 1 when a gate does not hold.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from os import cpu_count

from scripts.policy import table
from scripts.policy.bench import run
from scripts.policy.measures import Sample, combine, measure
from scripts.policy.policies import POLICIES
from scripts.policy.scenarios import SCENARIOS

ALL = (table.BEST, *POLICIES)
Job = tuple[str, str, int]


def play(job: Job) -> Sample:
    """One run, measured."""
    scenario, policy, seed = job
    return measure(run(SCENARIOS[scenario], policy, seed))


def bench(scenarios: Iterable[str], policies: Iterable[str], seeds: int | None) -> table.Results:
    """All runs, over all processors. The same arguments give the same figures."""
    pairs = tuple(product(scenarios, policies))
    counts = {name: seeds or SCENARIOS[name].seeds for name, _ in pairs}
    jobs = [(name, policy, seed) for name, policy in pairs for seed in range(counts[name])]
    with ProcessPoolExecutor(cpu_count()) as pool:
        samples = dict(zip(jobs, pool.map(play, jobs), strict=True))
    _tell_speed(samples.values())
    return {
        name: {
            policy: combine(samples[name, policy, seed] for seed in range(counts[name]))
            for policy in policies
        }
        for name in dict.fromkeys(name for name, _ in pairs)
    }


def _tell_speed(samples: Iterable[Sample]) -> None:
    samples = tuple(samples)
    units, wall = sum(s.units for s in samples), sum(s.wall for s in samples)
    print(f"{units} attempts in {wall:.0f} s of CPU, {units / wall:.0f} a second", file=sys.stderr)


def _arguments() -> Namespace:
    parser = ArgumentParser(prog="python -m scripts.policy", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="this one only")
    parser.add_argument("--policy", action="append", choices=ALL, help="this one only")
    parser.add_argument("--seeds", type=int, help="so many seeds, from 0, instead of the usual")
    return parser.parse_args()


def main() -> int:
    """See the module."""
    wanted = _arguments()
    whole = not (wanted.scenario or wanted.policy or wanted.seeds)
    results = bench(wanted.scenario or tuple(SCENARIOS), wanted.policy or ALL, wanted.seeds)
    text = table.render(results)
    if whole:
        table.write(text)
    print(text)
    failed = [gate for gate in table.judge(results) if not gate.holds]
    for gate in failed:
        print(f"does not hold: {gate.name}: {gate.figure}, wanted {gate.wanted}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
