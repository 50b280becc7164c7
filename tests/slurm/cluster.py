"""A real Slurm of two nodes on this machine, for tests: own key, own ports, loopback only, no root, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "setpriv")
PACKAGES = "munge slurmctld slurmd slurm-client"
SEARCH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
NODES = ("127.0.0.1", "127.0.0.2")
"""Names that resolve everywhere, so that jobs find each other without a change to the machine."""
ENDED = frozenset(
    ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"],
)
FOREIGN = ("SLURM_", "SBATCH_", "SALLOC_", "SRUN_", "SQUEUE_", "SINFO_")
"""Variables of another cluster, which a test must not reach."""

CONFIGURATION = """\
ClusterName=h2dtest
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# a requeued job waits until its old credential is out of date: 2 minutes by default, and for values below 5
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={ports[0]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
# nothing that wants systemd, cgroups or a data base; so limits of memory and cores are not enforced
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
MailProg=/bin/true
ReturnToService=2
PropagateResourceLimits=NONE
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_resolution=1
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
InactiveLimit=0
MinJobAge=3600
KillWait=10
WaitTime=0
SlurmctldTimeout=30
SlurmdTimeout=60
{binding}
JobRequeue=1
# cores and GPUs are declared; a GPU here is a link to the null device
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
DebugFlags=NO_CONF_HASH
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=32 RealMemory=1000000 Gres=gpu:8
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=32 RealMemory=1000000 Gres=gpu:8
PartitionName=test Nodes={nodes[0]},{nodes[1]} Default=YES DefaultTime=10 MaxTime=1-0 PriorityTier=1 GraceTime=20
PartitionName=urgent Nodes={nodes[0]},{nodes[1]} DefaultTime=10 MaxTime=1-0 PriorityTier=9
"""


class State(NamedTuple):
    """Of a job, or of a task of an array."""

    state: str
    code: str
    restarts: int


def missing() -> list[str]:
    """Programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCH) is None]


class Cluster:
    """Starts when it is made; :meth:`stop` ends its daemons and all jobs, and nothing else."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="h2d-slurm-", dir="/tmp"))  # sockets want a short path
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        self.environment |= {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": SEARCH,
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
        }
        self.daemons: list[subprocess.Popen[bytes]] = []
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def __call__(self, *words: Any, cwd: Path | None = None, check: bool = True, **environment: str) -> str:
        """What a command prints."""
        done = self.result(*words, cwd=cwd, **environment)
        assert done.returncode == 0 or not check, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def result(self, *words: Any, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command, run to its end."""
        return subprocess.run(
            [str(word) for word in words],
            cwd=cwd,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def states(self, job: str) -> dict[str, State]:
        """State of a job, or of each task of an array by its index."""
        found = {}
        for line in self("scontrol", "--oneliner", "show", "job", job, check=False).splitlines():
            row = dict(word.split("=", 1) for word in line.split() if "=" in word)
            if "JobState" in row:
                key = row.get("ArrayTaskId", "")
                found[key] = State(row["JobState"], row["ExitCode"], int(row["Restarts"]))
        return found

    def wait(self, job: str, seconds: float = 240, until: Iterable[str] = ENDED) -> dict[str, State]:
        """The states of a job when all of it has come to one of ``until``."""
        end, wanted = time.monotonic() + seconds, set(until)
        while True:
            states = self.states(job)
            if states and all(state.state in wanted for state in states.values()):
                return states
            assert time.monotonic() < end, f"job {job} after {seconds} s: {states}"
            time.sleep(0.2)

    def stop(self) -> None:
        """End the jobs, then the daemons in the order opposite to their start."""
        if self.daemons and self.daemons[-1].poll() is None:
            with contextlib.suppress(subprocess.SubprocessError, AssertionError):
                self("scancel", "--user", str(os.getuid()))
        _kill(self._job_processes())
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        _kill(self._job_processes())
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        folder, host = self.folder, socket.gethostname().partition(".")[0]
        (folder / "state").mkdir()
        (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
        (folder / "munge.key").chmod(0o600)
        folder.chmod(0o755)
        # listening on the loopback only works where the host's own name leads to it
        binding = "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny" if _is_loopback(host) else ""
        text = CONFIGURATION.format(
            host=host,
            user=self("id", "-un"),
            folder=folder,
            ports=_free_ports(1 + len(NODES)),
            nodes=NODES,
            binding=binding,
        )
        (folder / "slurm.conf").write_text(text)
        for number in range(8):
            (folder / f"gpu{number}").symlink_to("/dev/null")
        lines = [f"NodeName={node} Name=gpu AutoDetect=off File={folder}/gpu[0-7]\n" for node in NODES]
        (folder / "gres.conf").write_text("".join(lines))
        munge = {name: folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed", "key")}
        files = [f"--{name}{'' if name in ('socket',) else '-file'}={path}" for name, path in munge.items()]
        self._daemon("munged", "--foreground", "--force", *files)
        _until(munge["socket"].exists, "munged made no socket")
        self._daemon("slurmctld", "-D", "-c", "-f", folder / "slurm.conf")
        for node in NODES:
            (folder / f"spool.{node}").mkdir()
            self._daemon("slurmd", "-D", "-c", "-N", node, "-f", folder / "slurm.conf")
        _until(self._idle, "the nodes did not become idle")
        self("srun", "--quiet", "--immediate=20", "-N", len(NODES), "-n", len(NODES), "true")

    def _daemon(self, *words: Any) -> None:
        with open(self.folder / "daemons.log", "ab") as log:
            daemon = subprocess.Popen(
                [
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                    *(str(word) for word in words),
                ],  # not even a killed test leaves them
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.daemons.append(daemon)

    def _idle(self) -> bool:
        assert all(daemon.poll() is None for daemon in self.daemons), (self.folder / "daemons.log").read_text()
        return self("sinfo", "--noheader", "--Node", "--format=%t", "-p", "test", check=False).split() == ["idle"] * 2

    def _job_processes(self) -> list[int]:
        """Tasks and their keepers, which outlive the daemons by design; known by this cluster's configuration."""
        own, found = f"SLURM_CONF={self.folder}/slurm.conf".encode(), []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "environ").read_bytes().split(b"\0")
                keeper = "slurmstepd" in os.readlink(process / "exe")
                if own in words and (keeper or any(word.startswith(b"SLURM_JOB_ID=") for word in words)):
                    found.append(int(process.name))
        return found


def _kill(processes: Iterable[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _is_loopback(host: str) -> bool:
    try:
        return socket.gethostbyname(host).startswith("127.")
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _until(true: Any, otherwise: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, otherwise
        time.sleep(0.05)
