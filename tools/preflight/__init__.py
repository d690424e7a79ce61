"""Asks the account, before anything is made, for what a deployment and a first run need.

`make deploy` runs `python -m tools.preflight` in the tools environment, where the layer is not
installed: its pure modules (droplens.domain) are found by the path added here.
"""

import sys
from pathlib import Path

_LAYER = str(Path(__file__).resolve().parents[2] / "layers" / "droplens")
if _LAYER not in sys.path:
    sys.path.append(_LAYER)
