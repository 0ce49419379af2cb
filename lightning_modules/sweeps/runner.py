"""Running trials: several processes at a time, stopped cleanly, and none of them twice at once."""

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightning_modules.sweeps.errors import SweepError
from lightning_modules.sweeps.progress import COMMAND_MARK, Progress, Row, duration, last_line
from lightning_modules.sweeps.trials import Trial

POLL_SECONDS = 0.1

_STOPPING = (
    "stopping: running trials end their step and save; press Ctrl-C again to kill them",
    "killing the running trials",
)


@dataclass
class Summary:
    """How a sweep ended: names of trials by what became of them."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """With the reason."""
    busy: list[str] = field(default_factory=list)
    """Another process has been at work on them."""
    stopped: bool = False
    """Whether Ctrl-C or a signal ended the sweep."""


@dataclass
class _Running:
    trial: Trial
    slot: int
    lock: int
    """File descriptor; the lock is held as long as this process or the trial's has it open."""
    started: float
    stage: int
    process: subprocess.Popen[bytes]

    @property
    def stage_name(self) -> str:
        tests = len(self.trial.commands) - 1
        return "fit" if self.stage == 0 else "test" if tests == 1 else f"test {self.stage} of {tests}"


class Runner:
    """Runs trials, each slot one at a time.

    A trial is a process group of its own, so that Ctrl-C reaches it through this class alone: SIGINT goes to the
    trial's first process, which ends its step and saves. SIGTERM and SIGHUP do as Ctrl-C does; a second signal kills.
    A trial that fails or is killed does not stop the others.

    Args:
        slots: For each process at a time, variables of its environment, such as its GPU.
        progress: What is told of it.
        adopt: See `Trial.is_done`.
    """

    def __init__(self, slots: Sequence[Mapping[str, str]], progress: Progress, adopt: bool = False) -> None:
        self.slots = slots
        self.progress = progress
        self.adopt = adopt
        self._running: list[_Running] = []
        self._summary = Summary()
        self._signals = 0
        self._answered = 0

    def run(self, trials: Sequence[Trial]) -> Summary:
        """Run trials that are not done, in order, and wait for them."""
        pending = deque(trials)
        with self._watching_signals(), self.progress:
            try:
                while self._running or (pending and not self._signals):
                    while pending and not self._signals and (slot := self._free_slot()) is not None:
                        self._start(pending.popleft(), slot)
                    self._show(len(pending))
                    time.sleep(POLL_SECONDS)
                    self._answer_signals()
                    for running in list(self._running):
                        if (code := running.process.poll()) is not None:
                            self._ended(running, code)
            finally:
                # Only an error of this process, such as a full disk, leaves any.
                for running in self._running:
                    _kill_group(running.process)
        self._summary.stopped = self._signals > 0
        return self._summary

    def _free_slot(self) -> int | None:
        taken = {running.slot for running in self._running}
        return next((slot for slot in range(len(self.slots)) if slot not in taken), None)

    def _start(self, trial: Trial, slot: int) -> None:
        trial.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(trial.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            self._summary.busy.append(trial.name)
            self.progress.say(f"{trial.name}  is being run by another process", "yellow")
            return
        try:
            # Another sweep may have been at work here since the list was made.
            if trial.is_done(self.adopt):
                os.close(lock)
                self._summary.done.append(trial.name)
                return
            trial.claim()
            process = self._launch(trial, 0, slot, lock)
        except (OSError, SweepError) as error:
            os.close(lock)
            self._fail(trial, f"could not be started: {error}")
            return
        self.progress.say(f"{trial.name}  started")
        self._running.append(_Running(trial, slot, lock, time.monotonic(), 0, process))

    def _fail(self, trial: Trial, reason: str) -> None:
        self._summary.failed[trial.name] = reason
        self.progress.say(f"{trial.name}  {reason}", "red")

    def _launch(self, trial: Trial, stage: int, slot: int, lock: int) -> subprocess.Popen[bytes]:
        command = trial.commands[stage]
        with trial.log.open("ab") as log:
            log.write(f"\n{COMMAND_MARK} {time.strftime('%Y-%m-%d %H:%M:%S')}  {shlex.join(command)}\n".encode())
            log.flush()
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.slots[slot]},
                start_new_session=True,
                pass_fds=(lock,),
            )

    def _ended(self, running: _Running, code: int) -> None:
        trial, name = running.trial, running.trial.name
        # Ranks of a distributed run that have lost their first process would wait for it.
        _kill_group(running.process)
        seconds = time.monotonic() - running.started
        last = running.stage == len(trial.commands) - 1
        if code == 0 and not last and not self._signals:
            running.stage += 1
            running.process = self._launch(trial, running.stage, running.slot, running.lock)
            return
        if code == 0 and last:
            trial.mark_done(seconds)
            self._summary.done.append(name)
            self.progress.say(f"{name}  done in {duration(seconds)}", "green")
        elif self._signals:
            self.progress.say(f"{name}  stopped after {duration(seconds)}", "yellow")
        else:
            how = f"{running.stage_name} {_how_it_ended(code)} after {duration(seconds)}"
            self._fail(trial, f"failed: {how}: {last_line(trial.log)}")
        self._running.remove(running)
        os.close(running.lock)

    def _show(self, pending: int) -> None:
        now = time.monotonic()
        rows = [Row(r.trial.name, r.stage_name, now - r.started, r.trial.log) for r in self._running]
        summary = self._summary
        counts = f"{len(summary.done)} done, {len(rows)} running, {pending} to come"
        self.progress.show(rows, counts + (f", {len(summary.failed)} failed" if summary.failed else ""))

    @contextlib.contextmanager
    def _watching_signals(self) -> Iterator[None]:
        """Count the signals that stop the sweep; the loop answers them."""
        previous: dict[int, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before = signal.getsignal(number)
            if number != signal.SIGINT and before is signal.SIG_IGN:
                continue  # of nohup, which trials shall inherit
            # A script's background job ignores Ctrl-C. Trials shall not: with a handler here, however little it
            # does, they start with the signal's default.
            ignored = before is signal.SIG_IGN
            previous[number] = signal.signal(number, self._ignore if ignored else self._on_signal)
        try:
            yield
        finally:
            for watched, handler in previous.items():
                signal.signal(watched, handler)

    def _on_signal(self, *_: object) -> None:
        self._signals += 1

    def _ignore(self, *_: object) -> None:
        pass

    def _answer_signals(self) -> None:
        while self._answered < min(self._signals, len(_STOPPING)):
            if self._running:
                self.progress.say(_STOPPING[self._answered], "yellow")
            for running in self._running:
                if self._answered == 0:
                    running.process.send_signal(signal.SIGINT)
                else:
                    _kill_group(running.process)
            self._answered += 1


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
