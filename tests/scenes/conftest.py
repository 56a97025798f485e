"""The generator lies beside the package, not in it: tests import it from the checkout."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for _place in (ROOT, ROOT / "tools"):
    if str(_place) not in sys.path:
        sys.path.insert(0, str(_place))
