"""The process that reads mutated files, under limits. It is started by `tests.hostile.run` and may be killed.

It writes the number of the file that it is about to read, so that its parent knows which file ended it.
"""

import json
import os
import pathlib
import resource
import sys
import time
import traceback

from tests.hostile import corpus
from tests.hostile.mutations import mutated

LONGEST_MESSAGE = 1500
PIXELS = 2**23  # half of what a picture may have here: all that is read must fit MEMORY
MEMORY = 2**30  # bytes beyond what the process has after its imports


def limit_memory(size: int) -> None:
    """Bounds what the process may take beyond what it has."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + size
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def read_one(read, path: str) -> tuple[str, str]:
    """What became of a file: "read", "refused", "memory" or "wrong", and why."""
    try:
        read(path)
    except (ValueError, OSError) as error:
        message, cause = str(error), error
        while cause is not None:
            if isinstance(cause, MemoryError):
                return "memory", message
            cause = cause.__cause__ or cause.__context__
        # A file that does not exist is another one, which a csv file names.
        is_named = os.path.basename(path) in message or isinstance(error, FileNotFoundError)
        is_clear = is_named and "\n" not in message and len(message) < LONGEST_MESSAGE
        return ("refused" if is_clear else "wrong"), f"{type(error).__name__}: {message}"
    except MemoryError:
        return "memory", traceback.format_exc()
    except BaseException:
        return "wrong", traceback.format_exc()
    return "read", ""


def main(seed: int, numbers: range, folder: pathlib.Path) -> None:
    """Reads the files of these numbers; prints a line of JSON for each that is wrong or slow, and counts at the end."""
    from PIL import Image

    from tests.hostile.readers import READERS

    Image.MAX_IMAGE_PIXELS = PIXELS
    names = list(corpus.seeds())
    os.chdir(folder)
    progress = os.open("progress", os.O_RDWR | os.O_CREAT)
    for name in names:  # imports what readers import late
        chosen = corpus.seeds()[name]
        pathlib.Path("warm").write_bytes(chosen.pack(chosen.content))
        read_one(READERS[chosen.reader], "warm")
    limit_memory(MEMORY)
    for number in numbers:
        os.pwrite(progress, b"%20d" % number, 0)
        name, chosen, data = mutated(number, seed)
        path = f"file{number}{chosen.suffix}"
        pathlib.Path(path).write_bytes(data)
        (pathlib.Path("csv")).touch()
        start = time.monotonic()  # of the clock: a reader may wait for a process of its own
        verdict, why = read_one(READERS[chosen.reader], path)
        seconds = time.monotonic() - start
        if os.path.exists(corpus.CANARY):
            verdict = "executed"
            os.unlink(corpus.CANARY)
        print(json.dumps([number, name, verdict, seconds, why if verdict not in ("read", "refused") else ""]))
        os.unlink(path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(["peak", peak]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3])), pathlib.Path(sys.argv[4]))
