"""For every pytest run, and what nbval needs to be strict. What it overlooks: tests/nbval.cfg."""

import itertools
import os
import tempfile
from collections import defaultdict

import nbval.kernel
import pytest
from run_notebooks import prepare_environment

prepare_environment()

if os.name == "posix":
    # Kernels over TCP race for ports, and one that loses hangs; Unix sockets don't.
    _KernelManager = nbval.kernel.KernelManager
    _sockets = tempfile.TemporaryDirectory(prefix="nbval-")  # removed when pytest ends
    _numbers = itertools.count()

    def _over_unix_sockets(**options):
        return _KernelManager(transport="ipc", ip=os.path.join(_sockets.name, str(next(_numbers))), **options)

    nbval.kernel.KernelManager = _over_unix_sockets


def pytest_configure(config):
    config.option.nbval_sanitize_with = str(config.rootpath / "tests" / "nbval.cfg")  # from any folder


def pytest_collectstart(collector):
    if hasattr(collector, "skip_compare"):  # a notebook: every stdout, stderr, text/plain and text/html is compared
        collector.skip_compare += (
            "image/svg+xml",
            "application/javascript",
        )  # they carry dates and random ids


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """After a time-out nbval expects the other cells to fail and calls that fine: here all are red."""
    report = yield
    if getattr(item.parent, "timed_out", False) and report.when == "call" and not report.failed:
        report.outcome, report.longrepr = "failed", f"{item.name}: this cell or one above ran out of time"
        vars(report).pop("wasxfail", None)
    cell = getattr(item, "cell", None)
    if report.when == "call" and cell and cell.metadata.get("nbgrader", {}).get("grade"):
        report.user_properties.append(("task", cell.source.splitlines()[0].lstrip("# ")))
    return report


def pytest_terminal_summary(terminalreporter, config):
    """What tests have to tell; the seconds of each notebook, and its slowest cells; of a lab, which tasks hold."""
    for report in itertools.chain(*terminalreporter.stats.values()):
        for key, text in getattr(report, "user_properties", ()):
            if key == "told" and report.when == "call":
                terminalreporter.line(text)
    if not (config.option.nbval or config.option.nbval_lax):
        return
    seconds = defaultdict(lambda: defaultdict(float))  # notebook -> cell -> seconds, the kernel's start included
    tasks = defaultdict(dict)  # notebook -> task -> whether it holds
    for report in itertools.chain(*terminalreporter.stats.values()):
        if ".ipynb::" in getattr(report, "nodeid", "") and hasattr(report, "duration"):
            notebook, cell = report.nodeid.split("::")
            seconds[notebook][cell] += report.duration
            tasks[notebook] |= {task: report.passed for key, task in report.user_properties if key == "task"}
    terminalreporter.section("seconds of each notebook, and its slowest cells")
    for notebook, cells in sorted(seconds.items()):
        slowest = sorted(cells, key=cells.get, reverse=True)[:3]
        listed = ", ".join(f"{cell} {cells[cell]:.1f}" for cell in slowest)
        terminalreporter.line(f"{sum(cells.values()):6.1f}  {notebook}  ({listed})")
    for notebook, held in sorted(tasks.items()):
        if held:
            terminalreporter.section(f"{notebook}: {sum(held.values())} of {len(held)} tasks hold")
            for task, holds in held.items():
                terminalreporter.line(f"  {'holds  ' if holds else 'not yet'}  {task}")
