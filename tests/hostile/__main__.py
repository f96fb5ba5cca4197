"""Runs attacks and ends with "N cases: N held"; exit code 1 if one did not hold.

python -m tests.hostile --cases 10000            # all kinds in turn
python -m tests.hostile --kind proof --case 17   # one case again
"""

import argparse
import sys
import time
from collections.abc import Callable

from tests.hostile import bundles, checkpoints, messages, recordings
from tests.hostile.harness import Kind, Verdict, run_case

KINDS = {
    kind.name: kind
    for kind in (
        Kind("bundle", bundles.make_bundle, bundles.read),
        Kind("proof", bundles.make_proof, bundles.read),
        Kind("recording", recordings.make, recordings.read),
        Kind("checkpoint", checkpoints.make, checkpoints.read),
        Kind("message", messages.make, messages.read),
        Kind("engine", bundles.make_engine_case, bundles.read_and_open),
    )
}
ENGINE_EVERY = 60  # a case with an engine takes seconds, the others milliseconds


def kind_of(number: int) -> Kind:
    """The kinds in turn; now and then a case with an engine."""
    if number % ENGINE_EVERY == ENGINE_EVERY - 1:
        return KINDS["engine"]
    return list(KINDS.values())[number % (len(KINDS) - 1)]


def run(numbers: range, seed: int, kind: str = "", tell: Callable[[Verdict], None] = lambda verdict: None) -> int:
    """Run the cases; return how many held."""
    # Made before the first fork, so that every case starts from the same.
    bundles.whole(), recordings.whole(), checkpoints.whole(True), checkpoints.whole(False), messages.whole()
    held = 0
    try:
        for number in numbers:
            verdict = run_case(KINDS[kind] if kind else kind_of(number), seed, number)
            held += not verdict.fault
            tell(verdict)
    finally:
        bundles.forget()
        recordings.forget()
    return held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=list(KINDS), default="")
    parser.add_argument("--case", type=int, help="only the case of this number")
    options = parser.parse_args()
    numbers = range(options.cases) if options.case is None else range(options.case, options.case + 1)
    begun = time.monotonic()

    def tell(verdict: Verdict) -> None:
        if verdict.fault or options.case is not None:
            print(verdict, flush=True)
        elif verdict.number % 1000 == 999:
            print(f"{verdict.number + 1} cases, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)

    held = run(numbers, options.seed, options.kind, tell)
    print(f"{len(numbers)} cases: {held} held")
    return 0 if held == len(numbers) else 1


if __name__ == "__main__":
    sys.exit(main())
