"""Command line: ``python -m tsl book | publish | execute | sweep | serve``.

Wrong arguments end with a message and exit status 2 before anything is written.
"""

import argparse
import contextlib
import functools
import http.server
import sys
from collections.abc import Sequence
from typing import Any

from tsl import paths, provenance


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status (0 well, 1 something failed, 2 wrong arguments, 130 interrupted)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(given).parse_args(given)
    try:
        _check(options)
    except ValueError as problem:
        print(f"tsl {options.command}: {problem}", file=sys.stderr)
        return 2
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("\ninterrupted: what was finished is kept", file=sys.stderr)
        return 130


def _parser(given: Sequence[str] = ()) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tsl", description="Build and read the book.")
    commands = parser.add_subparsers(dest="command", required=True)
    parameters = argparse.ArgumentParser(add_help=False)
    parameters.add_argument(
        "--profile", default="laptop", help="size of the experiments: ci, laptop or paper"
    )
    parameters.add_argument("--device", default="cpu", help="where tensors live: cpu, cuda or cuda:N")
    parameters.add_argument("--seed", type=int, default=0, help="root of all random streams, at least 0")
    parameters.add_argument("--force", action="store_true", help="run chapters even if nothing changed")

    def add(
        name: str, run: Any, help: str, parents: Sequence[argparse.ArgumentParser] = ()
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help, parents=list(parents))
        command.set_defaults(run=run)
        return command

    add("book", _book, "run the chapters that changed and render the book", [parameters])
    add("publish", _publish, "run what changed and copy the notebooks over notebooks/*.ipynb", [parameters])
    execute = add("execute", _execute, "run chapters that changed, without rendering", [parameters])
    execute.add_argument(
        "chapters", nargs="*", metavar="CHAPTER", help="names such as 04_hardness; all if none is given"
    )
    sweep = add("sweep", _sweep, "train a grid of thinking transformers, here or on a cluster")
    if given[:1] == ["sweep"]:  # its arguments live with its code, and loading that takes torch
        from tsl import sweeps

        sweeps.add_arguments(sweep)
    serve = add("serve", _serve, "serve the built book on this machine")
    serve.add_argument("--port", type=int, default=8000, help="port to listen at (8000)")
    return parser


def _sweep(options: argparse.Namespace) -> int:
    from tsl import sweeps

    try:
        return sweeps.run(options)
    except ValueError as problem:
        print(f"tsl sweep: {problem}", file=sys.stderr)
        return 2


def _check(options: argparse.Namespace) -> None:
    """Check the arguments and replace names by what they stand for, before anything is done."""
    if options.command == "serve":
        if not 0 <= options.port < 65536:
            raise ValueError(f"port must be between 0 and 65535, got {options.port}")
        return
    if options.command == "sweep":
        return
    names = getattr(options, "chapters", [])
    options.sources = [provenance.chapter_source(name) for name in names] or provenance.chapters()

    from tsl.notebooks import Settings

    options.settings = Settings.checked(options.profile, options.device, options.seed)


def _book(options: argparse.Namespace) -> int:
    from tsl import book

    return book.make(options.settings, force=options.force)


def _execute(options: argparse.Namespace) -> int:
    from tsl import notebooks

    outcomes = notebooks.execute(options.sources, options.settings, force=options.force)
    for outcome in outcomes:
        if outcome.error:
            print(f"\nChapter {outcome.chapter} failed in {outcome.error}", file=sys.stderr)
        elif not outcome.ran:
            print(f"  {outcome.chapter}: unchanged")
    return 1 if any(outcome.error for outcome in outcomes) else 0


def _publish(options: argparse.Namespace) -> int:
    from tsl import notebooks

    if status := _execute(options):
        return status
    changed = notebooks.publish(options.settings)
    print(
        "\n".join(f"published {path.relative_to(paths.ROOT)}" for path in changed)
        or "all notebooks were published"
    )
    return 0


def _serve(options: argparse.Namespace) -> int:
    if not (paths.SITE / "index.html").exists():
        print("tsl serve: there is no book yet; build it with `make book`", file=sys.stderr)
        return 1

    class Handler(http.server.SimpleHTTPRequestHandler):
        """Serves the site without a line for every request."""

        def log_message(self, format: str, *args: Any) -> None:
            pass

    handler = functools.partial(Handler, directory=str(paths.SITE))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", options.port), handler)
    except OSError as problem:
        print(f"tsl serve: cannot listen at port {options.port}: {problem.strerror}", file=sys.stderr)
        return 1
    print(f"The book is at http://127.0.0.1:{server.server_port}/ (Ctrl-C ends)", flush=True)
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever()
    return 0
