"""In a worker: notes where it hangs when its arbiter aborts it, which it does with SIGABRT after the ``timeout``.

Python runs the handler of a signal between two instructions of the main thread. While that thread is in C code that
does not return, nothing can be noted.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from . import _native

#: Maximum number of frames: the innermost ones.
_FRAMES = 30
# Directory of Gunicorn's workers.
_GUNICORN = "/gunicorn/workers/"
# The wrapper around ASGI applications; in a frame of its function `recorded`, `start` is the number of the request.
_WRAPPER = str(Path(__file__).with_name("asgi.py"))


def follow(worker: Any) -> None:
    """Puts a handler of SIGABRT before the present one, which still decides what happens."""
    present = signal.getsignal(signal.SIGABRT)

    def abort(number: int, frame: FrameType | None) -> None:
        _note(worker, frame)
        if callable(present):
            present(number, frame)
        elif present == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    if present is not None:
        signal.signal(signal.SIGABRT, abort)


def _note(worker: Any, frame: FrameType | None) -> None:
    try:
        oldest = worker.metrics_recorder.abort()
        if oldest is not None and worker.metrics_slot.stacks:
            request, thread, is_here = oldest
            frames = _of_application(_frames_of_request(worker, frame, request, thread, is_here=is_here))
            _native.say_stack("\n".join(_line(*place) for place in frames[-_FRAMES:]))
    except Exception as error:  # the worker ends as it would without us
        _native.report_failure("stacks", f"{type(error).__name__}: {error}")


def _frames_of_request(
    worker: Any, frame: FrameType | None, request: int, thread: int, *, is_here: bool
) -> list[tuple[FrameType, int]]:
    """Returns the frames of the request that holds the worker, or of its oldest request; the innermost is the last."""
    if worker.has_threads:
        if thread != threading.get_ident():
            frame = sys._current_frames().get(thread, frame)
    elif worker.current_greenlet is not None:
        if not is_here:
            frame = _frame_of_greenlet(thread) or frame
    elif worker.interface == "asgi" and not _is_of_request(frame):
        task = _frames_of_task(request)
        if task:
            return [(one, one.f_lineno) for one in task]
    return list(traceback.walk_stack(frame))[::-1] if frame is not None else []


def _of_application(frames: list[tuple[FrameType, int]]) -> list[tuple[FrameType, int]]:
    """Leaves out the frames of the server, which are outside of all others."""
    is_outside = [_GUNICORN in frame.f_code.co_filename or _is_wrapper(frame) for frame, _ in frames]
    outside = max((number for number, is_one in enumerate(is_outside) if is_one), default=-1)
    return frames[outside + 1 :] or frames


def _frame_of_greenlet(address: int) -> FrameType | None:
    # Greenlets know no list of themselves.
    found = (one for one in gc.get_objects() if id(one) == address)
    frame: FrameType | None = getattr(next(found, None), "gr_frame", None)
    return frame


def _is_of_request(frame: FrameType | None) -> bool:
    while frame is not None:
        if _is_wrapper(frame):
            return True
        frame = frame.f_back
    return False


def _is_wrapper(frame: FrameType) -> bool:
    return frame.f_code.co_name == "recorded" and frame.f_code.co_filename == _WRAPPER


def _frames_of_task(request: int) -> list[FrameType]:
    """Returns the frames of the suspended task that has that request."""
    asyncio: Any = sys.modules["asyncio"]  # not imported: only event loops need it
    for task in asyncio.all_tasks():
        frames = list(_frames_of_coroutine(task.get_coro()))
        if any(_is_wrapper(frame) and frame.f_locals.get("start") == request for frame in frames):
            return frames
    return []


def _frames_of_coroutine(coroutine: Any) -> Iterable[FrameType]:
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            return
        yield frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


def _line(frame: FrameType, line: int) -> str:
    code = frame.f_code
    return f'File "{code.co_filename}", line {line}, in {code.co_name}'
