"""Make .venv what the course was tested with: `python3 tools/setup_venv.py`. Does nothing where it is so.

TORCH=cpu in the environment takes PyTorch's CPU wheels from PyTorch's own index (TORCH=default goes back);
without it, .venv keeps the kind it has. Standard library only, in a syntax that even Python 2.7 parses: any
Python must get as far as the sentence that says it is too old.
"""

from __future__ import print_function

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


class SetupError(Exception):
    """One sentence for the person who typed the command."""


def main():
    try:
        set_up(ROOT, os.environ)
    except SetupError as error:
        sys.exit("clbook set-up: %s" % error)
    except KeyboardInterrupt:
        sys.exit("clbook set-up: stopped; the same command starts it again.")


def set_up(root, environ):
    check_python(sys.version_info[:2], supported_pythons(root))
    before = read_stamp(root)
    torch = torch_choice(environ.get("TORCH"), before)
    wanted = stamp_of(root, torch)
    python = venv_python(root)
    if before == wanted and os.path.exists(python):
        return
    check_venv_module()
    # pip can't tell an install that was cut short from a whole one, nor CPU wheels from CUDA's.
    keep = not before.get("unfinished") and before.get("torch", "default") == torch and is_healthy(python)
    if not keep:
        check_disk(root, torch)
        print("Creating .venv with Python %d.%d. This happens once and takes a few minutes." % sys.version_info[:2])
        create_venv(root)
    write_stamp(root, {"unfinished": True})
    for arguments in pip_commands(torch):
        run_pip(python, arguments, root)
    write_stamp(root, wanted)


def supported_pythons(root):
    """((3, 11), (3, 15)): the first that works and the first that doesn't, from requires-python."""
    text = read(os.path.join(root, "pyproject.toml"))
    low, high = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', text).groups()
    return (3, int(low)), (3, int(high))


def check_python(version, bounds):
    low, high = bounds
    if not low <= version < high:
        raise SetupError(
            "the course needs Python 3.%d to 3.%d and %s is %d.%d; install one of those, then name it, for "
            "example: make lab PYTHON=python3.%d"
            % (low[1], high[1] - 1, sys.executable, version[0], version[1], high[1] - 2)
        )


def torch_choice(asked, before):
    choice = asked or before.get("torch") or "default"
    if choice not in ("cpu", "default"):
        raise SetupError("TORCH is either cpu or default, not %r." % choice)
    return choice


def stamp_of(root, torch):
    """All that an install depends on; the folder too, because .venv remembers where clbook lies."""
    pins = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        pins.update(read(os.path.join(root, name)).encode("utf-8"))
    return {
        "python": "%d.%d" % sys.version_info[:2],
        "torch": torch,
        "pins": pins.hexdigest(),
        "folder": root,
    }


def stamp_path(root):
    return os.path.join(root, ".venv", "clbook-setup.json")


def read_stamp(root):
    try:
        return json.loads(read(stamp_path(root)))
    except (IOError, ValueError):
        return {}


def write_stamp(root, stamp):
    with open(stamp_path(root), "w") as file:
        json.dump(stamp, file)


def venv_python(root):
    return os.path.join(root, ".venv", *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))


def is_healthy(python):
    """Whether the interpreter in .venv starts, is of our version and has pip."""
    code = "import sys, pip; sys.exit(sys.version_info[:2] != %r)" % (tuple(sys.version_info[:2]),)
    try:
        return subprocess.call([python, "-c", code], stderr=subprocess.DEVNULL) == 0
    except OSError:  # none there, or one of another kind of machine
        return False


def check_venv_module():
    try:
        import ensurepip  # noqa: F401  Debian's Python comes without it, and its venv then can't work
        import venv  # noqa: F401
    except ImportError as error:
        missing = error.name
    else:
        return
    raise SetupError(
        "this Python has no %s module, which .venv is made with; on Debian and Ubuntu "
        "`apt install python3-venv` brings it." % missing
    )


def check_disk(root, torch):
    # Only Linux's default wheel carries CUDA.
    need = 8 if torch == "default" and sys.platform.startswith("linux") else 3
    free = shutil.disk_usage(root).free / 1e9
    if free < need:
        smaller = " or take the CPU wheels, which need 3 GB: make lab TORCH=cpu" if need == 8 else ""
        raise SetupError(
            "the disk is too full: about %d GB are needed in %s and %.1f GB are free; make room%s."
            % (need, root, free, smaller)
        )


def create_venv(root):
    # The base interpreter, not sys.executable: that may be the one in .venv, which is about to be cleared.
    python = getattr(sys, "_base_executable", None) or sys.executable
    if subprocess.call([python, "-m", "venv", "--clear", os.path.join(root, ".venv")]) != 0:
        raise SetupError("Python could not create .venv (its own words are above).")


def pip_commands(torch):
    pinned = ["install", "--disable-pip-version-check", "-c", "constraints.txt"]
    if torch == "cpu":  # without dependencies: that index doesn't have all of the tested versions of them
        yield pinned + ["--no-deps", "--index-url", CPU_INDEX, "torch", "torchvision"]
    yield pinned + ["-e", ".[test]"]


def run_pip(python, arguments, root):
    # stdout stays pip's own, with its progress bar; stderr is passed on and read for what went wrong.
    process = subprocess.Popen([python, "-m", "pip"] + arguments, cwd=root, stderr=subprocess.PIPE)
    said = ""
    for line in io.TextIOWrapper(process.stderr, errors="replace"):
        sys.stderr.write(line)
        said += line
    if process.wait() != 0:
        if "No space left on device" in said:
            raise SetupError(
                "the disk ran full while installing; make room (pip also unpacks in TMPDIR), then try again."
            )
        raise SetupError("pip could not install the packages (its own words are above); is the network there?")


def read(path):
    with io.open(path, encoding="utf-8") as file:
        return file.read()


if __name__ == "__main__":
    main()
