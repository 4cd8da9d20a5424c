"""Keep a database connection and a parsed model in each worker, and close them when it ends.

Tasks with equal keys go to the same worker, so each database is opened once,
however many questions are asked of it.  ``on_delete`` closes it.

Run it with ``python examples/sqlite_and_model.py``.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
from collections import Counter
from pathlib import Path

from offloop import Environment, ProcessWorkerFactory, Task, WorkerPool

CITIES = {"oslo": [-4, 2, 9], "rome": [8, 15, 27], "lima": [17, 19, 23]}
LOG = "log.txt"


def prepare(folder: Path) -> None:
    """A database for each city, and a model: what counts as warm."""
    for city, temperatures in CITIES.items():
        with sqlite3.connect(folder / f"{city}.db") as database:
            database.execute("create table weather (temperature)")
            database.executemany("insert into weather values (?)", [(t,) for t in temperatures])
        database.close()
    (folder / "model.json").write_text(json.dumps({"warm": 15}))


def note(folder: Path, text: str) -> None:
    with open(folder / LOG, "a") as log:
        log.write(f"{text}\n")


class Question(Task[int]):
    """How often it was warm in a city."""

    def __init__(self, folder: Path, city: str) -> None:
        self.folder = folder
        self.city = city

    def run(self, environment: Environment) -> int:
        model = environment.get_or_set("model", self.load_model)
        database = environment.get_or_set(
            self.city, self.connect, ttl=300, sliding=True, on_delete=self.disconnect
        )
        query = "select count(*) from weather where temperature >= ?"
        (count,) = database.execute(query, (model["warm"],)).fetchone()
        return int(count)

    def load_model(self) -> dict[str, int]:
        note(self.folder, "model parsed")
        model: dict[str, int] = json.loads((self.folder / "model.json").read_text())
        return model

    def connect(self) -> sqlite3.Connection:
        note(self.folder, "opened")
        return sqlite3.connect(self.folder / f"{self.city}.db")

    def disconnect(self, database: sqlite3.Connection) -> None:
        database.close()
        note(self.folder, "closed")


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        async with WorkerPool(2, factory=ProcessWorkerFactory(preload=["sqlite3"])) as pool:
            asked = [city for _ in range(10) for city in CITIES]
            answers = await asyncio.gather(*(pool.enqueue(Question(folder, c), key=c) for c in asked))
        for city, answer in zip(CITIES, answers, strict=False):
            print(f"{city}: {answer} warm")
        happened = Counter((folder / LOG).read_text().splitlines())
    print(f"{len(answers)} questions, {happened['opened']} connections, all closed: ", end="")
    print(happened["opened"] == happened["closed"])
    print("at most one model a worker:", happened["model parsed"] <= 2)


asyncio.run(main())
