"""The comparisons themselves: they take turns, count right, say what is missing, and compare like with like."""

import csv
import importlib
import json
import sys

import fixed_budget
import lesson01
import lesson03
import lesson06
import lesson07
import lesson09
import measure
import nbformat
import peers
import pytest
import torch

from clbook import datasets, training
from clbook.losses import nt_xent


@pytest.fixture
def no_peers(monkeypatch):
    for name in list(sys.modules):
        if name.startswith(("lightly.", "kornia.", "pytorch_metric_learning.")):
            monkeypatch.delitem(sys.modules, name)
    for name in ("lightly", "kornia", "pytorch_metric_learning"):
        monkeypatch.setitem(sys.modules, name, None)  # makes the import fail


# --- measuring --------------------------------------------------------------------------------------------


def test_contenders_take_turns_after_a_round_that_does_not_count():
    calls = []
    seconds = measure.by_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert "".join(calls) == "abababab"
    assert [len(taken) for taken in seconds.values()] == [3, 3]


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    seconds = {"slow": [2.0, 9.0, 40.0], "fast": [1.0, 3.0, 10.0]}
    assert measure.ratio(seconds, "slow", "fast") == 3  # of 2, 3 and 4
    assert measure.ratio(seconds, "slow", "absent") is None


@pytest.mark.parametrize(
    ("value", "at_most", "met"),
    [(4.0, False, "yes"), (3.9, False, "no"), (4.0, True, "yes"), (4.1, True, "no"), (None, False, "?")],
)
def test_a_claim_says_whether_its_aim_is_met(value, at_most, met):
    row = measure.claim("speed", value, 4, at_most=at_most)
    assert row["met"] == met
    assert row["aim"] == ("≤ 4 ×" if at_most else "≥ 4 ×")
    assert ("not installed" in row["measured"]) == (value is None)


def test_speeds_and_times_are_medians_with_their_extremes():
    assert measure.per_second("views", [0.5, 0.1, 0.25], 100, "img/s")["measured"] == "400 img/s (200 to 1,000)"
    assert measure.time_row("loss", [0.5, 0.1, 0.25])["measured"] == "250.00 ms (100.00 to 500.00)"


def test_a_process_of_its_own_measures_its_own_memory(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(
        f"import json, sys; sys.path.insert(0, {str(peers.RESULTS.parent)!r}); import measure\n"
        "before = measure.peak_memory(); block = bytearray(b'1') * (300 * 2**20); del block\n"
        "print('noise'); print(json.dumps([before, measure.peak_memory(), sys.argv[1]]))"
    )
    before, after, word = measure.in_a_process(str(script), "word")
    assert word == "word"
    assert 0.05 < before < 3 and 0.25 < after - before < 0.35  # GiB


def test_a_process_that_dies_is_told(tmp_path):
    (tmp_path / "child.py").write_text("import sys; sys.exit(3)")
    assert measure.in_a_process(str(tmp_path / "child.py")) == {"failed": "ended with 3"}


def test_only_the_sections_that_ran_are_written_anew(tmp_path):
    path = tmp_path / "RESULTS.md"
    measure.write(path, {"views": "old\n\n| a |", "knn": "kept"}, "# About\n")
    measure.write(path, {"views": "new"}, "# About, again\n")
    measure.write(path, {"step": "more"}, "# About, again\n")
    assert path.read_text() == "# About, again\n\n## views\n\nnew\n\n## knn\n\nkept\n\n## step\n\nmore\n"


def test_the_machine_and_the_versions_are_named():
    line = measure.machine(3)
    assert "3 threads" in line and f"torch {torch.__version__.split('+')[0]}" in line and "GiB" in line


# --- what is compared -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(peers.SECTIONS))
def test_every_section_runs_and_says_which_peers_are_missing(name, no_peers, monkeypatch):
    monkeypatch.setattr(measure, "in_a_process", lambda *arguments: {"failed": "left out"})  # seconds each
    rows = peers.SECTIONS[name](tiny=True)
    assert rows[0]["what"] and all(row["measured"] for row in rows)
    missing = {"views": {"lightly", "kornia"}, "step": {"lightly"}}.get(name, set())
    found = {row["what"] for row in rows if row["measured"].startswith("not installed: pip install")}
    assert found == missing or (name == "nt_xent" and all(what.endswith("lightly") for what in found))


def test_plain_views_are_those_of_every_contender():
    images = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8)
    for pil in (False, True):
        for view in peers.torchvision_views(images, pil=pil):
            assert view.shape == (5, 3, 32, 32) and view.dtype == torch.float32 and 0.1 < view.max() <= 1


