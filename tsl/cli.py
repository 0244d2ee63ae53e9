"""Command line: ``tsl book | publish | execute | figure | claims | seeds | verify | pdf | serve | sweep | think | plan | ...``.

Wrong arguments end with a message and exit status 2 before anything is written.
"""

import contextlib
import errno
import fcntl
import functools
import http.server
import importlib
import io
import json
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from tsl import paths, texts, versions


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status (0 well, 1 something failed, 2 wrong arguments, 130 interrupted)."""
    # Where output is closed (`>&-`), Python has no stream at all.
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a sign for π shows another
    try:
        with warnings.catch_warnings():
            # A wish to see warnings as errors is for a person's own code, not for libraries.
            if sys.warnoptions:
                warnings.resetwarnings()
                warnings.simplefilter("ignore")
            return tsl.main(arguments, prog_name="tsl", standalone_mode=False) or 0
    except click.ClickException as problem:
        problem.show()
        return problem.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: what was finished is kept", err=True)
        return 130
    except OSError as problem:
        # A full disk, an output that is closed; others are ours.
        if problem.errno not in (errno.ENOSPC, errno.EPIPE, errno.EBADF):
            raise
        with contextlib.suppress(OSError):
            click.echo(f"Error: {problem}", err=True)
        return 1


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def tsl() -> None:
    """Build and read the book."""


@contextlib.contextmanager
def _arguments() -> Any:
    """What is wrong with values in here is wrong with the arguments."""
    try:
        yield
    except ValueError as problem:
        raise click.UsageError(str(problem)) from None


@contextlib.contextmanager
def _running() -> Any:
    """What every command that runs chapters does in here: it needs chapters, and the build folder to itself.

    Beside an installed package there are none; two runs at once would take each other's files away.
    """
    if not versions.chapters():
        raise click.ClickException(
            f"there are no chapters in {paths.NOTEBOOKS}: run this in a clone of the book, or set TSL_ROOT to one"
        )
    _interruptible()
    paths.BUILD.mkdir(parents=True, exist_ok=True)
    with open(paths.BUILD / ".lock", "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.ClickException(
                f"another build is at work in {paths.BUILD}: wait until it ends"
            ) from None
        _sweep_up()
        yield


def _interruptible() -> None:
    """From here on an interrupt is an exception, so that what is under way is ended well: see `tsl.__main__`."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _sweep_up() -> None:
    """Remove what a run that was killed has left half written; outside the build folder another may be at work just now."""
    for folder in (paths.BUILD, paths.NOTEBOOKS, paths.BOOK, paths.RESULTS, paths.CHECKPOINTS):
        for left in folder.rglob(".*.partial"):
            with contextlib.suppress(FileNotFoundError):
                if folder == paths.BUILD or time.time() - left.stat().st_mtime > 600:
                    left.unlink()


_DEVICE = click.option("--device", default="cpu", help="where tensors live: cpu, cuda or cuda:N")
_FORCE = click.option("--force", is_flag=True, help="run chapters even if nothing changed")


def _settings(command: Callable[..., int]) -> Callable[..., int]:
    """Options of a run of chapters, checked and handed over as one argument."""

    @click.option("--profile", default="laptop", help="size of the experiments: ci, laptop or paper")
    @_DEVICE
    @click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="root of all random streams")
    @functools.wraps(command)
    def checked(profile: str, device: str, seed: int, **options: Any) -> int:
        from tsl.press.chapters import Settings

        with _arguments():
            settings = Settings.checked(profile, device, seed)
        with _running():
            return command(settings, **options)

    return checked


@tsl.command()
@_FORCE
@_settings
def book(settings: Any, force: bool) -> int:
    """Run the chapters that changed and render the book."""
    from tsl.press import site

    return site.make(settings, force=force)


@tsl.command()
@click.argument("chapters", nargs=-1, metavar="[CHAPTER]...")
@_FORCE
@_settings
def execute(settings: Any, force: bool, chapters: Sequence[str]) -> int:
    """Run chapters that changed, all if none is named (such as 04_hardness), without rendering."""
    with _arguments():
        sources = [versions.chapter_source(name) for name in chapters] or versions.chapters()
    return _execute(sources, settings, force)


@tsl.command()
@_FORCE
@_settings
def publish(settings: Any, force: bool) -> int:
    """Run what changed and copy the notebooks over notebooks/*.ipynb."""
    from tsl.press import chapters

    if status := _execute(versions.chapters(), settings, force):
        return status
    changed = [f"published {path.relative_to(paths.ROOT)}" for path in chapters.publish(settings)]
    click.echo("\n".join(changed) or "all notebooks were published")
    return 0


