"""The independent appender of a drill: ``python -m drills.traffic_process``, in a container beside the stack.

It has a link of its own in front of the stack and appends growing integers to lists through it. One JSON object per
line, out: ``ready`` once the link applies writes, ``tick`` ten times a second, ``clock`` and ``ended`` as answers,
``error``. In: ``{"command": "clock"}`` and ``{"command": "stop"}``; the end of the input is a stop as well. Times are
Unix seconds.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .appender import Appenders, Kind
from .ledger import Ledger, Outcome, Record
from .processes import LinkProcess

#: Appends of every kind, about 400 a second together: enough that some are under way at any moment, and little enough
#: to leave a small machine to the stack.
KINDS = (
    Kind("single", rate=60),
    Kind("single", lean=True, rate=100),
    Kind("pipeline", 16, rate=160),
    Kind("transaction", 5, rate=80),
)
_TICK = 0.1


class TimedLedger(Ledger):
    """A ledger that also keeps when each operation was sent and answered."""

    def __init__(self) -> None:
        super().__init__()
        #: Began, ended (Unix seconds), and how many of the appends ended how: one row for what was sent together.
        self.operations: list[tuple[float, float, int, int, int]] = []
        self._epoch = time.time() - time.monotonic()

    def ended(self, record: Record, outcomes: Sequence[Outcome], began: float, now: float) -> None:
        """Take note of how operations ended that were sent at ``began``; both times in monotonic seconds."""
        super().ended(record, outcomes, began, now)
        counts = [sum(outcome is kind for outcome in outcomes) for kind in (Outcome.OK, Outcome.FAILED)]
        self.operations.append(
            (self._epoch + began, self._epoch + now, *counts, len(outcomes) - sum(counts))  # type: ignore[arg-type]
        )


def _say(kind: str, **content: Any) -> None:
    print(json.dumps({"kind": kind, "at": time.time(), **content}), flush=True)


def main() -> int:
    """Run until told to stop; return the exit status."""
    link_id = os.environ["LINK_ID"]
    folder = Path(tempfile.mkdtemp(prefix="traffic-"))
    link = LinkProcess(os.environ["REDIS_URL"], folder)
    link.start()
    try:
        link.wait_until_ready(60)
        ledger = TimedLedger()
        appenders = Appenders(link.address, link.port, KINDS, prefix=f"trader-{link_id}:appended", ledger=ledger)
        appenders.start()
        ended = threading.Event()
        ticker = threading.Thread(target=_tick, args=(appenders, ledger, ended), daemon=True)
        _say("ready")
        ticker.start()
        _obey()
        ended.set()
        ticker.join()
        appenders.stop(60)
        _say(
            "ended",
            operations=ledger.operations,
            records={key: base64.b64encode(record.outcomes).decode() for key, record in ledger.records.items()},
            link=link.status(),
        )
        link.terminate()
    except TimeoutError as error:
        log = link.log.read_text(errors="replace").splitlines()[-5:] if link.log.exists() else []
        _say("error", text=f"{error}; its link's last words: {' | '.join(log)}")
        return 1
    finally:
        link.kill()
    return 0


def _tick(appenders: Appenders, ledger: TimedLedger, ended: threading.Event) -> None:
    while not ended.wait(_TICK):
        last = ledger.operations[-1][1] if ledger.operations else None
        _say(
            "tick",
            acknowledged=ledger.count(Outcome.OK),
            failed=ledger.count(Outcome.FAILED),
            in_flight=appenders.in_flight,
            last=last,
            keys=list(ledger.records),
        )


def _obey() -> None:
    """Answer commands until the one to stop, or the end of the input."""
    for line in sys.stdin:
        command = json.loads(line)["command"]
        if command == "stop":
            return
        if command == "clock":
            _say("clock")


if __name__ == "__main__":
    sys.exit(main())