@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize("n", [2, 5, 300])
def test_the_reference_in_blocks_is_the_loss(n, temperature):
    """Against autograd through the plain form, in float64."""
    pair = [view.detach().double().requires_grad_() for view in peers.random_pair(n)]
    value, rows, gradient = peers.in_float64(*pair, temperature, block=7)
    loss = peers.dense(*pair, temperature)
    expected = torch.cat(torch.autograd.grad(loss, pair))[rows]
    assert value == pytest.approx(loss.item(), rel=1e-12)
    assert len(rows) == min(2 * n, 300) and rows.unique().numel() == len(rows)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-15)
    assert nt_xent(*pair, temperature=temperature).item() == pytest.approx(value, rel=1e-12)


def test_the_large_child_compares_with_the_reference():
    found = peers.child_large(40, 16)
    assert found["value"] < 1e-5 and found["gradient"] < 1e-5 and found["peak"] > 0.05


def test_neighbours_are_the_same_for_all_three():
    data = peers.knn_data(400, 90)
    ours = peers.KNN["ours"](*data)
    assert ours.unique().numel() == 10
    for other in ("matrix", "sklearn"):
        assert torch.equal(peers.KNN[other](*data), ours)
    assert peers.child_knn("data", 40, 9)["peak"] > 0.05


# --- the command ------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(peers, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(peers, "pin", lambda threads: None)

    def views(tiny):
        """What is measured."""
        return [measure.claim("speed", 5.0, 4)]

    monkeypatch.setattr(peers, "SECTIONS", {"views": views, "large": views})
    yield peers.main
    torch.set_num_threads(threads)


def test_the_command_prints_and_writes(command, capsys):
    command(["--skip-large"])
    text = peers.RESULTS.read_text()
    assert "## views\n\nWhat is measured.\n\n| what |" in text and "| speed | 5 × | ≥ 4 × | yes |" in text
    assert "## large" not in text and "2 threads" in text
    assert "| speed | 5 × | ≥ 4 × | yes |" in capsys.readouterr().out


def test_a_tiny_run_writes_nothing(command):
    command(["views", "--tiny"])
    assert not peers.RESULTS.exists()


def test_an_unknown_section_is_told(command, capsys):
    with pytest.raises(SystemExit):
        command(["view"])
    assert "expected sections among views, large, got view" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "found"),
    [(["knn", "ours", "40", "9", "1"], {"peak"}), (["large", "4", "3", "1"], {"seconds", "peak", "value", "gradient"})],
)
def test_a_child_prints_what_it_found(arguments, found, command, capsys):
    command(["--child", *arguments])
    assert set(json.loads(capsys.readouterr().out)) == found


# --- what lessons read --------------------------------------------------------------------------------------


def test_lesson_01_reads_what_its_script_would_write():
    settings, *lines = lesson01.RESULTS.read_text().splitlines()
    assert settings == lesson01.settings()
    rows = list(csv.DictReader(lines))
    arms = {f"{own}, {passes}" for own in ("each its own", "one for all") for passes in ("one pass", "a pass a view")}
    for seed in map(str, lesson01.SEEDS):
        of_seed = [row for row in rows if row["seed"] == seed]
        assert {row["setting"] for row in of_seed if row["experiment"] == "parameters"} == arms
        assert [float(row["setting"]) for row in of_seed if row["experiment"] == "crop"] == list(lesson01.CROPS)
    assert len(rows) == len(lesson01.SEEDS) * (4 + len(lesson01.CROPS))
    assert all(0 < float(row[factor]) < 1 < float(row["loss"]) for row in rows for factor in lesson01.FACTORS)


@pytest.mark.parametrize("shared", [True, False])
def test_lesson_01_draws_for_the_batch_or_for_each_picture(shared):
    twins = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(8, -1, -1, -1)
    first, second = lesson01.views(shared)(twins, torch.Generator().manual_seed(0))
    assert torch.equal(first, first[:1].expand_as(first)) == shared
    assert not torch.equal(first, second)


# --- results that lessons read ----------------------------------------------------------------------------