@tsl.command()
@click.option("--profile", default="ci", help="size of the experiments: ci, laptop or paper")
@_DEVICE
@click.option("--seeds", type=click.IntRange(min=2), default=6, help="how many: 0, 1, ...")
def seeds(profile: str, device: str, seeds: int) -> int:
    """Run all chapters on several seeds, and store the verdicts in results/ledger."""
    from tsl.press import seeds as press
    from tsl.press.chapters import Settings

    with _arguments():
        settings = Settings.checked(profile, device, 0)
    with _running():
        failed = press.measure(settings, seeds)
    if failed:
        raise click.ClickException(f"no record was written: {', '.join(failed)} failed")
    path = press.record_of(profile)
    flips = press.flips(json.loads(path.read_text(encoding="utf-8")))
    click.echo(f"written: {path.relative_to(paths.ROOT)}")
    click.echo(f"not as expected on every seed: {', '.join(flips) or 'none'}")
    return int(bool(flips))


@tsl.command()
@click.option("--profile", type=click.Choice(["ci", "laptop"]), default="ci", help="size of the experiments")
@click.option("--seeds", default="0", metavar="N,N,...", help="which of the recorded seeds")
def verify(profile: str, seeds: str) -> int:
    """Run all chapters again and compare every number and verdict with the committed ones (exit status 0: reproduced)."""
    from tsl.press import verify as press
    from tsl.press.chapters import Settings

    if not re.fullmatch(r"\d+(,\d+)*", seeds):
        raise click.UsageError(f"seeds must look like 0,1,2, got {seeds!r}")
    asked = [int(seed) for seed in seeds.split(",")]
    with _running():
        try:
            record, pages = press.recorded(profile, asked), press.recorded("laptop", [0])
        except ValueError as problem:
            raise click.ClickException(str(problem)) from None
        rows, problems = press.again(Settings(profile), record, pages, asked)
    click.echo(press.lines(rows))
    for each in problems:
        click.echo(each, err=True)
    lost = sorted({row.claim for row in rows if not row.reproduced})
    click.echo(f"{len(rows)} verdicts compared, not reproduced: {', '.join(lost) or 'none'}")
    return int(bool(lost or problems))


@tsl.command()
@click.argument("name", required=False)
@click.option("--list", "listed", is_flag=True, help="name all figures, with what they find")
@click.option(
    "--out", type=click.Path(path_type=Path), help="file to write: .svg, .png or .pdf  [default: NAME.svg]"
)
@_settings
def figure(settings: Any, name: str | None, listed: bool, out: Path | None) -> int:
    """Draw one figure of the book, NAME, anew: run its chapter as far as it, and write it to a file."""
    # It is drawn in this process: neither a person's backend nor a profile in the environment has a say.
    os.environ["MPLBACKEND"] = "Agg"
    os.environ.pop("TSL_PROFILE", None)
    from tsl.press import inline

    if listed or not name:
        for each, place in inline.figures().items():
            click.echo(f"{each:24} {place.source.stem:28} {place.caption.partition('.')[0]}")
        return 0
    import matplotlib as mpl

    out = out or Path(f"{name}.svg")
    with _arguments():
        if out.suffix not in (".svg", ".png", ".pdf"):
            raise ValueError(f"out must end with .svg, .png or .pdf, got {str(out)!r}")
        drawn = inline.drawn(name, settings)
    written = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):  # the same numbers, the same file
        drawn.savefig(
            written, format=out.suffix[1:], metadata={} if out.suffix == ".png" else _UNDATED[out.suffix]
        )
    paths.write_whole(out, written.getvalue())
    click.echo(f"written: {out}")
    return 0


_UNDATED = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


@tsl.command()
@click.argument("ids", nargs=-1)
def claims(ids: Sequence[str]) -> int:
    """Print the ledger, or all about the claims named: what is claimed, measured, predicted, and where it breaks."""
    import nbformat

    from tsl import claims as ledger

    try:
        rows = ledger.load()
    except (ValueError, OSError) as problem:
        raise click.ClickException(str(problem)) from None
    committed = (source.with_suffix(".ipynb") for source in versions.chapters())
    try:
        found = ledger.collect(nbformat.read(path, as_version=4) for path in committed if path.exists())
    except (ValueError, KeyError, AttributeError) as problem:
        raise click.ClickException(f"a committed notebook cannot be read: {problem!r}") from None
    unknown = [name for name in ids if name not in rows]
    if unknown:
        raise click.UsageError(f"claims must be among {', '.join(rows)}, got {', '.join(unknown)}")
    for name in ids or rows:
        click.echo(ledger.told(rows[name], found.get(name), whole=bool(ids)))
    return 0


def _execute(sources: list[Path], settings: Any, force: bool) -> int:
    from tsl.press import chapters

    return int(bool(chapters.report(chapters.execute(sources, settings, force=force))))


