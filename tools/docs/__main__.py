"""Build the documentation site of a folder: `python -m tools.docs`, in the repository's root."""

import sys
from pathlib import Path

from tools.docs.build import build

root = Path.cwd()
if problems := build(root):
    sys.exit("\n".join(problems))
print(root / "site" / "index.html")
