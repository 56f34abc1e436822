"""The systems under measurement: each starts three processes on loopback when entered and stops them, by id, when left.

`missing` says why a system cannot run here. Everything built lands in ${FLOTILLA_CACHE:-~/.cache/flotilla}/peers.
"""

import glob
import json
import os
import select
import shutil
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.path.join(os.environ.get("FLOTILLA_CACHE") or os.path.expanduser("~/.cache/flotilla"), "peers")
BINARY = os.environ.get("FLOTILLA_BINARY") or os.path.join(
    os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "release", "flotilla")
LAPIN = os.path.join(CACHE, "lapin", "release", "publish-lapin")
START_SECONDS = 90
STOP_SECONDS = 20
# Past the measured time: creation of topics, warm-up, the end.
SLACK_SECONDS = 90


def free_ports(count):
    """Ports that are free now, in a row; below those that the kernel gives to connections."""
    for base in range(21_000, 30_000, count):
        try:
            for port in range(base, base + count):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
    raise RuntimeError("no free ports")


class System:
    """Processes in a folder of their own."""

    name = ""

    def __init__(self, folder):
        self.folder = os.path.join(folder, self.name.split(",")[0].replace(" ", "-").lower())
        self.processes, self.pids, self.urls, self.bootstrap, self.environment = [], [], [], "", dict(os.environ)
        self.missing = ""

    def __enter__(self):
        os.makedirs(self.folder)
        try:
            self.missing = self.lacks()
            if not self.missing:
                self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stop()
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def lacks(self):
        return ""

    def stop(self):
        pass

    def spawn(self, command, log, **options):
        output = open(os.path.join(self.folder, log), "ab")
        process = subprocess.Popen(command, stderr=output, **{"stdout": output, "stdin": subprocess.DEVNULL, **options})
        self.processes.append(process)
        return process

    def line(self, process, prefix):
        """Waits for a line on standard output."""
        end = time.monotonic() + START_SECONDS
        while select.select([process.stdout], [], [], max(0, end - time.monotonic()))[0]:
            line = process.stdout.readline().decode()
            if line.startswith(prefix):
                return line
            if not line:
                break
        raise RuntimeError(f"{self.name} did not start; its log is in {self.folder}")

    def bench(self, workload, seconds):
        """One run of `flotilla bench`."""
        command = [BINARY, "bench", *workload.split(), "--seconds", str(seconds), "-o", "json",
                   "--bootstrap", self.bootstrap, "--replication", "3"]
        return run(command, seconds, self.environment)

    def publish(self, peer, urls, window, queues, seconds):
        """One run of the peers' own clients."""
        command = [os.path.join(CACHE, "publish"), peer, "--urls", ",".join(urls), "--window", str(window),
                   "--queues", str(queues), "--seconds", str(seconds), "--pids", ",".join(map(str, self.pids))]
        return run(command, seconds, None)

    def confirmed(self, window, queues, seconds):
        """Confirmed publishes over AMQP."""
        return self.publish("amqp", self.urls, window, queues, seconds)

    def by_lapin(self, window, seconds):
        """The same to one queue, by lapin; nothing where there is no AMQP."""
        if not self.urls[0].startswith("amqp"):
            return None
        return run([LAPIN, self.urls[0] + "%2f", str(window), "1024", "1", str(seconds)], seconds, None)


def run(command, seconds, environment):
    done = subprocess.run(command, capture_output=True, timeout=seconds + SLACK_SECONDS, env=environment, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode()[-2000:]}")
    return json.loads(done.stdout)


