import re
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch

from clbook import datasets, doctor, training
from clbook.doctor import NOTE, OK, PROBLEM, Finding

NO_GPU = {"cuda": SimpleNamespace(is_available=lambda: False),
          "backends": SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False))}  # fmt: skip


@pytest.fixture
def installed(monkeypatch):
    """Say which packages are installed and what clbook asks for; the dictionaries can still be changed."""
    versions = {"torch": "2.14.1+cpu", "tqdm": "4.70.1"}
    about = {"Requires-Python": ">=3.11"}
    requires = ["torch<3,>=2.8", "tqdm<5,>=4.66", 'pytest; extra == "test"']

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "metadata", lambda name: about)
    monkeypatch.setattr(metadata, "requires", lambda name: requires)
    monkeypatch.setattr(doctor, "_tested_versions", lambda: {"torch": "2.14.1", "tqdm": "4.70.1"})
    return SimpleNamespace(versions=versions, about=about)


def levels():
    return {finding.what: finding.level for finding in doctor.examine()}


def advice(what):
    return next(finding.advice for finding in doctor.examine() if finding.what == what)


def test_a_good_machine_has_no_problem_and_exit_code_0(installed, capsys):
    assert doctor.report() == 0
    shown = capsys.readouterr().out
    assert {"Python", "torch", "tqdm", "device", "threads", "disk", "data sets"} == levels().keys()
    assert set(levels().values()) <= {OK, NOTE}
    assert "The course can run here." in shown
    assert "shapes, digits" in shown


def test_a_version_out_of_range_is_a_problem_and_an_untested_one_a_note(installed):
    installed.versions["tqdm"] = "4.69.0"
    assert levels()["tqdm"] == NOTE
    assert "tested with 4.70.1" in advice("tqdm")
    installed.versions["tqdm"] = "5.0"
    assert levels()["tqdm"] == PROBLEM
    assert "pip install" in advice("tqdm")


def test_a_missing_package_is_a_problem_and_exit_code_1(installed, capsys):
    del installed.versions["tqdm"]
    assert doctor.report() == 1
    assert re.search(r"problem +tqdm +not installed\n +-> run `make lab`", capsys.readouterr().out)


def test_without_pytorch_the_report_is_still_written(installed, monkeypatch):
    del installed.versions["torch"]
    monkeypatch.setitem(sys.modules, "torch", None)  # makes `import torch` fail
    found = levels()
    assert (found["torch"], found["device"], found["disk"]) == (PROBLEM, PROBLEM, OK)


def test_an_import_that_fails_without_a_word_is_told(installed, monkeypatch):
    class Mute:
        def find_spec(self, name, path=None, target=None):
            if name == "clbook.training":
                raise ImportError

    import clbook

    monkeypatch.delattr(clbook, "training", raising=False)
    monkeypatch.delitem(sys.modules, "clbook.training")
    monkeypatch.setattr(sys, "meta_path", [Mute(), *sys.meta_path])
    (found,) = [finding for finding in doctor.examine() if finding.what == "device"]
    assert found.level == PROBLEM and "can't be imported: ImportError" in found.found


@pytest.mark.parametrize("module", ["clbook.datasets", "clbook.training"])
def test_without_what_the_package_needs_the_report_is_still_written(installed, monkeypatch, module):
    import clbook

    monkeypatch.delattr(clbook, module.partition(".")[2], raising=False)
    monkeypatch.setitem(sys.modules, module, None)  # as where Pillow or tqdm is missing
    found = [finding for finding in doctor.examine() if finding.what == "device"]
    assert [finding.level for finding in found] == [PROBLEM] and "package can't be imported" in found[0].found


def test_a_python_out_of_range_is_a_problem(installed):
    installed.about["Requires-Python"] = ">=3.99"
    assert levels()["Python"] == PROBLEM
    assert ">=3.99" in advice("Python")


def test_an_uninstalled_clbook_is_a_problem(monkeypatch):
    def metadata_of(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", metadata_of)
    assert levels()["clbook"] == PROBLEM


def test_the_real_constraints_name_what_was_tested():
    assert doctor._tested_versions()["torch"] == "2.14.1"


def test_a_wheel_has_no_constraints(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "CONSTRAINTS", tmp_path / "constraints.txt")
    assert doctor._tested_versions() == {}


def test_cuda_is_named_with_its_memory():
    card = SimpleNamespace(name="Card 9", total_memory=24 * 2**30)
    cuda = SimpleNamespace(is_available=lambda: True, get_device_properties=lambda i: card, device_count=lambda: 2)
    found = doctor._examine_device(SimpleNamespace(cuda=cuda), training)
    assert found == Finding(OK, "device", "cuda: Card 9, 24 GiB, and 1 more")


def test_an_apple_gpu_is_named_with_its_memory():
    mps = SimpleNamespace(is_available=lambda: True)
    fake = SimpleNamespace(**NO_GPU | {"backends": SimpleNamespace(mps=mps)},
                           mps=SimpleNamespace(recommended_max_memory=lambda: 12 * 2**30))  # fmt: skip
    assert doctor._examine_device(fake, training).found == "mps: Apple GPU, 12 GiB usable"


@pytest.mark.parametrize(("built_for", "words"), [(None, "TORCH=default"), ("13.0", "driver")])
def test_an_idle_nvidia_gpu_is_a_note(monkeypatch, built_for, words):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    fake = SimpleNamespace(**NO_GPU, device=torch.device, version=SimpleNamespace(cuda=built_for))
    found = doctor._examine_device(fake, training)
    assert found.level == NOTE
    assert words in found.advice


def test_one_thread_on_many_cores_is_a_note(monkeypatch):
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    assert doctor._examine_threads(SimpleNamespace(get_num_threads=lambda: 1)).level == NOTE
    assert doctor._examine_threads(SimpleNamespace(get_num_threads=lambda: 4)).level == OK


def test_a_full_disk_is_a_note(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=5e8))
    assert doctor._examine_disk() == Finding(NOTE, "disk", "0.5 GB free in this folder",
                                             "runs write here: make room for at least 1 GB")  # fmt: skip


def test_data_sets_are_told_apart_by_whether_they_are_there(monkeypatch, tmp_path):
    monkeypatch.setenv("CLBOOK_DATA", str(tmp_path))
    (tmp_path / "FashionMNIST").mkdir()
    found = doctor._examine_data(datasets)
    assert found == Finding(OK, "data sets", "shapes, digits, fashion_mnist, folder:PATH; downloaded when asked for: "
                                             "cifar10, cifar100, stl10, stl10-unlabelled, pets")  # fmt: skip
    monkeypatch.setattr(datasets, "downloads", lambda: {"pets": True})
    assert doctor._examine_data(datasets).found == ", ".join(datasets.available())


def test_whatever_is_wrong_comes_with_advice(installed, monkeypatch):
    installed.versions.clear()
    installed.about["Requires-Python"] = ">=3.99"
    monkeypatch.setitem(sys.modules, "torch", None)
    assert all(bool(finding.advice) == (finding.level != OK) for finding in doctor.examine())
