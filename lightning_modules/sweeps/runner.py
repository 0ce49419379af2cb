"""Running trials: several processes at a time, stopped cleanly, and none of them twice at once."""

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_modules.sweeps import records
from lightning_modules.sweeps.errors import SweepError
from lightning_modules.sweeps.locks import Holder, TrialLock, take
from lightning_modules.sweeps.progress import COMMAND_MARK, Progress, Row, duration, last_line
from lightning_modules.sweeps.trials import Trial

POLL_SECONDS = 0.1

_INTERRUPTED = {code for n in (signal.SIGINT, signal.SIGTERM) for code in (-n, 128 + n)}
"""How a process ends that Ctrl-C or SIGTERM has ended, by itself or through a shell."""

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
    interrupted: list[str] = field(default_factory=list)
    """Somebody else than this sweep has ended their processes."""
    busy: list[str] = field(default_factory=list)
    """Other sweeps are still at work on them."""
    orphaned: list[str] = field(default_factory=list)
    """Their processes still run, but the sweep that has started them is gone and will not end them."""
    stopped: bool = False
    """Whether Ctrl-C or a signal ended the sweep."""


@dataclass
class _Running:
    trial: Trial
    slot: int
    lock: TrialLock
    started: float
    stage: int
    process: subprocess.Popen[bytes]
    recorded: records.Stamps = field(default_factory=dict)
    """Those that there were before this stage."""

    @property
    def stage_name(self) -> str:
        tests = len(self.trial.commands) - 1
        return "fit" if self.stage == 0 else "test" if tests == 1 else f"test {self.stage} of {tests}"

    @property
    def lacks_record(self) -> bool:
        """Whether a test that has ended well has left nothing behind."""
        if self.stage == 0 or records.stamps(self.trial.folder) != self.recorded:
            return False
        configs = self.trial.recipe["test_configs"]
        return records.expected(self.trial.folder, Path(configs[self.stage - 1]) if configs else None)


