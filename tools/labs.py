"""Make the learners' copies of the labs from their sources, with nbgrader: no solutions, no hidden tests.

python tools/labs.py             write notebooks/labs/*.ipynb
python tools/labs.py --check     write nothing, only name the copies that are not what their source makes
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

from run_notebooks import ROOT

LABS = ROOT / "notebooks" / "labs"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    options = parser.parse_args(arguments)
    made, stale = learners_copies(LABS), []
    for name, text in made.items():
        path = LABS / f"{name}.ipynb"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
            if not options.check:
                path.write_text(text, encoding="utf-8")
    stale += [path.name for path in LABS.glob("*.ipynb") if path.stem not in made]  # left from a source that is gone
    print(f"{len(made)} labs, not what their source makes: {', '.join(stale) or 'none'}")
    return 1 if options.check and stale else 0


def learners_copies(labs: Path) -> dict[str, str]:
    """The text of each learner's copy, by the lab's name."""
    from nbgrader.apps import GenerateAssignmentApp  # its import takes seconds

    copies = {}
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(labs / "source", Path(folder) / "source", ignore=shutil.ignore_patterns(".*"))
        shutil.copy(labs / "nbgrader_config.py", folder)
        for source in sorted(labs.glob("source/*/*.ipynb")):
            with contextlib.chdir(folder):  # nbgrader looks for its configuration there
                app = GenerateAssignmentApp()
                app.initialize([source.stem, "--force", "--no-db", "--log-level=WARN"])
                app.start()
            copies[source.stem] = (Path(folder) / "release" / source.stem / source.name).read_text(encoding="utf-8")
    return copies


if __name__ == "__main__":
    sys.exit(main())
