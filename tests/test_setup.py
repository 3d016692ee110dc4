"""From a fresh clone to a running course: set-up, pins, floors, Makefile. Nothing here downloads anything."""

import ast
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
import setup_venv
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setup_venv import SetupError, set_up

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ON_POSIX = pytest.mark.skipif(os.name != "posix", reason="there is no make on Windows: see README")


# --- tools/setup_venv.py ----------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with pins, and a machine on which venv and pip only write down that they were called."""
    root = tmp_path / "a folder"
    root.mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    calls = []

    def create_venv(where):
        calls.append("venv")
        shutil.rmtree(root / ".venv", ignore_errors=True)
        python = Path(setup_venv.venv_python(where))
        python.parent.mkdir(parents=True)
        python.touch()

    monkeypatch.setattr(setup_venv, "create_venv", create_venv)
    monkeypatch.setattr(setup_venv, "is_healthy", os.path.exists)
    monkeypatch.setattr(setup_venv, "run_pip", lambda python, arguments, where: calls.append(arguments))
    monkeypatch.setattr(setup_venv.shutil, "disk_usage", lambda path: SimpleNamespace(free=9e9))
    monkeypatch.setattr(setup_venv.sys, "platform", "linux")
    return SimpleNamespace(root=str(root), calls=calls)


def test_an_interpreter_that_cannot_start_is_not_healthy(tmp_path):
    (tmp_path / "python").write_bytes(b"\x7fELF of another machine")
    (tmp_path / "python").chmod(0o755)
    assert not setup_venv.is_healthy(str(tmp_path / "python")) and not setup_venv.is_healthy(str(tmp_path / "none"))


INSTALL = ["install", "--disable-pip-version-check", "-c", "constraints.txt", "-e", ".[test]"]


def test_a_fresh_clone_gets_a_venv_and_the_pins(checkout):
    set_up(checkout.root, {})
    assert checkout.calls == ["venv", INSTALL]


def test_nothing_happens_while_nothing_changed(checkout):
    set_up(checkout.root, {})
    checkout.calls.clear()
    set_up(checkout.root, {})
    assert checkout.calls == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_pins_are_installed_into_the_venv_there_is(checkout, name):
    set_up(checkout.root, {})
    checkout.calls.clear()
    with open(os.path.join(checkout.root, name), "a") as file:
        file.write("# a new pin\n")
    set_up(checkout.root, {})
    assert checkout.calls == [INSTALL]


def test_a_moved_folder_is_installed_again(checkout, tmp_path):
    set_up(checkout.root, {})
    checkout.calls.clear()
    moved = shutil.move(checkout.root, tmp_path / "moved")
    set_up(str(moved), {})
    assert checkout.calls == [INSTALL]


def test_an_install_cut_short_starts_afresh(checkout, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(setup_venv, "run_pip", stop)
        with pytest.raises(KeyboardInterrupt):
            set_up(checkout.root, {})
    checkout.calls.clear()
    set_up(checkout.root, {})
    assert checkout.calls == ["venv", INSTALL]


def test_a_venv_without_its_interpreter_is_made_again(checkout):
    set_up(checkout.root, {})
    checkout.calls.clear()
    os.remove(setup_venv.venv_python(checkout.root))
    set_up(checkout.root, {})
    assert checkout.calls == ["venv", INSTALL]


def test_cpu_wheels_come_from_their_own_index_and_stay_until_told_otherwise(checkout):
    set_up(checkout.root, {"TORCH": "cpu"})
    venv, torch, rest = checkout.calls
    assert (venv, rest) == ("venv", INSTALL)
    assert torch[-4:] == ["--index-url", setup_venv.CPU_INDEX, "torch", "torchvision"]

    checkout.calls.clear()
    set_up(checkout.root, {"TORCH": ""})
    assert checkout.calls == []
    set_up(checkout.root, {"TORCH": "default"})
    assert checkout.calls == ["venv", INSTALL]
    with pytest.raises(SetupError, match="TORCH is either cpu or default, not 'gpu'"):
        set_up(checkout.root, {"TORCH": "gpu"})


def test_an_old_or_too_new_python_is_told_so():
    bounds = setup_venv.supported_pythons(str(ROOT))
    assert bounds == ((3, 11), (3, 15))
    for version in (3, 11), (3, 14):
        setup_venv.check_python(version, bounds)
    for version in (2, 7), (3, 10), (3, 15), (4, 0):
        with pytest.raises(SetupError, match=rf"needs Python 3.11 to 3.14 and .* is {version[0]}.{version[1]}; "):
            setup_venv.check_python(version, bounds)


def test_the_script_can_be_parsed_by_the_pythons_it_turns_away():
    source = (ROOT / "tools" / "setup_venv.py").read_text(encoding="ascii")
    tree = ast.parse(source, feature_version=(3, 4))
    newer_than_2_7 = (
        ast.JoinedStr,
        ast.AnnAssign,
        ast.NamedExpr,
        ast.Nonlocal,
        ast.AsyncFunctionDef,
    )
    assert not [node for node in ast.walk(tree) if isinstance(node, newer_than_2_7)]
    for node in ast.walk(tree):
        assert not (isinstance(node, ast.Raise) and node.cause)
        assert not (isinstance(node, ast.FunctionDef) and (node.returns or node.args.kwonlyargs))


def test_a_python_without_venv_is_told_so(checkout, monkeypatch):
    monkeypatch.setitem(sys.modules, "ensurepip", None)  # makes the import fail, as on Debian
    with pytest.raises(SetupError, match=r"no ensurepip module.*apt install python3-venv"):
        set_up(checkout.root, {})
    assert checkout.calls == []


def test_too_small_a_disk_is_told_before_the_download(checkout, monkeypatch):
    monkeypatch.setattr(setup_venv.shutil, "disk_usage", lambda path: SimpleNamespace(free=4.2e9))
    with pytest.raises(SetupError, match=r"about 8 GB are needed in .* and 4.2 GB are free.* TORCH=cpu"):
        set_up(checkout.root, {})
    assert checkout.calls == []
    set_up(checkout.root, {"TORCH": "cpu"})
    assert checkout.calls[0] == "venv"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk ran full"),
        ("no such host", "could not install"),
    ],
)
def test_a_failing_pip_ends_in_a_sentence(said, words, tmp_path, capfd):
    (tmp_path / "pip.py").write_text(f"import sys; print({said!r}, file=sys.stderr); sys.exit(2)")
    with pytest.raises(SetupError, match=words):
        setup_venv.run_pip(sys.executable, ["install"], str(tmp_path))
    assert said in capfd.readouterr().err