class Flotilla(System):
    """Our three processes, by `flotilla dev`."""

    name = "Flotilla"

    def start(self):
        base = free_ports(12)
        listeners = ("kafka", "admin", "peer", "amqp")
        ports = [part for index, name in enumerate(listeners) for part in (f"--{name}-port", str(base + 3 * index))]
        data = os.path.join(self.folder, "data")
        self.process = self.spawn([BINARY, "dev", "--plain", "--data", data, *ports], "dev.log",
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        nodes = json.loads(self.line(self.process, '{"event":"ready"'))["nodes"]
        self.bootstrap = ",".join(node["kafka"] for node in nodes)
        self.urls = [f"amqp://guest:guest@{node['amqp']}/" for node in nodes]
        self.pids = [node["pid"] for node in nodes]
        self.environment["FLOTILLA_ADMIN"] = f"127.0.0.1:{base + 3}"

    def lacks(self):
        return go_programs() or lapin_program()


class Kafka(System):
    """Apache Kafka by tests/clients/peer-kafka, with the memory and collector of its own start script."""

    name = "Apache Kafka, defaults"
    settings = ()

    def lacks(self):
        return "" if shutil.which("java") and shutil.which("mvn") else "java or mvn is not installed"

    def start(self):
        script = os.path.join(ROOT, "tests", "clients", "peer-kafka")
        settings = [part for setting in self.settings for part in ("--set", setting)]
        command = [script, "--nodes", "3", "--port", str(free_ports(110)), "--heap", "1g", "--gc", "G1",
                   "--data", os.path.join(self.folder, "data"), *settings]
        ready = self.line(self.spawn(command, "kafka.log", stdout=subprocess.PIPE), "ready ")
        self.bootstrap = ready.split()[1]


class KafkaFlush(Kafka):
    """The same with a flush of the log after each batch, on every replica."""

    name = "Apache Kafka, flush each batch"
    settings = ("log.flush.interval.messages=1",)


def go_programs():
    """The publisher and nats-server, built once; or why not."""
    if not shutil.which("go"):
        return "go is not installed"
    os.makedirs(CACHE, exist_ok=True)
    module = os.path.join(HERE, "publish")
    for program, package in (("publish", "."), ("nats-server", "github.com/nats-io/nats-server/v2")):
        built = subprocess.run(["go", "build", "-o", os.path.join(CACHE, program), package], cwd=module,
                               capture_output=True, check=False)
        if built.returncode != 0:
            return f"go build {package}: {built.stderr.decode()[-300:]}"
    return ""


def lapin_program():
    """The publisher that uses lapin, built once; or why not."""
    built = subprocess.run(["cargo", "build", "-q", "--release", "--locked", "--target-dir", os.path.join(CACHE, "lapin")],
                           cwd=os.path.join(HERE, "lapin"), capture_output=True, check=False)
    return "" if built.returncode == 0 else f"cargo build: {built.stderr.decode()[-300:]}"


class Nats(System):
    """NATS JetStream, synced at every write."""

    name = "NATS JetStream R3, sync_interval: always"

    def lacks(self):
        return go_programs()

    def start(self):
        base = free_ports(6)
        routes = ", ".join(f"nats://127.0.0.1:{base + 3 + node}" for node in range(3))
        for node in range(3):
            config = os.path.join(self.folder, f"{node}.conf")
            with open(config, "w", encoding="utf-8") as file:
                file.write(f"server_name: n{node}\nlisten: 127.0.0.1:{base + node}\n"
                           f"jetstream {{ store_dir: \"{self.folder}/{node}\", sync_interval: always }}\n"
                           f"cluster {{ name: bench, listen: 127.0.0.1:{base + 3 + node}, routes: [{routes}] }}\n")
            self.pids.append(self.spawn([os.path.join(CACHE, "nats-server"), "-c", config], f"{node}.log").pid)
        self.urls = [f"nats://127.0.0.1:{base + node}" for node in range(3)]
        until_it_works(lambda: self.confirmed(1, 1, 1))

    def confirmed(self, window, queues, seconds):
        return self.publish("nats", self.urls, window, queues, seconds)


class Rabbit(System):
    """RabbitMQ as Debian packages it, with an epmd of its own."""

    name = "RabbitMQ, quorum queues"
    program = "/usr/lib/rabbitmq/bin/rabbitmq-server"

    def lacks(self):
        if not os.path.exists(self.program):
            return "Debian's rabbitmq-server is not installed"
        return go_programs() or lapin_program()

    def start(self):
        base = free_ports(7)
        home = {"HOME": self.folder, "ERL_EPMD_PORT": str(base + 6), "ERL_EPMD_ADDRESS": "127.0.0.1"}
        environment = {**os.environ, **home}
        self.spawn(["epmd", "-port", str(base + 6)], "epmd.log", env=environment)
        cookie = os.path.join(self.folder, ".erlang.cookie")
        with open(cookie, "w", encoding="utf-8") as file:
            file.write("FLOTILLABENCHPEERS")
        os.chmod(cookie, 0o400)
        names = [f"bench{node}-{base}@localhost" for node in range(3)]
        config = os.path.join(self.folder, "rabbit.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write("cluster_formation.peer_discovery_backend = classic_config\nloopback_users = none\n")
            file.writelines(f"cluster_formation.classic_config.nodes.{index} = {name}\n" for index, name in enumerate(names, 1))
        open(os.path.join(self.folder, "plugins"), "w", encoding="utf-8").write("[].")
        for node, name in enumerate(names):
            own = {"RABBITMQ_NODENAME": name, "RABBITMQ_NODE_PORT": str(base + node), "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
                   "RABBITMQ_DIST_PORT": str(base + 3 + node), "RABBITMQ_MNESIA_BASE": self.folder,
                   "RABBITMQ_LOG_BASE": self.folder, "RABBITMQ_CONFIG_FILE": config,
                   "RABBITMQ_ENABLED_PLUGINS_FILE": os.path.join(self.folder, "plugins"),
                   "RABBITMQ_PID_FILE": os.path.join(self.folder, f"{node}.pid")}
            self.spawn([self.program], f"{node}.log", env={**environment, **own})
        self.urls = [f"amqp://guest:guest@127.0.0.1:{base + node}/" for node in range(3)]
        until_it_works(lambda: self.confirmed(3, 3, 1))
        self.pids = self.beams()

    def beams(self):
        """Process ids of the three virtual machines, which the start script puts in files."""
        files = glob.glob(os.path.join(self.folder, "*.pid"))
        return [int(text) for text in (open(file, encoding="utf-8").read().strip() for file in files) if text]

    def stop(self):
        # SIGTERM stops a virtual machine in order; its start script then removes the file and ends by itself.
        beams = self.beams()
        for pid in beams:
            try:
                os.kill(pid, 15)
            except ProcessLookupError:
                pass
        end = time.monotonic() + STOP_SECONDS
        while any(os.path.exists(f"/proc/{pid}") for pid in beams) and time.monotonic() < end:
            time.sleep(0.2)


def until_it_works(attempt):
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return attempt()
        except (RuntimeError, subprocess.TimeoutExpired):
            if time.monotonic() > end:
                raise
            time.sleep(1)


def said(*command):
    try:
        return subprocess.run(command, capture_output=True, check=False, cwd=ROOT).stdout.decode().strip()
    except OSError:
        return ""


def versions():
    """What was measured."""
    jars = glob.glob(os.path.join(os.path.dirname(CACHE), "clients", "peer-kafka-*", "lib", "kafka_2.13-*.jar"))
    kafka = max((os.path.basename(jar)[len("kafka_2.13-"):-len(".jar")] for jar in jars), default="")
    return {
        "Flotilla": said(BINARY, "--version").removeprefix("flotilla ") + " at " + said("git", "rev-parse", "--short", "HEAD"),
        "Apache Kafka": kafka,
        "NATS": said(os.path.join(CACHE, "nats-server"), "--version").removeprefix("nats-server: "),
        "RabbitMQ": said("dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"),
    }
