"""What the comparisons share: taking turns, peaks of memory, peers that may be absent, and RESULTS.md."""

import importlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib import metadata
from pathlib import Path

import torch

from clbook.training import find_precision

VERSIONS = ("torch", "torchvision", "scikit-learn", "lightly", "kornia", "pytorch-metric-learning")


def peer(name: str):
    """The module of that name, or None where the `bench` extra isn't installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def by_turns(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call: A B C, A B C, ... so that a machine that slows down slows all of them.

    The first round warms up and isn't counted.
    """
    seconds = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, call in contenders.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return {name: taken[1:] for name, taken in seconds.items()}


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float | None:
    """How many times as long `slow` takes: the median over the rounds. None if one of them was absent."""
    if slow not in seconds or fast not in seconds:
        return None
    return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))


def per_second(what: str, taken: list[float], count: int, unit: str) -> dict[str, str]:
    """A row: a speed, with that of its slowest and its fastest round."""
    slowest, median, fastest = (count / s for s in (max(taken), statistics.median(taken), min(taken)))
    return {"what": what, "measured": f"{median:,.0f} {unit} ({slowest:,.0f} to {fastest:,.0f})"}


def time_row(what: str, taken: list[float]) -> dict[str, str]:
    """A row: milliseconds, with those of the fastest and the slowest round."""
    fastest, median, slowest = (1000 * s for s in (min(taken), statistics.median(taken), max(taken)))
    return {"what": what, "measured": f"{median:,.2f} ms ({fastest:,.2f} to {slowest:,.2f})"}


def claim(what: str, value: float | None, aim: float, unit: str = "×", *, at_most: bool = False) -> dict[str, str]:
    """A row that holds a figure against its aim."""
    row = {"what": what, "aim": f"{'≤' if at_most else '≥'} {aim:g} {unit}".rstrip()}
    if value is None:
        return row | {"measured": "not measured: a peer is not installed", "met": "?"}
    met = value <= aim if at_most else value >= aim
    return row | {"measured": f"{value:.3g} {unit}".rstrip(), "met": "yes" if met else "no"}


def absent(name: str) -> dict[str, str]:
    return {"what": name, "measured": "not installed: pip install -c constraints.txt -e '.[bench]'"}


def peak_memory() -> float:
    """GiB that this process has held at most.

    Linux's VmHWM is its own; `ru_maxrss`, which other systems have, would start at its parent's there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def in_a_process(script: str, *arguments: str) -> dict:
    """What `script` prints on its last line, as JSON, run in a process of its own, for its memory's sake."""
    done = subprocess.run([sys.executable, script, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"failed": f"ended with {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def machine(threads: int) -> str:
    """Processor, memory, system and versions, in a line."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    name = found[1] if found else platform.processor() or platform.machine()
    bf16 = "with" if find_precision("auto", torch.device("cpu")) == "bf16" else "no"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    return (f"{name}, {os.cpu_count()} cores ({bf16} bf16 instructions), {memory:.0f} GiB, {platform.system()} "
            f"{platform.release()}; {threads} threads; Python {platform.python_version()}, {', '.join(_versions())}; "
            f"{date.today().isoformat()}")  # fmt: skip


def _versions() -> list[str]:
    found = []
    for name in VERSIONS:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return found


def table(rows: list[dict[str, str]]) -> str:
    lines = ["| what | measured | aim | met |", "|---|---|---|---|"]
    columns = ("what", "measured", "aim", "met")
    return "\n".join(lines + ["| " + " | ".join(row.get(c, "") for c in columns) + " |" for row in rows])


def write(path: Path, sections: dict[str, str], about: str) -> None:
    """Put each section (name -> text) into the file in the place of its older self; the others stay."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = dict(re.findall(r"^## (\w+)\n\n(.*?)\s*(?=^## |\Z)", old, re.MULTILINE | re.DOTALL)) | sections
    text = about + "".join(f"\n## {name}\n\n{part}\n" for name, part in parts.items())
    path.write_text(text, encoding="utf-8")
