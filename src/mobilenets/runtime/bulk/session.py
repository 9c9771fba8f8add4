"""Ray for the time of a job, started here or a running cluster joined by its address; no PyTorch here.

Its telemetry, dashboard and log on the screen are switched off.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from mobilenets.errors import ClusterError, MissingExtraError, first_line
from mobilenets.install import install_line
from mobilenets.machine import usable_cores
from mobilenets.output_capture import capture_stderr
from mobilenets.runtime.bulk import watchdog

_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # workers' output would go to stdout, among the answers
}
_OBJECT_STORE: Final = 256 * 2**20  # bytes; the file, lists of names and answers pass through it, no pictures
_REACH_SECONDS: Final = 10.0
_HEALTH_SECONDS: Final = 30.0
_CLIENT_PORT: Final = 10001
_WATCHDOG_SECONDS: Final = 10.0


@contextmanager
def ray_session(address: str | None, scratch_of: Path) -> Iterator[Any]:
    """Have Ray for the time of the block.

    Args:
        address: None starts it on this machine, with the cores this process may use; `auto` joins the cluster this
            machine is part of, `HOST:PORT` or `ray://HOST:PORT` another. In a process that has joined one already,
            None takes that, and leaves it running.
        scratch_of: whose job it is: Ray's own files go to a temporary folder named after it. What an earlier job there
            left when it was killed is removed, so that only one process at a time may come with it.

    Yields:
        The module `ray`, with `ray.data` imported.

    Raises:
        MissingExtraError: Ray is not installed.
        ClusterError: the cluster can't be reached, or refuses.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"ray\.")  # what Ray has to say of its own calls
        ray = _import_ray()
        if ray.is_initialized():
            if address is not None:
                raise ClusterError(f"this process has joined Ray already; leave out the address {address}")
            yield ray
            return
        scratch = scratch_folder(scratch_of)
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            with ExitStack() as held:
                if address is None:
                    mark = held.enter_context(_watched(scratch))
                    held.callback(ray.shutdown)
                    with capture_stderr():  # where it prints its own log settings
                        _start(ray, scratch, mark)
                else:
                    held.callback(ray.shutdown)
                    with capture_stderr():
                        _join(ray, address)
                yield ray
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _watched(scratch: Path) -> Iterator[str]:
    """See that none of the Ray processes started in the block outlives this process, however it ends.

    Yields the mark they are known by. Only Linux tells the environment of processes; elsewhere Ray is left to itself.
    """
    mark = token_hex(16)
    if sys.platform != "linux":
        yield mark
        return
    command = [sys.executable, "-I", watchdog.__file__, str(os.getpid()), mark, str(scratch)]
    # A session of its own: what ends this process' group, or Ctrl-C, must not end the one that clears up after it.
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield mark
    finally:
        with suppress(OSError, subprocess.TimeoutExpired):
            process.communicate(b".", timeout=_WATCHDOG_SECONDS)


def _import_ray() -> Any:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        ray = import_module("ray")
        import_module("ray.data")
        import_module("ray.data.exceptions")
    except ImportError as error:
        missing = error.name or "ray"
        raise MissingExtraError(f"the engine ray needs {missing}: {install_line('cluster')}") from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return ray


def scratch_folder(job: Path) -> Path:
    """A job's temporary folder. Its name is short: sockets, whose paths may have 107 bytes, lie in it."""
    base = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())
    return base / f"mobilenets-{blake2b(os.fsencode(job.absolute()), digest_size=8).hexdigest()}"


def _start(ray: Any, scratch: Path, mark: str) -> None:
    os.environ[watchdog.VARIABLE] = mark
    try:
        scratch.mkdir(mode=0o700)
        (scratch / watchdog.VARIABLE).write_text(mark, encoding="utf-8")
        ray.init(
            address="local",
            num_cpus=usable_cores(),
            object_store_memory=_OBJECT_STORE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            _temp_dir=str(scratch),
        )
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
        raise ClusterError(f"Ray can't be started on this machine: {first_line(error)}") from error
    finally:
        del os.environ[watchdog.VARIABLE]  # processes started for other reasons must not bear the mark


def _join(ray: Any, address: str) -> None:
    _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except ConnectionError as error:
        hint = "; start one by 'ray start --head', or give its address" if address == "auto" else ""
        raise ClusterError(f"{address}: no Ray cluster answers{hint}") from error
    except ImportError as error:
        raise MissingExtraError(f"{address} needs {error.name}: {install_line('cluster')}") from error
    except (ray.exceptions.RayError, OSError, RuntimeError, ValueError, AssertionError) as error:
        raise ClusterError(f"{address}: the cluster can't be joined: {first_line(error)}") from error


def _check_reachable(address: str) -> None:
    """Ray would try for minutes where nothing listens."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host and address.startswith("ray://"):
        host, port = port, str(_CLIENT_PORT)
    if not host or not port.isdecimal():
        raise ClusterError(f"{address}: an address is auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS).close()
        if not address.startswith("ray://"):  # Ray's client asks for itself, and gives up after half a minute
            _ask_health(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ClusterError(f"{address}: no Ray cluster answers ({reason})") from error


def _ask_health(address: str) -> None:
    """In a process of its own: in this one Ray would wait, ignoring Ctrl-C, for whatever else listens there."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_HEALTH_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{address}: what listens there is no Ray, or not healthy") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it is not healthy"])[-1].partition(". ")[0]
        raise ClusterError(f"{address}: the cluster can't be joined: {said}")
