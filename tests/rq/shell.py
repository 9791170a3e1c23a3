"""Runs Python for the tests: a JSON string of code in each line of the input, and for each line one
of the output: {"value": of the last expression} or {"error": the traceback}.

Usage: python shell.py <port of Redis>
"""

import ast
import json
import os
import sys
import traceback

import rq
from redis import Redis
from rq import Queue, Retry, Worker
from rq.command import send_shutdown_command, send_stop_job_command
from rq.job import Job
from rq.registry import (
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.serializers import JSONSerializer
from rq.suspension import is_suspended, resume, suspend

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

c = Redis(port=int(sys.argv[1]))
q = Queue("downloads", connection=c)


def task(number, conduct="finish"):
    """What a job is called with; the runner of the tests does what the email says."""
    return {"task_id": number, "email": f"{conduct}@example.com", "course_url": f"https://learn.example.com/{number}/"}


def fetch(job_id):
    return Job.fetch(job_id, connection=c)


def started():
    # Up to 2.x the registry shows the execution with the id.
    return [entry.split(":")[0] for entry in StartedJobRegistry("downloads", connection=c).get_job_ids()]


def ids(registry):
    return registry("downloads", connection=c).get_job_ids()


def workers():
    return [
        {
            "name": worker.name,
            "state": worker.get_state(),
            "queues": worker.queue_names(),
            "job": worker.get_current_job_id(),
            "successful": worker.successful_job_count,
            "failed": worker.failed_job_count,
        }
        for worker in Worker.all(connection=c)
    ]


def result(job_id):
    latest = fetch(job_id).latest_result()
    if latest is None:
        return None
    worker_name = getattr(latest, "worker_name", "")
    return {"type": latest.type.value, "text": latest.exc_string, "worker": worker_name}


def run(code):
    parsed = ast.parse(code)
    last = parsed.body.pop() if parsed.body and isinstance(parsed.body[-1], ast.Expr) else None
    exec(compile(parsed, "<test>", "exec"), globals())
    return eval(compile(ast.Expression(last.value), "<test>", "eval"), globals()) if last else None


for line in sys.stdin:
    try:
        answer = {"value": run(json.loads(line))}
    except Exception:
        answer = {"error": traceback.format_exc()}
    answers.write(json.dumps(answer, default=str) + "\n")
    answers.flush()
