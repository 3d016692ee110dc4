"""The command `clbook`, also `python -m clbook`: doctor, train."""

import argparse
import signal
import sys
import typing
from dataclasses import fields

import clbook
from clbook import doctor

# PyTorch is imported by the commands that need it: `doctor` must be able to say that it is missing.


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 where the course can't run or training failed, 2 for bad
    input, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = _parser(argv).parse_args(argv)
        return args.call(args)
    except (ValueError, OSError) as error:
        print(f"clbook: {error}", file=sys.stderr)
        return 2
    except FloatingPointError as error:
        print(f"clbook: {error}", file=sys.stderr)
        return 1
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
    command = commands.add_parser(
        "train", help="train an encoder without labels", description="Train an encoder without labels."
    )
    command.add_argument(
        "--run", metavar="FOLDER", help="where the results go, a new folder; runs/<data>-<time> unless told"
    )
    if "train" in argv:
        _add_config(command)
    command.set_defaults(call=_train)
    return parser


def _add_config(command: argparse.ArgumentParser) -> None:
    """An option for each field of `TrainConfig`. What is not given stays out, for the data's recipe to decide."""
    from clbook.training import TrainConfig

    types = typing.get_type_hints(TrainConfig)
    for field in fields(TrainConfig):
        kind = next(t for t in typing.get_args(types[field.name]) or [types[field.name]] if t is not type(None))
        default = "" if field.default is None else f" ({field.default})"
        command.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=argparse.SUPPRESS,
                             metavar=kind.__name__.upper(), help=field.metadata["help"] + default)  # fmt: skip


def _train(args: argparse.Namespace) -> int:
    from clbook import runs
    from clbook.training import TrainConfig

    given = {field.name: getattr(args, field.name) for field in fields(TrainConfig) if hasattr(args, field.name)}
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop saves what Ctrl-C saves
    line, interrupted = runs.train(TrainConfig.for_data(**given), args.run)
    print(line)
    return 130 if interrupted else 0
