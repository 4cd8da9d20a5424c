"""One question to one library: ``python -m benchmarks.comparison.cell LIBRARY QUESTION FOLDER``.

Leaves ``yes``, ``no``, or a short text in a file of the folder (what it would print may be
held open by workers); the reason of a no goes to stderr.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

from benchmarks.comparison import questions
from benchmarks.comparison.library import NotOffered

#: The file of the folder in which the answer is.
ANSWER = "answer"


def main(name: str, question: str, folder: str) -> None:
    try:
        found = getattr(questions, question)(name, Path(folder))
    except NotOffered:
        found = False
    except Exception as error:
        print(f"{name}: {question}: {type(error).__name__}: {error}", file=sys.stderr)
        found = False
    (Path(folder) / ANSWER).write_text(found if isinstance(found, str) else "yes" if found else "no")


if __name__ == "__main__":  # workers of some import their parent's main module
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
    sys.stderr.flush()
    os._exit(0)  # what still runs is no longer of interest
