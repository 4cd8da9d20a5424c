"""A program for a network namespace of its own: a machine of its Dask cluster is behind a link, which is cut.

Run by ``unshare --net``, as root.  It prints what became of the tasks, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from offloop import DaskWorkerFactory, WorkerCrashed, WorkerPool
from support.daskcluster import DaskCluster

#: Of the link's two ends, in namespaces that nobody else sees.
NEAR, FAR = "10.77.0.1", "10.77.0.2"
LOST_AFTER = 3.0
#: Says when it is in a namespace of its own, and runs a command there when it gets a line.
WAIT_WITHIN = ["unshare", "--net", "sh", "-c", 'echo; read line; exec "$@"', "sh"]


def ip(*arguments: str, inside: int | None = None) -> None:
    """Run ``ip``, in the namespace of a process if one is given."""
    where = ["nsenter", "--net", f"--target={inside}"] if inside is not None else []
    subprocess.run([*where, "ip", *arguments], check=True)


def connect(pid: int) -> None:
    """Lay the link to the namespace of a process."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "near", "type", "veth", "peer", "name", "far")
    ip("link", "set", "far", "netns", str(pid))
    ip("addr", "add", f"{NEAR}/24", "dev", "near")
    ip("link", "set", "near", "up")
    ip("link", "set", "lo", "up", inside=pid)
    ip("addr", "add", f"{FAR}/24", "dev", "far", inside=pid)
    ip("link", "set", "far", "up", inside=pid)


def work(seconds: float) -> str:
    """Take a while; returns the address of the machine."""
    time.sleep(seconds)
    return os.environ["WHERE"]


async def main(address: str) -> None:
    """Use both machines, cut one off, and go on."""
    factory = DaskWorkerFactory(address, lost_after=LOST_AFTER)
    async with WorkerPool(2, factory=factory) as pool:
        seen: set[str] = set()
        while len(seen) < 2:
            seen |= set(await asyncio.gather(*(pool.submit(work, 0.05) for _ in range(4))))
        held = [pool.submit(work, 1.0) for _ in range(2)]
        rest = [pool.submit(work, 0.01) for _ in range(50)]
        await asyncio.sleep(0.5)
        ip("link", "set", "near", "down")
        began = time.monotonic()
        outcomes = await asyncio.gather(*held, return_exceptions=True)
        noticed = time.monotonic() - began
        places = await asyncio.gather(*rest)
        lost = [str(each) for each in outcomes if isinstance(each, WorkerCrashed)]
        print(json.dumps({"noticed": noticed, "lost": lost, "places": sorted(set(places))}), flush=True)
        pool.kill()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        waiting = subprocess.Popen(
            [*WAIT_WITHIN, *DaskCluster.worker_command(Path(folder), FAR)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "WHERE": FAR},
            text=True,
        )
        assert waiting.stdin is not None
        assert waiting.stdout is not None
        waiting.stdout.readline()  # it is in its namespace
        connect(waiting.pid)
        os.environ["WHERE"] = NEAR
        cluster = DaskCluster(Path(folder), NEAR)
        try:
            cluster.add_worker()
            waiting.stdin.write("\n")
            waiting.stdin.flush()
            asyncio.run(main(cluster.wait_workers(2)))
        finally:
            waiting.kill()
            waiting.wait()
            cluster.close()
            os._exit(0)  # Dask's client would wait for the machine that is cut off
