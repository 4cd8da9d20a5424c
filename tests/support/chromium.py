"""A real browser without a window: what a page looks like to a script in it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

#: Debian's name, and others.
NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Seconds for the browser to start, load the page and run the script.
BOUND = 90.0

_OPTIONS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1400,900"
).split()

_LISTEN = """<script>
window.failures = [];
addEventListener("error", (event) => failures.push(String(event.message)));
addEventListener("securitypolicyviolation", (event) => failures.push(event.violatedDirective));
</script>"""

_ANSWER = """<script>
(() => {{
  const answer = () => {{ {script} }};
  let value;
  try {{ value = answer(); }} catch (error) {{ failures.push(String(error)); }}
  const box = document.createElement("pre");
  box.id = "answer";
  box.textContent = JSON.stringify({{ value, failures }});
  document.body.append(box);
}})();
</script>"""


def find_chromium() -> str:
    """The browser's path; skips the test where there is none."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    pytest.skip("needs a browser: apt-get install chromium")


def ask(page: str, script: str, folder: Path) -> Any:
    """What the body of a function returns in a page, once it was loaded; no error may have happened there."""
    file = folder / "page.html"
    file.write_text(page.replace("<head>", "<head>" + _LISTEN, 1) + _ANSWER.format(script=script), "utf-8")
    command = [
        find_chromium(), *_OPTIONS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", file.as_uri()
    ]  # fmt: skip
    run = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=BOUND
    )
    found = re.search(r'<pre id="answer">(.*?)</pre>', run.stdout.decode(), re.DOTALL)
    assert found, "the page has no answer"
    answer = json.loads(html.unescape(found[1]))
    assert answer["failures"] == []
    return answer["value"]