def test_the_curve_of_lesson_03_is_what_its_script_makes_and_its_explorer_shows():
    lines, rows = lesson03.RESULTS.read_text().splitlines(), lesson03.read()
    assert all(repr(setting) in lines[0] for setting in (lesson03.PICTURES, lesson03.SETTINGS))
    found = sorted((float(row["tau"]), int(row["seed"])) for row in rows)
    assert found == sorted((tau, seed) for tau in lesson03.TAUS for seed in lesson03.SEEDS)
    assert set(rows[0]) == {"tau", "seed", *lesson03.MEASURED}
    shown = importlib.import_module("clbook.explorers.tolerance").ROWS  # τ, knn, uniformity, tolerance, others
    for measured, row in zip(lesson03.means(rows), shown, strict=True):
        assert measured[:5] == pytest.approx(row, abs=1e-9)


def test_a_run_of_lesson_03_is_measured_by_pairs(monkeypatch, tmp_path):
    h = torch.tensor([[1.0, 0], [0, 2], [3, 0], [-1, 0]])
    found = lesson03.by_shape(h, torch.tensor([0, 0, 1, 1]))
    assert found == pytest.approx({"tolerance": (0 - 1) / 2, "others": (1 - 1 + 0 + 0) / 4})
    monkeypatch.setattr(lesson03, "measure", lambda tau, seed: dict.fromkeys(lesson03.MEASURED, tau + seed))
    lesson03.main([0, 2], [0.5, 0.1], tmp_path / "rows.csv")
    rows = lesson03.read(tmp_path / "rows.csv")
    assert [(row["tau"], row["seed"], row["knn"]) for row in rows][:2] == [
        ("0.5", "0", "0.5000"),
        ("0.1", "0", "0.1000"),
    ]
    assert [row[:2] for row in lesson03.means(rows)] == [(0.1, 1.1), (0.5, 1.5)]


# --- lesson 06: what its file holds -----------------------------------------------------------------------


def test_the_file_of_lesson_06_is_of_its_settings():
    settings, *lines = lesson06.FILE.read_text().splitlines()
    assert json.loads(settings.removeprefix("# ")) == lesson06.SETTINGS
    rows = list(csv.DictReader(lines))
    expected = [(arm, size, steps, seed) for arm, size, steps, seeds in lesson06.ARMS for seed in range(seeds)]
    assert [(row["arm"], *(int(row[key]) for key in ("batch_size", "steps", "seed"))) for row in rows] == expected
    assert all(0.2 < float(row["knn"]) < 1 and 0 < float(row["loss"]) < 7 for row in rows)


@pytest.mark.parametrize("arm", [lesson06.ALL, lesson06.LEFT_OUT, lesson06.RANDOM])
def test_the_loss_leaves_out_what_the_arm_says(arm):
    """Against NT-Xent where nothing is left out, and a plain loop where something is."""
    generator = torch.Generator().manual_seed(0)
    z, labels = torch.randn(12, 5, generator=generator), torch.tensor([0, 1, 0, 2, 1, 0])
    groups = lesson06.groups_of(arm, labels, generator)
    units, terms = [row / row.norm() for row in z], []
    for i in range(12):
        others = [k for k in range(12) if k != i and (k % 6 == i % 6 or groups[k % 6] != groups[i % 6])]
        weights = {k: (units[i] @ units[k] / 0.5).exp() for k in others}
        terms.append(-(weights[(i + 6) % 12] / sum(weights.values())).log())
    found = lesson06.loss_without(z, groups, 0.5)
    assert found.item() == pytest.approx((sum(terms) / 12).item(), rel=1e-5)
    if arm == lesson06.ALL:
        assert found.item() == pytest.approx(nt_xent(*z.chunk(2), temperature=0.5).item(), rel=1e-5)
    else:
        assert sorted(groups.tolist()) == sorted(labels.tolist())
        assert found < nt_xent(*z.chunk(2), temperature=0.5)


def test_the_loop_of_lesson_06_is_that_of_fit():
    data = datasets.load("shapes", n=70, image_size=16)
    config = training.TrainConfig.for_data("shapes", **lesson06.RUN, batch_size=32, steps=4)
    encoder, loss = lesson06.train(lesson06.ALL, config, data)
    theirs = training.fit(data.images, config)
    assert loss == pytest.approx(theirs.history[-1]["loss"], abs=1e-4)
    for a, b in zip(encoder.parameters(), theirs.encoder.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=5e-3)  # four steps of at most 0.002 each


