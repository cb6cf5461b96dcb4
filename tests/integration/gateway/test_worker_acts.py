"""The demo's act of the workers on a real broker, through a real gateway, with a real supervised process to kill."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import httpx
import pytest
from rich.console import Console

from include.config import Settings
from include.demo.observer import Observer
from include.demo.planned import Planned
from include.demo.sending import Sender
from include.demo.steps import StepFailedError
from include.demo.worker_acts import play_worker_acts, process_of
from include.demo.worker_judging import worker_faults
from include.platform.processes import end_processes
from include.platform.service import Service
from include.platform.supervisor import Supervisor
from tests.integration.gateway.conftest import GatewayProcess
from tests.integration.gateway.scripted_workers import ScriptedWorkers


class CountingSender(Sender):
    """Keeps the previews that it fetched."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.fetched: list[bytes] = []

    def preview(self, planned: Planned) -> httpx.Response:
        reply = super().preview(planned)
        if reply.is_success and reply.content not in self.fetched:
            self.fetched.append(reply.content)
        return reply


@pytest.fixture
def worker_process(gateway_settings: Settings) -> Iterator[None]:
    """``worker-0`` as the supervisor of this installation knows it; it does nothing."""
    command = (sys.executable, "-c", "import signal; signal.pause()")
    supervisor = Supervisor(gateway_settings)
    supervisor.start([Service(name="worker-0", command=command, check=lambda: None)])
    supervisor.start_program("worker-0")
    yield
    supervisor.shutdown()
    end_processes(gateway_settings.home, ["worker-0", "supervisord"], grace_s=0)


@pytest.mark.usefixtures("worker_process")
def test_the_acts_are_played_and_judged(gateway: GatewayProcess) -> None:
    settings, console = gateway.settings, Console(file=io.StringIO(), width=200)
    with CountingSender(settings) as sender, ScriptedWorkers(settings, sender.fetched), Observer(settings) as observer:
        acts = play_worker_acts(settings, "acts", observer, sender, console)
    assert worker_faults(acts) == []
    assert [(frame.step, frame.data) for frame in acts.frames] == list(zip((32, 64), sender.fetched, strict=True))
    assert acts.cancellation.went_on_s is not None and acts.cancellation.went_on_s < 1
    assert acts.crash.on_it and acts.crash.on_it <= {story.id for story in acts.crash.stories}
    assert [story.workers for story in acts.crash.stories] == [["worker-0", "worker-1"]] * 4
    assert isinstance(console.file, io.StringIO)
    assert f"killed worker-0 (pid {acts.crash.pid}) with -9" in console.file.getvalue()


def test_a_worker_that_nobody_here_supervises_is_not_killed(service_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = service_settings.model_copy(update={"home": tmp_path_factory.mktemp("elsewhere")})
    with pytest.raises(StepFailedError, match="worker-0"):
        process_of(elsewhere, "worker-0")
