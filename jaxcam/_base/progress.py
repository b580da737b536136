"""A progress bar on long work, for people at a terminal; nothing where the output goes to a file."""

import contextlib
from collections.abc import Callable, Iterator

FLOPS_WORTH_A_BAR = 3e11  # some seconds on a few cores


@contextlib.contextmanager
def bar(label: str, total: int | None, *, flops: float) -> Iterator[Callable[[], None] | None]:
    """A bar on stderr, and what advances it by one: None where the work is too short for a bar; total may be None."""
    if flops < FLOPS_WORTH_A_BAR:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=total)
        yield lambda: progress.advance(task)