# --- results that lesson 07 reads -------------------------------------------------------------------------


def test_lesson_07s_results_are_those_of_its_script():
    """Every arm on every seed once, with the settings that the script has now."""
    assert lesson07.RESULTS.read_text().splitlines()[0] == lesson07.HEADER
    found = lesson07.read()
    assert tuple(found[0]) == lesson07.FIELDS
    names = ["random encoder", *lesson07.arms()]
    assert [(row["arm"], row["seed"]) for row in found] == [(name, str(s)) for s in lesson07.SEEDS for name in names]
    for row in found[1:]:
        if row["arm"] == "random encoder":
            continue
        kind, options = lesson07.arms()[row["arm"]]
        assert row["batch"] == str(lesson07.BATCH) and row["queue"] == str(options.get("queue_size", ""))
        assert row["momentum"] == ("" if kind is lesson07.methods.SimCLR else str(options.get("momentum", 0.99)))
        assert 0.2 <= float(row["knn"]) <= 1 and 0 < float(row["loss"]) < 8


def test_lesson_07s_script_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(lesson07, "RESULTS", tmp_path / "lesson07.csv")
    monkeypatch.setattr(lesson07, "PICTURES", 80)
    monkeypatch.setattr(lesson07, "SETTINGS", lesson07.SETTINGS | {"steps": 1, "width": 2})
    few = {name: lesson07.arms()[name] for name in ("SimCLR", "MoCo m=0.9")}
    monkeypatch.setattr(lesson07, "arms", lambda: few)
    lesson07.main([3])
    assert [row["arm"] for row in lesson07.read(tmp_path / "lesson07.csv")] == ["random encoder", *few]
    assert capsys.readouterr().out.count("\n") == 3


# --- results that lessons read ----------------------------------------------------------------------------


def test_lesson_09s_results_are_of_its_settings_and_whole():
    first, *lines = lesson09.RESULTS.read_text(encoding="utf-8").splitlines()
    assert first == f"# {lesson09.SETTINGS}"
    rows = list(csv.DictReader(lines))
    assert tuple(rows[0]) == lesson09.COLUMNS
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows)
    found = [(row["data"], row["arm"], int(row["per_class"]), int(row["seed"])) for row in rows]
    assert len(set(found)) == len(found)
    seeds = {seed for *_, seed in found}
    assert len(seeds) >= 3  # an interval of two says nothing
    for data, sources in ("shapes", ["shapes"]), ("digits", ["shapes", "digits"]):
        read = [f"{how}, {source}" for how in ("probe", "nearest") for source in ("pixels", "random", *sources)]
        arms = {*read, *(f"fine-tuned, {source}" for source in sources), "from scratch"}
        wanted = {(data, arm, n, seed) for arm in arms for n in lesson09.BUDGETS[data] for seed in seeds}
        assert {row for row in found if row[0] == data} == wanted


def test_lesson_09_scatters_as_its_script_does():
    digits = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    notebook = nbformat.read(lesson09.RESULTS.parents[1] / "notebooks/09_evaluate_and_transfer.ipynb", as_version=4)
    source = next(cell.source for cell in notebook.cells if cell.id == "scatter").split("\n\n\n")[0]
    scope = {"torch": torch}
    exec(source, scope)
    assert torch.equal(scope["scatter"](digits, 7), lesson09.scatter(digits, 7))


# --- accuracy in so many minutes ---------------------------------------------------------------------------


def budget_row(arm, minutes, seed, test=0.5, disturbed=0.0):
    return {"arm": arm, "minutes": f"{minutes:g}", "seed": seed, "encoder": "conv4 32", "pictures": 25600, "steps": 100,
            "validation": "0.4000", "test": f"{test:.4f}", "disturbed": f"{disturbed:.4f}", "threads": 2}  # fmt: skip