class Runner:
    """Runs trials, each slot one at a time.

    A trial is a process group of its own, so that Ctrl-C reaches it through this class alone: SIGINT goes to the
    trial's first process, which ends its step and saves. SIGTERM and SIGHUP do as Ctrl-C does; a second signal kills.
    A trial that fails or is killed does not stop the others.

    Several sweeps may run the same trials, on several machines. One passes over what another is at work on, and looks
    at it again when it has nothing else to do: by then it may be done, or failed, or left behind and to be taken up.
    Whoever ends last thus finds none busy.

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
        self._busy: dict[str, tuple[Trial, Holder]] = {}
        self._failures: dict[str, dict[str, Any] | None] = {}
        self._summary = Summary()
        self._signals = 0
        self._answered = 0

    def run(self, trials: Sequence[Trial]) -> Summary:
        """Run trials that are not done, in order, and wait for them."""
        pending = deque(trials)
        # With these, a failure of another process that runs at the same time is told from one of last time.
        self._failures = {trial.name: trial.failure() for trial in trials}
        looked_again = 0
        with self._watching_signals(), self.progress:
            try:
                while True:
                    while pending and not self._signals and (slot := self._free_slot()) is not None:
                        self._start(pending.popleft(), slot)
                    if not self._running:
                        # Whenever something has come of them there are fewer than last time.
                        if self._signals or len(self._busy) in (0, looked_again):
                            break
                        looked_again = len(self._busy)
                        pending.extend(trial for trial, _ in self._busy.values())
                        continue
                    self._show(len(pending))
                    time.sleep(POLL_SECONDS)
                    self._answer_signals()
                    for running in list(self._running):
                        if (code := running.process.poll()) is not None:
                            self._ended(running, code)
            finally:
                # Only an error in this program leaves any.
                for running in self._running:
                    _kill_group(running.process)
        for name, (_, holder) in self._busy.items():
            (self._summary.busy if holder is Holder.SWEEP else self._summary.orphaned).append(name)
        self._summary.stopped = self._signals > 0
        return self._summary

    def _free_slot(self) -> int | None:
        taken = {running.slot for running in self._running}
        return next((slot for slot in range(len(self.slots)) if slot not in taken), None)

    def _start(self, trial: Trial, slot: int) -> None:
        try:
            if self._settled(trial):
                return
            lock = take(trial.folder)
        except (OSError, SweepError) as error:
            self._fail(trial, f"could not be started: {error}")
            return
        if isinstance(lock, Holder):
            if trial.name not in self._busy:
                self.progress.say(f"{trial.name}  is being run by another process", "yellow")
            self._busy[trial.name] = (trial, lock)
            return
        try:
            # Another sweep may have ended it just now.
            if self._settled(trial):
                lock.release()
                return
            trial.claim()
            process = self._launch(trial, 0, slot, lock)
        except (OSError, SweepError) as error:
            self._fail(trial, f"could not be started: {error}", lock)
            return
        self._busy.pop(trial.name, None)
        self.progress.say(f"{trial.name}  started")
        self._running.append(_Running(trial, slot, lock, time.monotonic(), 0, process))

    def _settled(self, trial: Trial) -> bool:
        """Count a trial that is not to be run: it is done, or has failed in another process while this one ran."""
        if trial.is_done(self.adopt):
            self._busy.pop(trial.name, None)
            self._summary.done.append(trial.name)
            return True
        failure = trial.failure()
        if failure is None or failure == self._failures[trial.name]:
            return False
        self._fail(trial, f"in another process: {failure.get('reason')}")
        return True

    def _fail(self, trial: Trial, reason: str, lock: TrialLock | None = None) -> None:
        """Note that a trial has failed, and let go of it."""
        self._busy.pop(trial.name, None)
        self._summary.failed[trial.name] = reason
        if lock is not None:
            trial.mark_failed(reason)
            lock.release()
        self.progress.say(f"{trial.name}  {reason}", "red")

    def _launch(self, trial: Trial, stage: int, slot: int, lock: TrialLock) -> subprocess.Popen[bytes]:
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
                pass_fds=(lock.inherited,),
            )

    def _ended(self, running: _Running, code: int) -> None:
        trial, name = running.trial, running.trial.name
        # Ranks of a distributed run that have lost their first process would wait for it.
        _kill_group(running.process)
        seconds = time.monotonic() - running.started
        last = running.stage == len(trial.commands) - 1
        # An exit code of 0 says little of a program that was told to end.
        well = code == 0 and not running.lacks_record
        if well and not last and not self._signals:
            running.stage += 1
            running.recorded = records.stamps(trial.folder)
            try:
                running.process = self._launch(trial, running.stage, running.slot, running.lock)
                return
            except OSError as error:
                self._running.remove(running)
                self._fail(trial, f"failed: {running.stage_name} could not be started: {error}", running.lock)
                return
        self._running.remove(running)
        how = f"{running.stage_name} {_how_it_ended(code)} after {duration(seconds)}"
        if well and last:
            try:
                trial.mark_done(seconds)
            except OSError as error:
                self._fail(trial, f"failed: it ended well, but that could not be noted: {error}", running.lock)
                return
            self._summary.done.append(name)
            running.lock.release()
            self.progress.say(f"{name}  done in {duration(seconds)}", "green")
        elif self._signals:
            running.lock.release()
            self.progress.say(f"{name}  stopped after {duration(seconds)}", "yellow")
        elif code in _INTERRUPTED:
            self._summary.interrupted.append(name)
            running.lock.release()
            self.progress.say(f"{name}  interrupted: {how}", "yellow")
        elif code == 0:
            why = f"{running.stage_name} has written no result record, though the run's callbacks include one for it"
            self._fail(trial, f"failed: {why}: {last_line(trial.log)}", running.lock)
        else:
            self._fail(trial, f"failed: {how}: {last_line(trial.log)}", running.lock)

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
            for running in self._running:
                if self._answered == 0:
                    running.process.send_signal(signal.SIGINT)
                else:
                    _kill_group(running.process)
            if self._running:
                self.progress.say(_STOPPING[self._answered], "yellow")
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