@tsl.command()
@click.option("--out", type=click.Path(path_type=Path), help="where it goes; by default _build/book.pdf")
def pdf(out: Path | None) -> int:
    """Print the built book as one PDF, with Chromium and playwright."""
    from tsl.press import pdf as press

    try:
        path = press.print_book(out or press.PDF)
    except press.PdfError as problem:
        raise click.ClickException(str(problem)) from None
    click.echo(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


@tsl.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8000, help="port to listen at")
def serve(port: int) -> int:
    """Serve the built book on this machine."""
    if not (paths.SITE / "index.html").exists():
        raise click.ClickException("there is no book yet; build it with `make book`")

    class Handler(http.server.SimpleHTTPRequestHandler):
        """Serves the site without a line for every request."""

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def send_head(self) -> Any:
            try:
                return super().send_head()
            except ValueError:  # an address that no file can have
                return self.send_error(404)

    class Server(http.server.ThreadingHTTPServer):
        """Says nothing when a browser closes a connection."""

        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exc_info()[1], ConnectionError):
                super().handle_error(request, client_address)

    handler = functools.partial(Handler, directory=str(paths.SITE))
    try:
        server = Server(("127.0.0.1", port), handler)
    except OSError as problem:
        raise click.ClickException(f"cannot listen at port {port}: {problem.strerror}") from None
    _interruptible()
    click.echo(f"The book is at http://127.0.0.1:{server.server_port}/ (Ctrl-C ends)")
    with contextlib.suppress(KeyboardInterrupt), server:
        server.serve_forever()
    return 0


@tsl.command()
@click.argument("experiment", type=click.Choice(["transformers", "reasoning"]))
@click.argument("axes", nargs=-1, metavar="[name=value,value]...")
@_DEVICE
@click.option(
    "--folder", type=click.Path(path_type=Path), default="results/sweep", help="where the records go"
)
@click.option(
    "--checkpoints", type=click.Path(path_type=Path), help="folder from which interrupted trainings go on"
)
@click.option("--workers", type=click.IntRange(min=1), default=2, help="processes on this machine")
@click.option("--scheduler", help="address of a dask.distributed scheduler: run there instead")
def sweep(
    experiment: str,
    axes: Sequence[str],
    device: str,
    folder: Path,
    checkpoints: Path | None,
    workers: int,
    scheduler: str | None,
) -> int:
    """Train a grid of models, here or on a cluster: n=10,20 alpha=0,1 seed=0,1,2 is a grid of twelve."""
    from tsl import runs
    from tsl.lab import records

    lab = importlib.import_module(f"tsl.lab.{experiment}")
    _interruptible()
    try:
        with _arguments():
            if not scheduler:  # the workers of a scheduler have devices of their own
                runs.check_device(device)
            points = [lab.settings(**point) for point in records.grid(**parse_axes(axes))]
            found = records.sweep(
                # One training at a time can show how far it is; several would write over each other.
                functools.partial(
                    lab.job,
                    device=device,
                    checkpoints=checkpoints,
                    progress=workers == 1 and not scheduler,
                ),
                points,
                folder,
                scheduler=scheduler,
                workers=workers,
                code=versions.module_version(f"lab.{experiment}"),
                progress=True,
            )
    except ConnectionError as problem:
        raise click.ClickException(str(problem)) from None
    for record in found:
        click.echo(lab.headline(record))
    return 0


@tsl.command()
@click.option("--train", required=True, help="training features: iso, 1/i, i^-0.5 or a file of eigenvalues")
@click.option("--test", help="test features, likewise; by default those of training")
@click.option("-d", "dimension", type=click.IntRange(min=1), default=10, help="dimension, if no file says it")
@click.option(
    "-n", "examples", type=click.IntRange(min=1), required=True, help="examples in a training prompt"
)
@click.option("-m", "context", type=click.IntRange(min=1), required=True, help="examples in a test prompt")
@click.option("-k", "steps", type=click.IntRange(min=1), default=20, help="thinking steps")
@click.option(
    "--noise", type=click.FloatRange(min=0), default=0.0, help="standard deviation of the label noise"
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="root of the prompts that are drawn")
def think(
    train: str,
    test: str | None,
    dimension: int,
    examples: int,
    context: int,
    steps: int,
    noise: float,
    seed: int,
) -> int:
    """Foresee what thinking does: error by step, the best step, and whether and why thinking hurts."""
    import torch

    from tsl import forecast
    from tsl.lab import tables

    with _arguments():
        source = tables.spectrum(train, dimension)
        target = source if test is None else tables.spectrum(test, len(source))
        generator = torch.Generator().manual_seed(seed)
        click.echo(f"Drawing {forecast.PROMPTS:,} prompts ...", err=True)
        made = forecast.foresee(source, target, examples, context, steps, generator, noise)
    click.echo(made)
    click.echo()
    click.echo(texts.plot(made.typical.tolist(), "typical error after k steps"))
    return 0


