"""A SLURM of two nodes on one machine: munged, slurmctld and two slurmd with a folder, ports and job numbers of their own.

    with Slurm() as slurm:
        slurm.run("srun", "--mpi=pmix", "-N2", ...)      # a finished shoal_test.Run
        job = slurm.submit("script", "--output=F")       # its number
        slurm.wait(job)                                  # its last state, e.g. "COMPLETED"

Needs root and Debian's munge, slurmctld, slurmd, slurm-client and slurm-wlm-basic-plugins; missing_privilege() says why it cannot run.
Nothing of an installed SLURM is touched, and whatever was started is ended at the end.
"""
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from shoal_test import Run, environment

_SBIN = "/usr/sbin:/sbin"
_CONF = """ClusterName=shoal
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000
SlurmdParameters=config_overrides
FirstJobId={first_job}
MpiDefault=none
KillWait=5
ReturnToService=2
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 State=UNKNOWN
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
_LAST = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}


def missing_privilege():
    """None if a SLURM can be started here, else the reason."""
    path = f"{os.environ.get('PATH', '')}:{_SBIN}"
    for tool in ("munged", "slurmctld", "slurmd", "srun", "sbatch"):
        if shutil.which(tool, path=path) is None:
            return f"{tool} is not installed (scripts/install-deps all)"
    if os.geteuid() != 0:
        return "SLURM's daemons need root to start jobs"
    return None


def _free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Slurm:
    def __init__(self):
        self.folder = None
        self.daemons = []

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="shoal-slurm-")
        try:
            self._start()
        except Exception:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self):
        os.chmod(self.folder, 0o755)  # munge wants its socket to be reachable
        for name in ("munge", "state", "node1/spool", "node1/pmix", "node2/spool", "node2/pmix", "tmp"):
            os.makedirs(os.path.join(self.folder, name))
        conf = _CONF.format(folder=self.folder, host=socket.gethostname().split(".")[0], ports=_free_ports(3),
                            first_job=random.randrange(1000, 60000000))
        self._write("slurm.conf", conf)
        for node in ("node1", "node2"):
            # both nodes have one /tmp, so PMIx needs a folder for each
            self._write(f"{node}/slurm.conf", conf)
            self._write(f"{node}/mpi.conf", f"PMIxCliTmpDirBase={self.folder}/{node}/pmix\n")
        key = os.path.join(self.folder, "munge", "key")
        with open(key, "wb") as out:
            out.write(os.urandom(128))
        os.chmod(key, 0o400)
        self.env = environment(SLURM_CONF=os.path.join(self.folder, "slurm.conf"), PATH=f"{os.environ['PATH']}:{_SBIN}",
                               TMPDIR=os.path.join(self.folder, "tmp"))
        munge = os.path.join(self.folder, "munge")
        self._daemon({}, "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge}/socket", f"--pid-file={munge}/pid",
                     f"--log-file={munge}/log", f"--seed-file={munge}/seed", "--num-threads=2")
        self._until(lambda: os.path.exists(f"{munge}/socket"), "munged's socket")
        self._daemon({}, "slurmctld", "-D", "-i")
        for node in ("node1", "node2"):
            self._daemon({"SLURM_CONF": os.path.join(self.folder, node, "slurm.conf")}, "slurmd", "-D", "-N", node)
        self._until(lambda: self._tool("sinfo", "--noheader", "--format=%D %t").strip() == "2 idle", "two idle nodes")

    def _write(self, name, text):
        with open(os.path.join(self.folder, name), "w", encoding="ascii") as out:
            out.write(text)

    def _daemon(self, env, *command):
        with open(os.path.join(self.folder, "daemons.log"), "ab") as log:
            self.daemons.append(subprocess.Popen(command, env=dict(self.env, **env), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                 start_new_session=True))

    def _until(self, true, what, seconds=30):
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                raise AssertionError(f"SLURM: no {what} after {seconds} s\n{self.logs()}")
            time.sleep(0.05)

    def logs(self):
        text = ""
        for name in ("daemons.log", "munge/log", "slurmctld.log", "node1/slurmd.log", "node2/slurmd.log"):
            try:
                with open(os.path.join(self.folder, name), encoding="utf-8", errors="replace") as log:
                    text += f"--- {name}\n{log.read()[-3000:]}"
            except OSError:
                pass
        return text

    def _tool(self, *command):
        return subprocess.run(command, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=60, check=False).stdout

    def run(self, *command, timeout=60, env=None):
        """A command of SLURM, or one that uses it, to its end."""
        began = time.monotonic()
        command = [str(word) for word in command]
        process = subprocess.Popen(command, env=dict(self.env, **(env or {})), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, start_new_session=True)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"{command} did not end in {timeout} s\n{self.logs()}") from None
        return Run(command, process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"), time.monotonic() - began)

    def submit(self, *arguments):
        run = self.run("sbatch", *arguments)
        match = re.search(r"Submitted batch job (\d+)", run.out)
        assert run.code == 0 and match, str(run)
        return int(match.group(1))

    def state(self, job):
        found = re.search(r"JobState=(\w+)", self._tool("scontrol", "show", "job", str(job)))
        return found.group(1) if found else "UNKNOWN"

    def wait(self, job, seconds=100, states=None):
        """Wait until the job is in one of `states` (by default those that are its last), and return which."""
        pending = []

        def reached():
            state = self.state(job)
            if state != "PENDING":
                pending.clear()
            elif not pending:
                pending.append(time.monotonic())
            elif time.monotonic() > pending[0] + 2.5:
                # What is queued again waits two minutes. In the second in which it ended it may not start: its credential is revoked.
                self._tool("scontrol", "update", f"JobId={job}", "StartTime=now")
                pending[0] += 1000
            return state in (states or _LAST)
        self._until(reached, f"end of job {job} ({states or 'any'})", seconds)
        return self.state(job)

    def wait_for_all(self, seconds=100):
        """Wait until no job is queued or running."""
        self._until(lambda: not self._tool("squeue", "--noheader").strip(), "end of all jobs", seconds)

    def _left(self):
        """Processes that have this folder in their environment or command: tasks and their keepers."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if int(pid) == os.getpid():
                continue
            for name in ("environ", "cmdline"):
                try:
                    with open(f"/proc/{pid}/{name}", "rb") as file:
                        if self.folder.encode() in file.read():
                            yield int(pid)
                            break
                except OSError:
                    break

    def __exit__(self, *_):
        if len(self.daemons) > 1:
            self._tool("scancel", "--user=root", "--quiet")
            end = time.monotonic() + 10
            while time.monotonic() < end and self._tool("squeue", "--noheader").strip():
                time.sleep(0.1)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(timeout=5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for pid in self._left():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.folder, ignore_errors=True)
