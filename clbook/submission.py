"""Run one submitted notebook in a process of its own: a temporary folder, limits, no network where that can be.

`run_apart` is the caller's side. The other is this module as a program, `python -m clbook.submission`: it runs the
notebook cell by cell, and in a new kernel where a cell ended or hung the old one.
"""

import contextlib
import hmac
import json
import os
import re
import secrets
import shutil
import signal
import site
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat

from clbook.files import write_whole

MAX_OUTPUT = 200_000  # characters of a cell that are kept; the rest of a flood is dropped
MAX_MESSAGE = 20_000  # characters of an error that are told
MAX_LOST = 3  # cells that may cost a submission its kernel before the rest is not run
OK = {"status": "ok", "message": ""}
CHANGED = {
    "status": "checks changed",
    "message": "The checks were changed while the notebook ran, so what this one says does not count.",
}
GUARD = "__import__('clbook.checks.guard').checks.guard.fingerprint({})"
STARTUP_SECONDS = 120  # for a kernel, and for importing torch, which is no fault of the learner's


@dataclass(frozen=True)
class Limits:
    """What one submission may use."""

    cell_seconds: float = 60
    memory_gb: float = 4  # of each of its processes; held on Linux only
    total_seconds: float = 900

    def __post_init__(self):
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name}: expected a number > 0, got {value}")


