"""The command `clbook`, also `python -m clbook`: doctor, train, evaluate, embed, compare, grade, key."""

import argparse
import signal
import sys
import typing
from dataclasses import fields

import clbook
from clbook import doctor

_TRAIN = ("Train an encoder on pictures, without labels unless the method wants them. In brackets: the default. What "
          "suits the data (clbook.training.RECIPES, PHOTOGRAPHS) takes the place of some; config.json of the run says "
          "what was used.")  # fmt: skip
# PyTorch is imported by the commands that need it: `doctor` must be able to say that it is missing.


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 where the course can't run or training failed, 2 for bad
    input, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    if hasattr(sys.stdout, "reconfigure"):  # a pipe on Windows can't write every name
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        args = _parser(argv).parse_args(argv)
        return args.call(args)
    except (FloatingPointError, ConnectionError) as error:  # the latter: another process of the run is gone
        print(f"clbook: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"clbook: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"clbook: {error}; `clbook doctor` says what is missing", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("clbook: stopped", file=sys.stderr)
        return 130


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("clbook", description="The commands behind the course on contrastive learning.")
    parser.add_argument("--version", action="version", version=f"clbook {clbook.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("doctor", help="can the course run here? what is missing?")
    command.set_defaults(call=lambda args: doctor.report())
    command = commands.add_parser("train", help="train an encoder on your pictures", description=_TRAIN)
    command.add_argument(
        "--run", metavar="FOLDER", help="where the results go, a new folder; runs/<data>-<time> unless told"
    )
    command.add_argument("--resume", metavar="RUN", help="go on with the run in this folder, as its config says")
    command.add_argument("--config", metavar="FILE", help="the config.json of a run to repeat; options change it")
    if "train" in argv:
        _add_config(command)
    command.set_defaults(call=_train)
    _add_results(commands)
    _add_grading(commands)
    return parser


def _add_results(commands: argparse._SubParsersAction) -> None:
    text = ("Judge a run's encoder on test pictures, beside a random encoder and the pixels: kNN, and a linear probe "
            "with few labels to all. What is chosen is chosen on the validation split. evaluation.csv in the run "
            "folder holds it, too.")  # fmt: skip
    command = commands.add_parser("evaluate", help="how good is a run's encoder?", description=text)
    command.add_argument("run", metavar="RUN", help="the run's folder")
    command.add_argument("--data", metavar="DATA", help="labelled pictures, as for train (the run's own)")
    command.add_argument("--device", metavar="DEVICE", default="auto", help="auto, cpu, cuda, mps (auto)")
    command.set_defaults(call=_evaluate)
    text = "Write the vectors that a run's encoder makes of pictures, with file names, labels and what a picture needs."
    command = commands.add_parser("embed", help="vectors of your pictures", description=text)
    command.add_argument("run", metavar="RUN", help="the run's folder")
    command.add_argument("--data", metavar="DATA", required=True, help="folder:PATH, or other data as for train")
    command.add_argument("--split", metavar="SPLIT", choices=("train", "val", "test"),
                         help="train, val or test (all of a folder, train of other data)")  # fmt: skip
    command.add_argument("--out", metavar="FILE", help=".npz, or .parquet with pyarrow (RUN/vectors-DATA.npz)")
    command.add_argument("--device", metavar="DEVICE", default="auto", help="auto, cpu, cuda, mps (auto)")
    command.set_defaults(call=_embed)
    text = "A table of runs: settings that differ, last loss, kNN on the validation split, steps, minutes."
    command = commands.add_parser("compare", help="runs side by side", description=text)
    command.add_argument("runs", nargs="+", metavar="RUN", help="their folders, two or more")
    command.add_argument("--out", metavar="FILE.png", help="also draw their curves over each other")
    command.set_defaults(call=_compare)


def _add_grading(commands: argparse._SubParsersAction) -> None:
    text = "Grade a folder of submitted labs: grades.csv, and a page of feedback for each."
    command = commands.add_parser("grade", help="grade a folder of submitted labs", description=text)
    command.add_argument("folder", metavar="FOLDER", help="holds LEARNER.ipynb or LEARNER/LAB.ipynb")
    command.add_argument("--out", metavar="FOLDER", help="where the results go (FOLDER/grades)")
    command.add_argument("--labs", metavar="FOLDER", help="the labs' sources (those of this clone)")
    command.add_argument("--cell-seconds", type=float, metavar="S", default=60, help="time limit of a cell (60)")
    command.add_argument(
        "--memory-gb", type=float, metavar="GB", default=4, help="of each process of a submission; Linux only (4)"
    )
    command.add_argument("--jobs", type=int, metavar="N", default=1, help="submissions graded side by side (1)")
    command.set_defaults(call=_grade)
    command = commands.add_parser("key", help="the answers to the labs' questions with these seeds")
    command.add_argument("seeds", type=int, nargs="+", metavar="SEED")
    command.add_argument("--labs", metavar="FOLDER", help="the labs' sources (those of this clone)")
    command.set_defaults(call=_key)


def _add_config(command: argparse.ArgumentParser) -> None:
    """An option for each field of `TrainConfig`. What is not given stays out, for the data's recipe to decide."""
    from clbook.training import PRESETS, TrainConfig

    command.add_argument("--preset", metavar="NAME", choices=PRESETS, default=argparse.SUPPRESS,
                         help=f"a whole run by name: {', '.join(PRESETS)}; options change it")  # fmt: skip
    types = typing.get_type_hints(TrainConfig)
    for field in fields(TrainConfig):
        kind = next(t for t in typing.get_args(types[field.name]) or [types[field.name]] if t is not type(None))
        default = "" if field.default is None else f" ({field.default})"
        if kind is bool:
            command.add_argument(f"--{field.name.replace('_', '-')}", action=argparse.BooleanOptionalAction,
                                 default=argparse.SUPPRESS, help=field.metadata["help"] + default)  # fmt: skip
            continue
        command.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=argparse.SUPPRESS,
                             metavar=kind.__name__.upper(), help=field.metadata["help"] + default)  # fmt: skip


def _train(args: argparse.Namespace) -> int:
    from clbook import distributed, runs
    from clbook.training import TrainConfig

    given = {field.name: getattr(args, field.name) for field in fields(TrainConfig) if hasattr(args, field.name)}
    preset = getattr(args, "preset", None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # before and after training, as Ctrl-C
    # Of torchrun's processes; else of none. The others wait while one downloads, decodes and reports.
    with distributed.group(minutes=24 * 60):
        if args.resume:
            if given or preset or args.config or args.run:
                raise ValueError("--resume: expected no other option, the run's own config says all; leave them out")
            line, interrupted = runs.resume(args.resume)
        elif args.config:
            if preset:
                raise ValueError("--preset: expected it or --config, which says all as well; leave one of them out")
            line, interrupted = runs.train(runs.read_config(args.config).changed(**given), args.run)
        else:
            config = TrainConfig.preset(preset, **given) if preset else TrainConfig.for_data(**given)
            line, interrupted = runs.train(config, args.run)
    if line:  # only the process that writes has one
        print(line)
    return 130 if interrupted else 0


def _evaluate(args: argparse.Namespace) -> int:
    from clbook import results

    print(results.evaluate(args.run, args.data, device=args.device))
    return 0


def _embed(args: argparse.Namespace) -> int:
    from clbook import results

    print(results.embed(args.run, args.data, args.out, split=args.split, device=args.device))
    return 0


def _compare(args: argparse.Namespace) -> int:
    from clbook import results

    print(results.compare(args.runs, args.out))
    return 0


def _grade(args: argparse.Namespace) -> int:
    from clbook import grading

    limits = grading.Limits(cell_seconds=args.cell_seconds, memory_gb=args.memory_gb)
    grading.grade(args.folder, out=args.out, labs=args.labs or grading.LABS, limits=limits, jobs=args.jobs)
    return 0


def _key(args: argparse.Namespace) -> int:
    from clbook import grading

    print(grading.key(args.seeds, args.labs or grading.LABS))
    return 0
