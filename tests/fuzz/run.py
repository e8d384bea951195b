# ruff: noqa: T201 - it prints its table
"""Damage many videos and see what `vidrestore` makes of them: python tests/fuzz/run.py [--cases 5000] [--seed 0]

`--case N` runs one case and keeps the damaged file; `--log FILE` writes a line of JSON for each case. Prints each
defect when it is found, then a table; leaves with exit code 1 if there was any.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fuzz.damage import KINDS, Case, make_case
from tests.fuzz.judge import Judge, Verdict

NUM_CHILDREN = 2


def verdicts(
    numbers: Sequence[int], *, seed: int, children: int = NUM_CHILDREN, limit_s: float = float("inf")
) -> Iterator[tuple[Case, Verdict]]:
    """Judge the cases, several at a time, in the order in which they end. No case is begun after `limit_s`."""
    begin_s = time.monotonic()
    judges: SimpleQueue[Judge] = SimpleQueue()

    def judged(number: int) -> tuple[Case, Verdict] | None:
        if time.monotonic() - begin_s > limit_s:
            return None
        case = make_case(seed, number)
        judge = judges.get()
        try:
            return case, judge.verdict(case)
        finally:
            judges.put(judge)

    with ExitStack() as stack:
        for _ in range(children):
            judges.put(stack.enter_context(Judge()))
        with ThreadPoolExecutor(children) as pool:
            waiting = [pool.submit(judged, number) for number in numbers]
            for done in as_completed(waiting):
                result = done.result()
                if result is not None:
                    yield result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", type=int, help="only this one; the damaged file is kept in the current folder")
    parser.add_argument("--children", type=int, default=NUM_CHILDREN)
    parser.add_argument("--log", type=Path)
    arguments = parser.parse_args()
    if arguments.case is not None:
        case = make_case(arguments.seed, arguments.case)
        Path(f"case_{case.number}{case.suffix}").write_bytes(case.content)
        with Judge() as judge:
            print(case.name, judge.verdict(case), sep="\n")
        return
    begin_s = time.monotonic()
    table: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    slowest = largest = 0.0
    numbers = range(arguments.first, arguments.first + arguments.cases)
    with ExitStack() as stack:
        log = stack.enter_context(arguments.log.open("w")) if arguments.log else None
        for case, verdict in verdicts(numbers, seed=arguments.seed, children=arguments.children):
            outcome = "defect" if verdict.defects else str(verdict.exit_code)
            table[case.kind][outcome] += 1
            slowest, largest = max(slowest, verdict.seconds), max(largest, verdict.peak_bytes)
            if verdict.defects:
                print(f"{case.name}: {'; '.join(verdict.defects)}", flush=True)
            if log:
                facts = {name: getattr(verdict, name) for name in verdict.__dataclass_fields__}
                print(json.dumps({"case": case.name, **facts}), file=log, flush=True)
    print(f"{'kind':18}{'cases':>7}{'exit 0':>8}{'exit 2':>8}{'defects':>9}")
    for kind, counts in [*table.items(), ("all", sum(table.values(), Counter()))]:
        print(f"{kind:18}{counts.total():7}{counts['0']:8}{counts['2']:8}{counts['defect']:9}")
    print(f"{time.monotonic() - begin_s:.0f} s; slowest case {slowest:.1f} s; largest memory {largest / 1e6:.0f} MB")
    sys.exit(any(counts["defect"] for counts in table.values()))


if __name__ == "__main__":
    main()
