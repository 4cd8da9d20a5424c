"""What docs/cluster.md shows runs as it stands there; run by ``scripts/test --cluster``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_page_about_clusters_does_what_it_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "snippets.py"), "docs/cluster.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stdout + done.stderr
