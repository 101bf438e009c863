"""How long a user waits for `pipeline.py --help` and `pipeline.py compile`, against their limits.

    python benchmarks/startup.py [--rounds 3]

Each is a process of its own; the shortest of the rounds counts, beside a Python that does nothing and, for compile, one
that only imports kfp. Exits with 1 when a limit is missed.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PIPELINE = Path(__file__).resolve().parents[1] / "pipeline.py"
HELP_LIMIT, COMPILE_LIMIT = 0.5, 4.0  # seconds


def shortest(rounds: int, *arguments: str | Path) -> float:
    """Seconds of the quickest of some runs of Python with these arguments."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        measured = {
            "--help": (shortest(rounds, PIPELINE, "--help"), HELP_LIMIT),
            "compile": (shortest(rounds, PIPELINE, "compile", "-o", Path(folder, "pipeline.yaml")), COMPILE_LIMIT),
        }
    print(f"{'python -c pass':<20} {shortest(rounds, '-c', 'pass'):6.2f} s")
    print(f"{'import kfp':<20} {shortest(rounds, '-c', 'from kfp import compiler, dsl'):6.2f} s")
    for command, (seconds, limit) in measured.items():
        verdict = "ok" if seconds < limit else "TOO SLOW"
        print(f"{'pipeline.py ' + command:<20} {seconds:6.2f} s, limit {limit} s: {verdict}")
    return int(any(seconds >= limit for seconds, limit in measured.values()))


if __name__ == "__main__":
    sys.exit(main())