@tsl.command()
@click.option(
    "--target", required=True, type=click.Path(path_type=Path), help="features of the target: a table"
)
@click.option("--task", "tasks", multiple=True, required=True, metavar="NAME=TABLE", help="a task on offer")
@click.option("--steps", type=click.IntRange(min=1), default=10, help="thinking steps at test time")
@click.option("--examples", type=click.IntRange(min=1), default=100, help="examples in a test prompt")
@click.option("--length", type=click.IntRange(min=1), default=100, help="examples in a training prompt")
@click.option("--standardise", is_flag=True, help="by mean and deviation of the target's features")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="root of the prompts that are drawn")
@click.option("--html", "as_html", type=click.Path(path_type=Path), help="write a report with plots there")
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="write the plan there")
def plan(
    target: Path,
    tasks: Sequence[str],
    steps: int,
    examples: int,
    length: int,
    standardise: bool,
    seed: int,
    as_html: Path | None,
    as_json: Path | None,
) -> int:
    """Recommend what to train on for a target: tables of features (CSV, Parquet, NPY), a row per observation."""
    import torch

    from tsl import advice, laws
    from tsl.lab import tables
    from tsl.press import reports

    with _arguments():
        goal = tables.features(target)
        offered = {}
        for text in tasks:
            name, _, file = text.partition("=")
            if not name or not file or name in offered:
                raise ValueError(f"task must look like NAME=TABLE, each name once, got {text!r}")
            offered[name] = tables.features(file)
        if standardise:
            offered = {name: laws.standardise(x, goal) for name, x in offered.items()}
            goal = laws.standardise(goal)
        generator = torch.Generator().manual_seed(seed)
        click.echo(f"Choosing among {len(offered)} tasks, then predicting {steps} steps ...", err=True)
        made = advice.plan_training(offered, goal, length, examples, steps, generator)
    click.echo(made)
    told = made.to_dict()
    return _write({as_json: _json(told), as_html: reports.plan_page(told, target.name)})


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def _write(texts_of: dict[Path | None, str]) -> int:
    """Write what was asked for; what cannot be written is named."""
    for path, text in texts_of.items():
        if path:
            try:
                paths.write_whole(path, text)
            except OSError as problem:
                raise click.ClickException(f"cannot write {path}: {problem.strerror}") from None
            click.echo(f"\nwritten: {path}")
    return 0


@tsl.command()
@click.argument("log", type=click.Path(path_type=Path))
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="ROLE=NAME",
    help="a column not found by itself; roles are question, level, correct, model, benchmark, order, tokens, repeat",
)
@click.option("--order", metavar="LEVEL,LEVEL,...", help="levels from least thinking to most")
@click.option("--group", "groups", multiple=True, help="a column, such as difficulty: compare within it, too")
@click.option("--confidence", default=0.95, help="of all outcomes together")
@click.option("--html", "as_html", type=click.Path(path_type=Path), help="write a report with plots there")
@click.option("--json", "as_json", type=click.Path(path_type=Path), help="write comparisons there")
def diagnose(
    log: Path,
    columns: Sequence[str],
    order: str | None,
    groups: Sequence[str],
    confidence: float,
    as_html: Path | None,
    as_json: Path | None,
) -> int:
    """Judge whether thinking longer helps, from a LOG: a table with a row for a question, a level and a repeat."""
    from tsl import advice, logs
    from tsl.lab import tables
    from tsl.press import reports

    with _arguments():
        named = dict(text.partition("=")[::2] for text in columns)
        levels = order.split(",") if order else ()
        found = logs.understand(tables.read(log), named, levels, groups)
        made = advice.budget_helps(found, confidence)
    click.echo("Read: " + ", ".join(f"{role} = {name}" for role, name in found.columns.items()) + "\n")
    click.echo(made)
    return _write({as_json: _json(made.to_dict()), as_html: reports.budget_page(made.details(), log.name)})


@tsl.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
def counts(sources: Sequence[Path]) -> int:
    """Recompute chapter 11's counts from downloaded SOURCES, named like knowledge.csv.gz, and say what they are."""
    from tsl.lab import real_models

    for source in sources:
        with _arguments():
            record = real_models.count(source)
        click.echo(f"written: {real_models.store(record)}")
    return 0


def parse_axes(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read axes as written on a command line.

    Examples
    --------
    >>> parse_axes(["n=10,20", "encoding=pairs"])
    {'n': [10, 20], 'encoding': ['pairs']}
    """
    axes: dict[str, list[Any]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        parts = values.split(",")
        if not name or not all(part.strip() for part in parts):
            raise ValueError(f"axes must look like name=value,value, got {text!r}")
        if name in axes:
            raise ValueError(f"axes must name each field once, got {name!r} again in {text!r}")
        axes[name] = [_value(part) for part in parts]
    return axes


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
