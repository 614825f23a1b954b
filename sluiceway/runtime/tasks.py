"""Short-lived helpers of the start: child processes that tell their steps as JSON lines, run side by side."""

import json
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sluiceway.runtime.logfiles import open_log
from sluiceway.runtime.screen import Screen


class Task:
    """One helper process. Its messages go to the screen, what else it prints to `<name>.log`.

    `result` is what it handed over, `error` the sentence it ended with; both None while it runs.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        logs: Path,
        cwd: Path,
        environment: Mapping[str, str],
        screen: Screen,
        label: str = "",
    ) -> None:
        self.name = name
        self.result: dict[str, Any] | None = None
        self.error: str | None = None
        self._screen = screen
        self._label = label
        self._log = logs / f"{name}.log"
        with open_log(logs, name) as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd=cwd,
                env=dict(environment), start_new_session=True,
            )  # fmt: skip
        if label:
            screen.begin(label)
        self._thread = threading.Thread(target=self._follow, name=name, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()

    def _follow(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines, self._log.open("ab", buffering=0) as log:
            for line in lines:
                try:
                    message = json.loads(line)
                except ValueError:
                    log.write(line)
                    continue
                self._on_message(message if isinstance(message, dict) else {})
        code = self.process.wait()
        if code != 0 and self.error is None:
            self.error = f"{self._label or self.name} failed (exit code {code}); its log: {self._log}"
        if self._label and code == 0:
            self._screen.end(self._label)

    def _on_message(self, message: dict[str, Any]) -> None:
        if "begin" in message:
            self._screen.begin(message["begin"])
        elif "end" in message:
            self._screen.end(message["end"], message.get("note", ""))
        elif "error" in message:
            self.error = message["error"]
        elif "warning" in message:
            self._screen.warn(message["warning"])
        elif "result" in message:
            self.result = message["result"]
