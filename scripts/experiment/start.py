"""How the ranks of a point are started. One class per way; each has
    where()                 for titles: "machines of hosts.txt"
    words(nodes, program)   the command line, for people to read and repeat
    run(nodes, program)     CompletedProcess with stdout and stderr as text
    most                    nodes that there are, None if that is not known
"""
import os
import shutil
import signal
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TIMEOUT = 124  # the status of a run that was ended for taking too long


class Missing(Exception):
    """This way of starting is not possible here; the text says why."""


def environment():
    found = dict(os.environ)
    if os.geteuid() == 0:  # in a container one is root, which Open MPI asks to confirm
        found.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    found.setdefault("OMPI_MCA_btl_vader_single_copy_mechanism", "none")
    return found


def call(words, timeout):
    """Run a command in a process group of its own, all of which ends with it or at the time-out."""
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=environment(), start_new_session=True)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return subprocess.CompletedProcess(words, TIMEOUT, out, f"{err}\nended: it took longer than {timeout} s (--timeout)")
    except BaseException:  # Ctrl-C: mpirun ends its ranks when it is asked to
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def network_words(subnet):
    """What mpirun should know of an Ethernet (README, "On a cluster")."""
    words = ["--mca", "pml", "ob1", "--mca", "btl", "self,vader,tcp", "--mca", "oob_tcp_keepalive_time", "3",
             "--mca", "oob_tcp_keepalive_intvl", "1", "--mca", "oob_tcp_keepalive_probes", "3"]
    if subnet:
        words += ["--mca", "btl_tcp_if_include", subnet, "--mca", "oob_tcp_if_include", subnet]
    return words


def need(tool, package):
    if shutil.which(tool) is None:
        raise Missing(f"{tool} is not installed ({package})")


class Local:
    """All ranks on this machine."""
    most = None

    def __init__(self, a):
        need("mpirun", "apt-get install openmpi-bin")
        self.k, self.timeout, self.more = a.ranks_per_node, a.timeout, a.mpirun_options.split()

    def where(self):
        return "one machine (shared memory)"

    def words(self, nodes, program):
        return ["mpirun", "-np", str(nodes * self.k), "--bind-to", "none", "--oversubscribe", *self.more, *program]

    def run(self, nodes, program):
        return call(self.words(nodes, program), self.timeout)


class Hostfile(Local):
    """The first machines of an mpirun hostfile."""

    def __init__(self, a):
        super().__init__(a)
        self.file, self.subnet = a.hosts, a.subnet
        try:
            with open(a.hosts, encoding="utf-8") as lines:
                names = [line.split("#")[0].split() for line in lines]
        except OSError as error:
            raise Missing(f"{a.hosts}: {error.strerror}") from None
        self.most = len({words[0] for words in names if words})

    def where(self):
        return f"machines of {os.path.basename(self.file)}"

    def words(self, nodes, program):
        return ["mpirun", "--hostfile", self.file, "--map-by", f"ppr:{self.k}:node", "-np", str(nodes * self.k), "--bind-to", "none",
                *network_words(self.subnet), *self.more, *program]


class Cluster(Local):
    """The first ranks of a cluster file, as `shoal launch` starts them."""

    def __init__(self, a):
        super().__init__(a)
        self.file = a.cluster
        if not os.path.exists(a.cluster):
            raise Missing(f"{a.cluster}: there is no such file")

    def where(self):
        return f"the cluster of {os.path.basename(self.file)}"

    def words(self, nodes, program):
        return [program[0], "launch", "--cluster", self.file, "--ranks", str(nodes * self.k), "--", *program[1:]]


class Slurm(Local):
    """Nodes of the SLURM allocation that this runs in (sbatch, salloc)."""

    def __init__(self, a):
        need("srun", "this way is for a SLURM job")
        self.k, self.timeout, self.more = a.ranks_per_node, a.timeout, a.srun_options.split()
        nodes = os.environ.get("SLURM_JOB_NUM_NODES", os.environ.get("SLURM_NNODES"))
        if nodes is None:
            raise Missing("--srun needs a SLURM allocation (sbatch or salloc): SLURM_JOB_NUM_NODES is not set")
        self.most = int(nodes)

    def where(self):
        return f"SLURM partition {os.environ.get('SLURM_JOB_PARTITION', '?')}"

    def words(self, nodes, program):
        return ["srun", "--nodes", str(nodes), "--ntasks", str(nodes * self.k), "--ntasks-per-node", str(self.k), "--cpu-bind=none",
                *self.more, *program]


class Namespaces:
    """Machines made of network namespaces on this one, joined by a switch; each may send so fast and no faster."""
    most = 200

    def __init__(self, a):
        sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
        import hosts as network  # pylint: disable=import-outside-toplevel
        reason = network.missing_privilege()
        if reason:
            raise Missing(reason)
        self.network, self.k, self.rate, self.timeout = network, a.ranks_per_node, a.rate, a.timeout

    def where(self):
        return f"network namespaces of one machine at {self.rate}" if self.rate else "network namespaces of one machine"

    def words(self, nodes, program):
        with_agent = self.network.Hosts(nodes)
        with_agent.agent = "AGENT"
        words = with_agent.command(program, self.k)
        return [word.strip("'") for word in words[2:]]

    def run(self, nodes, program):
        with self.network.Hosts(nodes) as made:
            for index in range(nodes if self.rate else 0):
                made.limit(index, self.rate, queue="400ms")
            try:
                return made.mpirun(program, self.k, timeout=self.timeout)
            except AssertionError as error:
                return subprocess.CompletedProcess(program, TIMEOUT, "", str(error))


def choose(a):
    """The way that the options ask for. Raises Missing."""
    if a.hosts:
        return Hostfile(a)
    if a.cluster:
        return Cluster(a)
    if a.namespaces:
        return Namespaces(a)
    if a.srun:
        return Slurm(a)
    return Local(a)