def test_main_prints_the_sentence_and_fails(monkeypatch):
    monkeypatch.setattr(setup_venv.sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit, match=r"^clbook set-up: the course needs Python 3.11 to 3.14"):
        setup_venv.main()


# --- the pins ---------------------------------------------------------------------------------------------


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in found.items()}


def requirements(*extras):
    lines = PYPROJECT["dependencies"] + [line for extra in extras for line in PYPROJECT["optional-dependencies"][extra]]
    found = {canonicalize_name(r.name): r for r in map(Requirement, lines)}
    ours = found.pop("clbook", None)  # clbook[class] in another extra: what that one asks for
    return requirements(*ours.extras) | found if ours else found


def test_every_requirement_has_a_tested_version_within_its_range():
    tested = pins()
    for name, requirement in requirements(*PYPROJECT["optional-dependencies"]).items():
        assert requirement.specifier.contains(tested[name]), f"{name} {tested[name]} is not in {requirement}"


def test_the_pins_hold_on_every_platform():
    assert not [name for name in pins() if name.startswith(("nvidia", "cuda", "triton"))]
    assert not [version for version in pins().values() if "+" in version]


def test_conda_gets_the_same_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    with_pip = environment.pop()["pip"]
    assert with_pip[-1] == "-e ."
    assert environment[0] == f"python {PYPROJECT['requires-python']}"
    by_conda = dict(line.split("=") for line in environment[2:])
    names = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    found = {names.get(name, name): version for name, version in by_conda.items()}
    found |= dict(line.split("==") for line in with_pip[:-1])
    assert found == {name: pins()[name] for name in requirements("test")}


# --- the floors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "line", "words"),
    [
        ("utils", "", "clbook.utils"),
        ("similarity", "import clbook.losses", "clbook.similarity -> clbook.losses"),
        ("models", "import clbook.plots", "clbook.models -> clbook.plots"),
    ],
    ids=["a stray module", "an import upwards", "an import sideways"],
)
def test_a_broken_floor_fails(module, line, words, tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "clbook", tmp_path / "clbook", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("losses", "plots", module):  # whether they are written yet or not
        with open(tmp_path / "clbook" / f"{name}.py", "a") as file:
            file.write(f"\n{line if name == module else ''}\n")
    code = "from importlinter.cli import lint_imports_command as main; main()"
    done = subprocess.run([sys.executable, "-c", code, "--no-cache"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert words in done.stdout


# --- the Makefile -----------------------------------------------------------------------------------------


def make(*arguments, **options):
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, **options)


@ON_POSIX
def test_make_alone_lists_what_can_be_made():
    shown = make("SETUP=false").stdout
    assert set(re.findall(r"make (\w+)  ", shown)) == {
        "help",
        "lab",
        "labs",
        "test",
        "check",
        "notebooks",
        "bench",
        "mutants",
        "clean",
    }


@ON_POSIX
def test_a_missing_python_is_told():
    done = make("venv", "PYTHON=python3.99")
    assert done.returncode != 0
    assert "there is no python3.99 here" in done.stdout


@pytest.mark.browser
@ON_POSIX
def test_make_lab_serves_the_course_to_those_with_the_token(tmp_path):
    token = secrets.token_hex(24)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    screen = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "BROWSER": "true"}
    environment = os.environ | folders | screen | {"JUPYTER_TOKEN": token, "JUPYTER_PORT": str(port)}
    command = ["make", "lab", "SETUP=true", f"RUN='{sys.executable}'"]
    with open(tmp_path / "log", "w+") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            address = f"http://127.0.0.1:{port}"
            assert status(f"{address}/lab?token={token}", patience=60) == 200
            lesson = f"{address}/api/contents/notebooks/00_start_here.ipynb?content=0"
            assert status(f"{lesson}&token={token}") == 200
            assert status(lesson) == 403
            assert "/login" in urllib.request.urlopen(f"{address}/lab", timeout=10).url
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)
        log.seek(0)
        said = log.read()
    assert f"http://127.0.0.1:{port}/lab/tree/notebooks/00_start_here.ipynb" in said
    assert ("--allow-root" in said) == (os.geteuid() == 0)
    if sys.platform == "linux":
        assert "No screen here" in said


def status(url, patience=0.0):
    """The HTTP status of a page; for `patience` seconds a server that isn't up yet is waited for."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return urllib.request.urlopen(url, timeout=10).status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
