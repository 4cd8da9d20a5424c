"""What a report shows, made of a trace's events: columns of numbers, and tables of texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from offloop.observe.reading import Event, TraceError

#: With more lanes than these, workers that did not live at the same time share one.
MOST_LANES = 32
#: Kinds of events of workers.
STARTING = "starting"
ENDS = ("crashed", "killed", "exited", "not started")


class Texts:
    """A table of texts, each kept once."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._at: dict[str, int] = {}

    def index(self, text: Any) -> int:
        """Where a text stands; -1 for None."""
        if text is None:
            return -1
        text = str(text)
        at = self._at.get(text)
        if at is None:
            at = self._at[text] = len(self.all)
            self.all.append(text)
        return at


class Timeline:
    """Sorts a trace's events for the page.

    All times are microseconds since the trace's begin.

    Attributes:
        lanes: of each lane its name; what it is made of is in ``workers``.
        tasks: rows of tasks that ran, by start: lane, start, duration, wait, name, outcome, id,
            worker, sent, received, text, error, attempt.
        unrun: the same of those that never ran, whose start is their end and whose duration is 0.
        workers: rows of what became of workers: kind, lane, at, duration, worker, text.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self.texts = Texts()
        self.tasks: list[list[Any]] = []
        self.unrun: list[list[Any]] = []
        self.workers: list[list[Any]] = []
        self.header: dict[str, Any] = {}
        self.footer: dict[str, Any] = {}
        self._lanes: dict[Any, dict[str, Any]] = {}
        self._spans: dict[Any, tuple[float, float]] = {}
        events = list(events)
        self._origin = self._find_origin(events)
        for event in events:
            self._take(event)
        self.tasks.sort(key=lambda row: row[1])
        self.lanes = self._lay_out()

    def _find_origin(self, events: list[Event]) -> float:
        for event in events:
            if event.get("name") == "trace begins":
                return float(event["ts"])
        times = [event["ts"] for event in events if event["ph"] in "Xi" and "ts" in event]
        if not times:
            raise TraceError("nothing was recorded in this trace")
        return float(min(times))

    def _take(self, event: Event) -> None:
        args: dict[str, Any] = event.get("args") or {}
        name = event.get("name")
        if event["ph"] == "M":
            if name == "thread_name":
                self._lanes[event.get("tid")] = args
        elif event["ph"] not in "Xi":
            return
        elif event.get("cat") == "task":
            self._take_task(event, args)
        elif name == "trace begins":
            self.header = args
        elif name == "trace ends":
            self.footer = {**args, "at": self._at(event)}
        elif name == STARTING or name in ENDS:
            self._take_worker(event, args)

    def _at(self, event: Event) -> float:
        return round(float(event["ts"]) - self._origin, 2)

    def _take_task(self, event: Event, args: dict[str, Any]) -> None:
        at, lane, took = self._at(event), event.get("tid"), event.get("dur", 0)
        queued = args.get("queued")
        wait = None if queued is None else round(max(0.0, event["ts"] - queued), 2)
        index = self.texts.index
        row = [
            lane, at, took, wait, index(event.get("name")), index(args.get("outcome", "succeeded")),
            args.get("id"), None, args.get("sent"), args.get("received"), index(args.get("task")),
            index(args.get("error")), args.get("attempt", 1),
        ]  # fmt: skip
        if event["ph"] == "X":
            self.tasks.append(row)
            self._stretch(lane, at, at + took)
        else:
            self.unrun.append(row)

    def _take_worker(self, event: Event, args: dict[str, Any]) -> None:
        at, lane, took = self._at(event), event.get("tid"), event.get("dur", 0)
        kind = event["name"]
        if kind == STARTING and args.get("restart"):
            kind = "restarted"
        known = ((name, args.get(name)) for name in ("pid", "code", "out_of_memory", "problem"))
        text = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in known if value is not None)
        self.workers.append([kind, lane, at, took, args.get("worker"), text])
        self._stretch(lane, at, at + took)

    def _stretch(self, lane: Any, start: float, end: float) -> None:
        first, last = self._spans.get(lane, (start, end))
        self._spans[lane] = min(first, start), max(last, end)

    def _lay_out(self) -> list[str]:
        """Number the lanes as they stand below each other, put that into the rows; returns their names."""
        order = sorted(self._spans, key=self._order)
        place = {lane: at for at, lane in enumerate(order)}
        if len(order) > MOST_LANES:
            place = self._packed()
        names: list[list[Any]] = [[] for _ in range(max(place.values(), default=-1) + 1)]
        for lane in order:
            names[place[lane]].append(self._lanes.get(lane, {}).get("name", f"lane {lane}"))
        for row in self.tasks:
            row[7] = self._lanes.get(row[0], {}).get("worker")
            row[0] = place[row[0]]
        for row in self.workers:
            row[1] = place[row[1]]
        return [_joined(texts) for texts in names]

    def _order(self, lane: Any) -> tuple[float, float]:
        known = self._lanes.get(lane, {})
        return known.get("worker") or 0, known.get("slot") or 0

    def _packed(self) -> dict[Any, int]:
        """Lanes that share a place because one ends before the other begins."""
        ends: list[float] = []
        place: dict[Any, int] = {}
        for lane, (start, end) in sorted(self._spans.items(), key=lambda entry: entry[1]):
            free = next((at for at, until in enumerate(ends) if until <= start), len(ends))
            if free == len(ends):
                ends.append(end)
            ends[free] = end
            place[lane] = free
        return place

    def to_dict(self) -> dict[str, Any]:
        """For the page, as JSON."""
        return {
            "header": self.header,
            "footer": self.footer,
            "texts": self.texts.all,
            "lanes": self.lanes,
            "tasks": [list(column) for column in zip(*self.tasks, strict=True)] or [[] for _ in range(13)],
            "unrun": self.unrun,
            "workers": self.workers,
        }


def _joined(names: list[str]) -> str:
    """One name for a lane that several workers share, such as ``workers 1 … 9``."""
    if len(names) == 1:
        return names[0]
    numbers = [name.removeprefix("worker ") for name in names]
    return f"workers {', '.join(numbers)}" if len(names) <= 3 else f"workers {numbers[0]} … {numbers[-1]}"
