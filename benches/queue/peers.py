"""Workers in Python with jobs that do nothing.

    peers.py brpop URL COUNT            BRPOP, json.loads, nothing else: loses what it holds when it dies
    peers.py simple URL COUNT PUSH      RQ's SimpleWorker, jobs in the process of the worker
    peers.py worker URL COUNT PUSH      RQ's Worker, which forks for each job, as `rq worker` does

PUSH is 0 to enqueue all jobs before the start, else the mean pause between two pushes in seconds.
Each prints "ready" and at its end one line of JSON.
"""

import json
import os
import random
import resource
import sys
import tempfile
import time

import redis

LIST = "rq:queue:downloads"
LATENCIES = os.environ.get("PEERS_LATENCIES", "")


def job(pushed):
    """The job of RQ. It may run in a child, so the latency goes through a file."""
    latency = (time.time_ns() - pushed) / 1e9
    descriptor = os.open(LATENCIES, os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{latency}\n".encode())
    os.close(descriptor)


def cpu():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def done(jobs, begin, cpu_before, latencies):
    seconds = time.monotonic() - begin
    print(json.dumps({"jobs": jobs, "seconds": seconds, "cpu_seconds": cpu() - cpu_before, "latencies": latencies}))


def brpop(url, count):
    connection = redis.Redis.from_url(url)
    print("ready", flush=True)
    begin, latencies = None, []
    while len(latencies) < count:
        popped = connection.brpop(LIST, timeout=5)
        if popped is None:
            continue
        now = time.time_ns()
        if begin is None:
            begin, cpu_before = time.monotonic(), cpu()
        element = json.loads(popped[1])
        latencies.append((now - int(element["email"].split("@")[0])) / 1e9)
    done(count, begin, cpu_before, latencies)


def push(url, count, pause):
    from rq import Queue

    queue = Queue("bench", connection=redis.Redis.from_url(url))
    for _ in range(count):
        if pause:
            time.sleep(random.expovariate(1 / pause))
        queue.enqueue("peers.job", time.time_ns(), result_ttl=0)


def rq(kind, url, count, pause):
    global LATENCIES
    from rq import Queue, SimpleWorker, Worker

    connection = redis.Redis.from_url(url)
    handle, LATENCIES = tempfile.mkstemp()
    os.close(handle)
    os.environ["PEERS_LATENCIES"] = LATENCIES
    # The worker imports this module by its name, and finds the file in the environment.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    queue = Queue("bench", connection=connection)
    worker = {"simple": SimpleWorker, "worker": Worker}[kind]([queue], connection=connection)
    if not pause:
        push(url, count, 0)
    print("ready", flush=True)
    pusher = os.fork() if pause else None
    if pusher == 0:
        time.sleep(1)
        push(url, count, pause)
        os._exit(0)
    begin, cpu_before = time.monotonic(), cpu()
    worker.work(burst=not pause, max_jobs=count, logging_level="WARNING")
    with open(LATENCIES) as file:
        latencies = [float(line) for line in file]
    os.unlink(LATENCIES)
    if pusher:
        os.waitpid(pusher, 0)
    done(count, begin, cpu_before, latencies)


if __name__ == "__main__":
    if sys.argv[1] == "brpop":
        brpop(sys.argv[2], int(sys.argv[3]))
    else:
        rq(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