@pytest.fixture
def budgets(monkeypatch, tmp_path):
    """The command on small pictures, with arms that take no time."""
    shown = datasets.load("shapes", n=40, image_size=16)
    monkeypatch.setattr(fixed_budget.datasets, "load", lambda data, split: shown)
    monkeypatch.setattr(fixed_budget, "HERE", tmp_path)
    monkeypatch.setattr(fixed_budget, "RESULTS", tmp_path / "RESULTS.md")
    monkeypatch.setattr(fixed_budget, "SEEDS", {2: (0, 1), 30: (0,)})
    rows = tmp_path / "rows.csv"
    monkeypatch.setattr(fixed_budget, "read", lambda path=rows, read=fixed_budget.read: read(path))
    monkeypatch.setattr(fixed_budget, "add", lambda new, path=rows, add=fixed_budget.add: add(new, path))
    monkeypatch.setattr(fixed_budget.measure, "peer", lambda name: True)
    ran = []

    def row(arm, minutes, seed, data):
        ran.append((arm, minutes, seed))
        return budget_row(arm, minutes, seed, {"ours": 0.7, "lightly": 0.5}[arm] + seed / 100, 0.5 * (len(ran) == 2))

    monkeypatch.setattr(fixed_budget, "row", row)
    return ran


def test_rows_that_are_there_are_not_measured_again_and_disturbed_ones_are(budgets, tmp_path, capsys):
    assert fixed_budget.main(["--rows", "2", "--threads", "1"]) == 0
    assert budgets == [("ours", 2, 0), ("lightly", 2, 0)]
    assert "the machine was busy" in capsys.readouterr().out
    assert fixed_budget.main(["--most", "2", "--threads", "1"]) == 0
    assert budgets[2:] == [("lightly", 2, 0), ("ours", 2, 1), ("lightly", 2, 1)]
    assert fixed_budget.main(["--threads", "1"]) == fixed_budget.main(["--threads", "1"]) == 0
    assert budgets[5:] == [("ours", 30, 0), ("lightly", 30, 0)]
    text = (tmp_path / "RESULTS.md").read_text()
    assert "2 min, conv4 32: ours, 0.03 million pictures seen | 0.705 (0.700 to 0.710, 2 seeds)" in text
    assert "2 min: our worst seed above lightly's best by | 0.19 | ≥ 0 | yes" in text
    assert "30 min: ours | 0.7 | ≥ 0.72 | no" in text and "| pixels | 0.775 |" in text
    assert (tmp_path / "fixed_budget.png").read_bytes()[1:4] == b"PNG"


def test_another_recipe_is_tried_by_the_validation_split(budgets, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(fixed_budget, "TRIED", tmp_path / "tried.csv")
    for model in ("small", "conv4"):
        changes = [f"model={model}", "steps=2", "width=2", "temperature=0.25", "batch_size=8"]
        assert fixed_budget.main(["--threads", "1", "--try", *changes]) == 0
    rows = list(csv.DictReader((tmp_path / "tried.csv").read_text().splitlines()))
    assert [row["changes"] for row in rows] == [
        f"batch_size=8 model={model} steps=2 temperature=0.25 width=2" for model in ("small", "conv4")
    ]
    assert all(row["steps"] == "2" and 0 <= float(row["validation"]) <= 1 for row in rows)
    assert not budgets  # no row of the table


@pytest.mark.parametrize("arm", ["ours", "lightly"])
def test_both_arms_train_on_the_budgets_encoder(arm, monkeypatch):
    if arm == "lightly":
        pytest.importorskip("lightly")
    monkeypatch.setattr(fixed_budget, "BATCH", 8)
    monkeypatch.setattr(fixed_budget, "encoder_options", lambda minutes: {"model": "conv4", "width": 2})
    shown = datasets.load("shapes", n=24, image_size=32)
    found = fixed_budget.row(arm, 0.02, 3, {"train": shown, "val": shown, "test": shown})
    assert found.keys() == set(fixed_budget.COLUMNS) and found["encoder"] == "conv4 2" and found["seed"] == 3
    assert found["steps"] >= 1 and found["pictures"] == 8 * found["steps"]
    assert 0 <= float(found["test"]) <= 1 and 0 <= float(found["disturbed"]) <= 1


def test_the_file_of_rows_is_whole():
    rows = fixed_budget.read()
    keys = [(row["arm"], float(row["minutes"]), int(row["seed"])) for row in rows]
    assert len(keys) == len(set(keys)) and {arm for arm, *_ in keys} <= set(fixed_budget.ARMS)
    for row in rows:
        options = fixed_budget.encoder_options(float(row["minutes"]))
        assert row["encoder"] == f"{options['model']} {options['width']}" and row["threads"] == "2"
        assert int(row["pictures"]) == fixed_budget.BATCH * int(row["steps"])
        assert float(row["disturbed"]) <= fixed_budget.MOST_DISTURBED
