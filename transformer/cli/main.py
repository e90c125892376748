"""The command ``hant-opt``: exit codes and one-line errors. Imports nothing heavy, so ``--help`` starts at once."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from ..errors import HantError, StorageError, nearest
from .arguments import DEFAULT_VERB, normalise
from .crash import CrashError
from .terminal import shown, shown_lines

LONGEST = 2000
"""Of an error's line in characters: what it names may be as long as a stranger likes."""
BUG, USAGE, INTERRUPTED = 1, 2, 130
STOPPED = "interrupted; what was finished is kept, the same command resumes"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 bug, 2 usage, 3 budget, 4 unverified, 130 interrupted."""
    _share_processor()
    from .app import AbortError, ClickError, app, verbs

    words = normalise(sys.argv[1:] if arguments is None else arguments, verbs())
    loud = any(word.startswith("-vv") and set(word[1:]) == {"v"} for word in words) or (
        sum(word in ("-v", "--verbose") for word in words) > 1
    )
    try:
        code = int(app(words or ["--help"], prog_name="hant-opt", standalone_mode=False) or 0)
        # Some versions of the parser turn Ctrl-C into this code, others into an error of their own.
        return _fail(STOPPED, code) if code == INTERRUPTED else code
    except ClickError as error:
        told: str = error.format_message()  # type: ignore[attr-defined]
        if "extra argument" in told and words[0] == DEFAULT_VERB and words[1:] and not Path(words[1]).exists():
            told += f" {words[1]!r} is no model, no run and no verb{nearest(words[1], verbs())}"
        return _fail(told, USAGE)
    except HantError as error:
        if loud:
            _trace()
        if os.environ.get("RANK", "0") != "0":  # of several processes the main one says the same
            return error.exit_code
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader of our output has gone (``| head``); what is left of it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, AbortError):
        return _fail(STOPPED, INTERRUPTED)
    except MemoryError:
        if loud:
            _trace()
        return _fail("out of memory; give smaller batches (--set pretrain.batch_size=16) or a smaller --pool", USAGE)
    except OSError as error:
        if loud:
            _trace()
        where = f" {error.filename}" if error.filename else ""
        return _fail(
            f"{error.strerror or error}{where}; the same command resumes when this is mended", StorageError.exit_code
        )
    except CrashError as error:
        if loud:
            _trace()
        return _fail(_bug(error.__cause__ or error, error.folder), BUG)
    except Exception as error:
        if loud:
            _trace()
        return _fail(_bug(error, None), BUG)


def _trace() -> None:
    sys.stderr.write(shown_lines(traceback.format_exc()))


def _share_processor() -> None:
    """Have threads that wait for each other sleep, not spin; read when PyTorch is imported.

    Beside other busy processes a thread that spins takes the processor from the one it waits for: a training step on
    two threads took 3.6 times as long so (docs/pretraining.md). Who sets the policy keeps it.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # Intel's library goes by its own


def _fail(message: str, code: int) -> int:
    line = shown(" ".join(message.split()))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    sys.stderr.write(f"hant-opt: error: {line}\n")
    return code


def _bug(error: BaseException, folder: Path | None) -> str:
    """Write the traceback to a log and return the line that points to it."""
    if folder is None or not folder.is_dir():  # the run was not made yet
        folder = Path(tempfile.mkdtemp(prefix="hant-"))
    path = folder / "hant-crash.log"
    head = f"this is a bug of hant, a plugin or your own code: {type(error).__name__}: {error}"
    try:
        # Written beside and renamed: a link of that name is replaced, not followed.
        handle, fresh = tempfile.mkstemp(dir=folder, prefix=".hant-crash.", suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write("".join(traceback.format_exception(error)))
        Path(fresh).replace(path)
    except OSError:
        return f"{head}; give -vv to see where"
    return f"{head}; the traceback is in {path}"
