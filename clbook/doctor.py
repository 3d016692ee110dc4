"""Whether the course can run here: what was found, and what to do where it is wrong (`clbook doctor`).

Nothing heavy is imported before it is looked at, so that a missing PyTorch is a line of the report.
"""

import os
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

OK, NOTE, PROBLEM = "ok", "note", "problem"
CONSTRAINTS = Path(__file__).resolve().parents[1] / "constraints.txt"  # there in a checkout, not in a wheel
REPAIR = 'run `make lab`, or: pip install -c constraints.txt -e ".[test]"'
LEAST_DISK = 1  # GB: what lessons and a run folder or two write


@dataclass(frozen=True)
class Finding:
    """One line of the report. `advice` says what to do; it is empty where `level` is "ok"."""

    level: str  # "ok", "note" (the course runs all the same) or "problem" (it can't)
    what: str
    found: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<8} {self.what:<14} {self.found}"
        return f"{line}\n{'':<24}-> {self.advice}" if self.advice else line


def report() -> int:
    """Print what `examine` finds; 0 where the course can run, else 1: the command's exit code."""
    findings = examine()
    print(*findings, sep="\n")
    problems = sum(finding.level == PROBLEM for finding in findings)
    print("\nThe course can run here." if not problems else f"\n{problems} to repair before the course can run.")
    return 1 if problems else 0


def examine() -> list[Finding]:
    """Look at Python, packages, device, threads, data sets and disk. Takes as long as importing torch."""
    return [*_examine_packages(), *_examine_torch(), _examine_disk()]


def _examine_packages() -> list[Finding]:
    found = platform.python_version()
    try:
        about = metadata.metadata("clbook")
    except metadata.PackageNotFoundError:
        return [
            Finding(OK, "Python", found),
            Finding(PROBLEM, "clbook", "not installed in this Python", REPAIR),
        ]
    try:
        from packaging.requirements import Requirement
        from packaging.specifiers import SpecifierSet
    except ImportError:
        return [Finding(OK, "Python", found), Finding(PROBLEM, "packaging", "not installed", REPAIR)]

    supported = about["Requires-Python"]
    if SpecifierSet(supported).contains(found, prereleases=True):
        python = Finding(OK, "Python", found)
    else:
        python = Finding(PROBLEM, "Python", found, f"the course needs {supported}: make .venv again with one of those")
    requirements = [Requirement(line) for line in metadata.requires("clbook") or ()]
    tested = _tested_versions()
    needed = [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return [python, *(_examine_package(r.name, r.specifier, tested.get(r.name)) for r in needed)]


def _tested_versions() -> dict[str, str]:
    """Package to exact version; empty where clbook was installed without its checkout."""
    if not CONSTRAINTS.exists():
        return {}
    return dict(re.findall(r"^([\w.-]+)==(\S+)", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE))


def _examine_package(name: str, supported, tested: str | None) -> Finding:
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(PROBLEM, name, "not installed", REPAIR)
    if not supported.contains(found, prereleases=True):
        return Finding(PROBLEM, name, found, f"the course needs {supported}: {REPAIR}")
    if tested and found.split("+")[0] != tested:  # 2.14.1+cpu is 2.14.1
        return Finding(NOTE, name, found, f"the course was tested with {tested}; if something looks odd, {REPAIR}")
    return Finding(OK, name, found)


def _examine_torch() -> list[Finding]:
    what = "PyTorch"
    try:
        import torch

        what = "the course's package"
        from clbook import datasets, training
    except (ImportError, OSError) as error:  # OSError: a shared library that is missing or of the wrong kind
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return [Finding(PROBLEM, "device", f"unknown, for {what} can't be imported: {reason}", REPAIR)]
    return [_examine_device(torch, training), _examine_threads(torch), _examine_data(datasets)]


def _examine_device(torch, training) -> Finding:
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        others = torch.cuda.device_count() - 1
        more = f", and {others} more" if others else ""
        return Finding(OK, "device", f"cuda: {about.name}, {about.total_memory / 2**30:.0f} GiB{more}")
    if torch.backends.mps.is_available():
        memory = torch.mps.recommended_max_memory() / 2**30
        return Finding(OK, "device", f"mps: Apple GPU, {memory:.0f} GiB usable")
    bf16 = training.find_precision("auto", torch.device("cpu")) == "bf16"
    found = f"cpu: {platform.machine()}{_memory()}, {'bf16' if bf16 else 'no bf16'}"
    if shutil.which("nvidia-smi") and not torch.version.cuda:
        return Finding(NOTE, "device", found, "there is an NVIDIA GPU; to use it: make lab TORCH=default")
    if shutil.which("nvidia-smi"):
        return Finding(NOTE, "device", found, "there is an NVIDIA GPU that PyTorch can't use; a newer driver may help")
    return Finding(OK, "device", found)


def _examine_data(datasets) -> Finding:
    absent = [name for name, there in datasets.downloads().items() if not there]
    here = [name for name in datasets.available() if name not in absent]
    later = f"; downloaded when asked for: {', '.join(absent)}" if absent else ""
    return Finding(OK, "data sets", ", ".join(here) + later)


def _memory() -> str:
    try:
        return f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (AttributeError, ValueError):  # Windows has no sysconf
        return ""


def _examine_threads(torch) -> Finding:
    threads = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = f"{threads} for PyTorch, {cores} cores"
    if threads == 1 < cores:
        return Finding(NOTE, "threads", found, "training will be slow: unset OMP_NUM_THREADS")
    return Finding(OK, "threads", found)


def _examine_disk() -> Finding:
    free = shutil.disk_usage(".").free / 1e9
    found = f"{free:.1f} GB free in this folder"
    if free < LEAST_DISK:
        return Finding(NOTE, "disk", found, f"runs write here: make room for at least {LEAST_DISK} GB")
    return Finding(OK, "disk", found)


if __name__ == "__main__":
    sys.exit(report())
