"""The commands that people type on a laptop. Whoever imports one of them finds the library in this checkout."""

import shlex
import sys
from pathlib import Path

OURS = ("sightline", "laptop", "components", "custom")
"""A missing module of these is our mistake, worth its traceback."""
LIBRARY = Path(__file__).resolve().parents[1] / "shared_volume"

if str(LIBRARY) not in sys.path:
    sys.path.insert(0, str(LIBRARY))


def called() -> str:
    """How this program was called, for the commands that it proposes: they are typed in the same folder."""
    return f"python {shlex.quote(sys.argv[0]) if Path(sys.argv[0]).name == 'pipeline.py' else 'pipeline.py'}"
