"""A progress bar for long work at a terminal; nothing is drawn where stderr is a file."""

import contextlib
from collections.abc import Callable, Iterator

FLOPS_WORTH_A_BAR = 3e11  # some seconds on a few cores


@contextlib.contextmanager
def bar(
    label: str, total: int | None, *, flops: float, text: Callable[[], str] | None = None
) -> Iterator[Callable[[], None] | None]:
    """Draws a bar on stderr and yields the function that advances it by one.

    Args:
      label: the text before the bar.
      total: the number of steps; None if it is not known.
      text: what stands behind the bar, asked at each step.
      flops: the floating-point operations of the work. Below some seconds of work, and where stderr is no terminal,
        None is yielded and nothing drawn.
    """
    if flops < FLOPS_WORTH_A_BAR:
        yield None
        return
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total, text="")
        yield lambda: progress.update(task, advance=1, text="" if text is None else text())