def run_apart(notebook, limits: Limits) -> dict:
    """Run the notebook in another process, in a temporary folder, without network where the system can do that.

    Gives `cells` (status and message by cell id), `remarks`, and `seed`.
    """
    # What a killed kernel still holds, or still writes, must not cost the result.
    with tempfile.TemporaryDirectory(prefix="grading-", ignore_cleanup_errors=True) as temporary:
        room = Path(temporary)
        (room / "home").mkdir()
        nbformat.write(notebook, room / "lab.ipynb")
        _copy_font_list(room)
        options = [str(room), str(limits.cell_seconds), str(limits.memory_gb)]
        process = subprocess.Popen(
            [*without_network(), sys.executable, "-m", "clbook.submission", *options],
            cwd=room / "home",
            env=_environment(room),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _under_way.add(process)
        remark, secret = "", secrets.token_bytes(32)
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(secret)
            if process.wait(limits.total_seconds) != 0:
                remark = f"the process that ran it ended with exit status {process.returncode}"
        except subprocess.TimeoutExpired:
            remark = f"was stopped after {limits.total_seconds:g} s in all"
        finally:
            _stop(process)
            _under_way.discard(process)
        return _read_result(room / "result.json", secret, remark)


_under_way: set[subprocess.Popen] = set()


def stop() -> None:
    """End every submission that is being run, whichever thread waits for it."""
    for process in list(_under_way):
        _stop(process)


def _read_result(path: Path, secret: bytes, remark: str) -> dict:
    """What the other process had written when it ended. A learner's code can write there too, but has no seal."""
    result = {"cells": {}, "remarks": [remark] if remark else [], "seed": ""}
    try:
        # A pipe would be waited for, a link could lead anywhere.
        found_at = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
        with open(found_at, encoding="utf-8") as file:
            if not stat.S_ISREG(os.fstat(found_at).st_mode):
                raise ValueError
            sealed = json.loads(file.read(50_000_000))
        if not hmac.compare_digest(sealed["seal"], _seal(sealed["result"], secret)):
            raise ValueError
        found = json.loads(sealed["result"])
        for name, cell in found["cells"].items():
            result["cells"][name] = {"status": str(cell["status"])[:80], "message": str(cell["message"])[:MAX_MESSAGE]}
        result["remarks"] += [str(text)[:300] for text in found["remarks"]]
        result["seed"] = str(found["seed"])[:20]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        result["remarks"].append("left no result that can be read")
    return result


def _seal(text: str, secret: bytes) -> str:
    return hmac.new(secret, text.encode(), "sha256").hexdigest()


def without_network() -> list[str]:
    """The beginning of a command that runs the rest without network, and ends all of it together; [] where this
    system has no such thing."""
    if sys.platform != "linux" or not shutil.which("unshare"):
        return []
    command = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    tried = subprocess.run([*command, "true"], capture_output=True)
    return command if tried.returncode == 0 else []


def _environment(room: Path) -> dict[str, str]:
    """Little of ours: no tokens, no keys, another home."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
    home = dict.fromkeys(("HOME", "TMPDIR", "IPYTHONDIR", "USERPROFILE", "APPDATA", "TEMP", "TMP"), str(room / "home"))
    packages = os.environ.get("PYTHONPATH", "")  # of parts that may hang on the folder that we are in
    ours = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, packages.split(os.pathsep)))} if packages else {}
    ours |= {"PYTHONUSERBASE": site.getuserbase(), "MPLCONFIGDIR": str(room / "matplotlib")}
    return kept | home | ours | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


def _copy_font_list(room: Path) -> None:
    """Otherwise matplotlib looks through all fonts again for each submission."""
    import matplotlib

    shutil.copytree(matplotlib.get_cachedir(), room / "matplotlib", ignore=lambda _, names: [
        name for name in names if not name.startswith("fontlist")])  # fmt: skip


def _stop(process: subprocess.Popen) -> None:
    """End the process, and with it its kernel: gently, so that it can, then not."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    with contextlib.suppress(ProcessLookupError, PermissionError, AttributeError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


# --- that process ---


def main(arguments: list[str]) -> None:
    """Run ROOM/lab.ipynb cell by cell and keep ROOM/result.json up to date, sealed with the secret on stdin."""
    room, cell_seconds, memory_gb = Path(arguments[0]), float(arguments[1]), float(arguments[2])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exception: the kernel is shut down on the way
    _limit_memory(memory_gb)
    notebook = nbformat.read(room / "lab.ipynb", as_version=4)
    code = _guarded(notebook.cells)
    result = {"cells": {}, "remarks": [], "seed": ""}
    lost: set[str] = set()
    secret = sys.stdin.buffer.read()

    def keep() -> None:
        text = json.dumps(result)
        write_whole(room / "result.json", json.dumps({"result": text, "seal": _seal(text, secret)}).encode())

    while True:
        ended_at = _run_once(room, notebook, code, lost, cell_seconds, result, keep)
        if ended_at is None:
            break
        lost.add(ended_at)
        if len(lost) > MAX_LOST:
            result["remarks"].append(f"{len(lost)} cells ended or hung the kernel; the rest was not run")
            break
    result["remarks"] = list(dict.fromkeys(result["remarks"]))  # each run that a kernel's end began anew tells the same
    keep()


def _guarded(cells: list) -> list:
    """The code cells, and after each check one that shows whether the checks are still the course's."""
    code = [nbformat.v4.new_code_cell(GUARD.format(""), id="guard")]
    for cell in cells:
        code.append(cell)
        if cell.id.endswith("-check"):
            code.append(nbformat.v4.new_code_cell(GUARD.format("checks, seed"), id=f"{cell.id}-guard"))
    return code


def _run_once(room: Path, notebook, code: list, lost: set, cell_seconds: float, result: dict,
              keep: Callable[[], None]) -> str | None:  # fmt: skip
    """Run all cells but the lost ones in a new kernel; the id of the cell that ended or hung it, or None."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    result["seed"] = ""
    notebook.cells = [cell for cell in code if cell.id not in lost]
    untouched = None
    with _kernel(notebook, room, cell_seconds) as client:
        for index, cell in enumerate(notebook.cells):
            try:
                client.execute_cell(cell, index)
            except CellTimeoutError:
                return _lose(cell, "too slow", f"The cell ran longer than {cell_seconds:g} s.", result)
            except DeadKernelError:
                return _lose(
                    cell, "crashed", "The cell ended its process: a crash, an exit, or too much memory.", result
                )
            shown = _shown(cell)
            if cell.id == "guard":
                untouched = shown
            elif cell.id.endswith("-guard"):
                _note_guard(cell.id.removesuffix("-guard"), shown, untouched, result)
            else:
                found = _outcome(cell)
                # Its guard, which a learner's code can keep from running, has yet to say that all is as it was.
                result["cells"][cell.id] = CHANGED if found == OK and cell.id.endswith("-check") else found
            keep()
    return None


@contextlib.contextmanager
def _kernel(notebook, room: Path, cell_seconds: float) -> Iterator:
    from nbclient import NotebookClient

    class Client(NotebookClient):
        """Keeps the first part of what a cell shows: an endless print must not fill this process."""

        def process_message(self, msg, cell, cell_index):
            shows = msg["msg_type"] in ("stream", "display_data", "update_display_data")
            size = sum(len(str(output)) for output in cell.outputs) if shows else 0
            return None if size > MAX_OUTPUT else super().process_message(msg, cell, cell_index)

    with tempfile.TemporaryDirectory(dir=room) as sockets:
        client = Client(
            notebook,
            timeout_func=lambda cell: cell_seconds + STARTUP_SECONDS * (cell.id in ("guard", "setup")),
            startup_timeout=STARTUP_SECONDS,
            allow_errors=True,
            kernel_name="python3",
            store_widget_state=False,
            resources={"metadata": {"path": str(room / "home")}},
            shutdown_kernel="immediate",  # it may hang: no farewell
        )
        if os.name == "posix":  # there is no loopback without a network, and kernels over TCP race for ports
            client.config.KernelManager.update(transport="ipc", ip=os.path.join(sockets, "k"))
        with client.setup_kernel(stdin=subprocess.DEVNULL):
            yield client


def _lose(cell, status: str, message: str, result: dict) -> str:
    result["cells"][cell.id] = {"status": status, "message": message}
    result["remarks"].append(f"cell {cell.id} {'hung' if status == 'too slow' else 'ended'} the kernel: {message}")
    return cell.id


def _outcome(cell) -> dict[str, str]:
    for output in cell.outputs:
        if output.output_type == "error":
            kind = "" if output.ename == "CheckFailed" else f"{output.ename}: "
            where = "" if cell.id.endswith("-check") else _where(output)  # of a check it could be a hidden test's
            return {"status": "error", "message": (kind + output.evalue)[:MAX_MESSAGE] + where}
    return OK


def _where(output) -> str:
    """The line of the cell that the error came from."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback))
    lines = re.findall(r"^-+> ?(\d+) (.*)$", text, re.MULTILINE)
    return f" (line {lines[0][0]}: {lines[0][1].strip()})" if lines else ""


def _shown(cell) -> str:
    return "".join(
        output.data.get("text/plain", "") for output in cell.outputs if output.output_type == "execute_result"
    )


def _note_guard(name: str, shown: str, untouched: str | None, result: dict) -> None:
    """What the guard after a check showed: a mark, which should be the one before all, and the seed."""
    mark, _, seed = shown.strip("'").partition(" ")
    if seed and result["seed"] not in ("", seed):
        result["remarks"].append(f"the seed was {result['seed']} before cell {name}, then {seed}")
    result["seed"] = seed or result["seed"]
    if mark and mark == (untouched or "").strip("' "):
        if result["cells"][name] == CHANGED:
            result["cells"][name] = OK
        return
    if not mark and result["cells"][name] != CHANGED:  # the guard failed, as the check did
        return
    result["cells"][name] = CHANGED
    result["remarks"].append(f"the checks were changed before or in cell {name}")


def _limit_memory(gigabytes: float) -> None:
    """Of this process and of each that it starts; the size of a file, too."""
    if sys.platform != "linux":
        return
    import resource

    size = int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(sys.argv[1:])
