"""Hosts on one machine: network namespaces joined by a bridge, each with its own name, and mpirun across them over TCP.

    with Hosts(3) as hosts:
        result = hosts.mpirun(["./shoal", "generate", ...], ranks_per_host=1)

Needs root and iproute2; missing_privilege() says why it cannot run. Everything made here is removed at the end, also what a
failed mpirun left running inside the namespaces.
"""
import os
import shutil
import signal
import subprocess
import tempfile
import uuid


def _run(*command, check=True):
    return subprocess.run(command, check=check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


# What mpirun says when it ends without having started anything. On a busy machine its ssh launcher does so now and then by itself:
# "setpgid failed in parent" and no daemon.
NOT_STARTED = "ORTE was unable to reliably start one or more daemons"


def missing_privilege():
    """None if namespaces can be made here, else the reason."""
    for tool in ("ip", "unshare", "mpirun"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    name = f"shoal-probe-{os.getpid()}"
    made = _run("ip", "netns", "add", name, check=False)
    if made.returncode != 0:
        return f"no privilege to make network namespaces ({made.stdout.strip()})"
    try:
        uts = _run("ip", "netns", "exec", name, "unshare", "--uts", "true", check=False)
        link = _run("ip", "-n", name, "link", "add", "br0", "type", "bridge", check=False)
    finally:
        _run("ip", "netns", "del", name, check=False)
    if uts.returncode != 0:
        return f"no privilege to give a namespace its own host name ({uts.stdout.strip()})"
    if link.returncode != 0:
        return f"no bridge devices here ({link.stdout.strip()})"
    return None


class Hosts:
    """n hosts named fish1..fishN at 10.77.0.1..N, on a bridge that lives in a namespace of its own."""

    SUBNET = "10.77.0.0/24"

    def __init__(self, n, own_disk=False):
        """own_disk: each host has a folder of its own at the same path, disk()."""
        self.n = n
        self.own_disk = own_disk
        self.tag = uuid.uuid4().hex[:6]
        self.names = [f"fish{i + 1}" for i in range(n)]
        self.folder = None

    def namespace(self, index):
        return f"shoal-{self.tag}-{self.names[index]}"

    def disk(self, name=""):
        """A path on the hosts' own disks, as they see it."""
        return os.path.join(self.folder, "disk", name)

    def disk_of(self, index, name=""):
        """The same of one host, as seen from outside."""
        return os.path.join(self.folder, f"disk-{self.names[index]}", name)

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="shoal-hosts-")
        self.switch = f"shoal-{self.tag}-switch"
        try:
            self._make()
        except Exception:
            self.__exit__(None, None, None)
            raise
        return self

    def _make(self):
        _run("ip", "netns", "add", self.switch)
        _run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
        _run("ip", "-n", self.switch, "link", "set", "br0", "up")
        table = "127.0.0.1 localhost\n" + "".join(f"10.77.0.{i + 1} {name}\n" for i, name in enumerate(self.names))
        for i in range(self.n):
            space = self.namespace(i)
            os.makedirs(f"/etc/netns/{space}", exist_ok=True)
            with open(f"/etc/netns/{space}/hosts", "w", encoding="ascii") as out:
                out.write(table)
            self.power_on(i)
        self.agent = os.path.join(self.folder, "agent")
        with open(self.agent, "w", encoding="ascii") as out:
            out.write("#!/bin/sh\n# the place of ssh: enter the namespace of the host named first, if its link is up\nhost=$1\nshift\n"
                      f'case "$(ip -n "shoal-{self.tag}-$host" link show eth0 2>&1)" in *LOWER_UP*) ;; *)\n'
                      '    echo "no route to host $host" >&2; exit 255 ;;\nesac\n'
                      f'exec ip netns exec "shoal-{self.tag}-$host" unshare --uts --mount sh -c '
                      f'\'hostname "$0" && {self._mount()} && exec sh -c "$*"\' "$host" "$@"\n')
        os.chmod(self.agent, 0o755)

    def _mount(self):
        """What a host mounts, a shell line; $0 is its name."""
        if not self.own_disk:
            return "true"
        for folder in ["disk"] + [f"disk-{name}" for name in self.names]:
            os.mkdir(os.path.join(self.folder, folder))
        return f'mount --bind "{self.folder}/disk-$0" "{self.folder}/disk"'

    def limit(self, index, rate, queue="50ms", burst="64kb"):
        """Limit what a host sends, e.g. rate "1gbit". What would wait longer than `queue` is dropped; `burst` passes at once after
        a pause."""
        _run("ip", "netns", "exec", self.namespace(index), "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate,
             "burst", burst, "latency", queue)

    def link_down(self, index):
        _run("ip", "-n", self.switch, "link", "set", f"port{index}", "down")

    def link_up(self, index):
        _run("ip", "-n", self.switch, "link", "set", f"port{index}", "up")

    def power_on(self, index):
        space = self.namespace(index)
        _run("ip", "netns", "add", space)
        _run("ip", "-n", space, "link", "set", "lo", "up")
        # Always the same address of the card: the others would look for the old one for a minute after a power_off.
        _run("ip", "link", "add", "eth0", "address", f"02:00:0a:4d:00:{index + 1:02x}", "netns", space, "type", "veth",
             "peer", "name", f"port{index}", "netns", self.switch)
        _run("ip", "-n", self.switch, "link", "set", f"port{index}", "master", "br0", "up")
        _run("ip", "-n", space, "addr", "add", f"10.77.0.{index + 1}/24", "dev", "eth0")
        _run("ip", "-n", space, "link", "set", "eth0", "up")

    def power_off(self, index):
        """The host is gone between two packets: nobody hears a farewell of its processes."""
        _run("ip", "-n", self.switch, "link", "del", f"port{index}")
        for pid in _run("ip", "netns", "pids", self.namespace(index), check=False).stdout.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        _run("ip", "netns", "del", self.namespace(index))

    def command(self, program, ranks_per_host=1):
        """The command line that runs `program` (a list) over all hosts, from inside the first."""
        hosts = ",".join(f"{name}:{ranks_per_host}" for name in self.names)
        mpirun = ["mpirun", "--host", hosts, "-np", str(self.n * ranks_per_host), "--bind-to", "none",
                  "--mca", "plm_rsh_agent", self.agent, "--mca", "pml", "ob1", "--mca", "btl", "self,tcp",
                  "--mca", "btl_tcp_if_include", self.SUBNET, "--mca", "oob_tcp_if_include", self.SUBNET,
                  "--mca", "oob_tcp_keepalive_time", "3", "--mca", "oob_tcp_keepalive_intvl", "1",
                  "--mca", "oob_tcp_keepalive_probes", "3"]
        return [self.agent, self.names[0]] + [_quote(word) for word in mpirun + list(program)]

    def start(self, program, ranks_per_host=1, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
        """mpirun that goes on: subprocess.Popen in a process group of its own."""
        environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", TMPDIR=self.folder)
        return subprocess.Popen(self.command(program, ranks_per_host), stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                                text=True, env=environment, start_new_session=True)

    def mpirun(self, program, ranks_per_host=1, timeout=120):
        process = self.start(program, ranks_per_host)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            self.kill_all()
            out, err = process.communicate()
            raise AssertionError(f"mpirun over hosts did not end in {timeout} s\n{out}\n{err}") from None
        return subprocess.CompletedProcess(program, process.returncode, out, err)

    def pids(self, binary=None, index=None):
        """Processes still running on the hosts (or on one), zombies not counted; of one binary if it is given."""
        found = []
        for i in range(self.n) if index is None else [index]:
            for pid in _run("ip", "netns", "pids", self.namespace(i), check=False).stdout.split():
                try:
                    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                        state = stat.read().rsplit(")", 1)[1].split()[0]
                    program = os.readlink(f"/proc/{pid}/exe") if binary is not None else None
                except OSError:
                    continue
                if state != "Z" and (binary is None or program == os.path.realpath(binary)):
                    found.append(int(pid))
        return found

    def kill_all(self):
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def __exit__(self, *_):
        self.kill_all()
        for i in range(self.n):
            _run("ip", "netns", "del", self.namespace(i), check=False)
            shutil.rmtree(f"/etc/netns/{self.namespace(i)}", ignore_errors=True)
        _run("ip", "netns", "del", self.switch, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _quote(word):
    return "'" + word.replace("'", "'\\''") + "'"
