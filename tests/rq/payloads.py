"""Prints what this version of rq writes into `data`, for the unit tests of the decoder.

Usage, once for each version: python payloads.py >> ../../src/rq/payloads.txt
Each line: version, serializer, shape of the call, the bytes in hexadecimal.
"""

import datetime
import decimal
import sys

import rq
from rq.job import Job
from rq.serializers import JSONSerializer


class FakeRedis:
    connection_pool = None


TASK = {"task_id": 43, "email": "user@example.com", "course_url": "https://learn.example.com/course/intro/"}
CAMEL = {"taskId": 43, "email": "user@example.com", "courseUrl": "https://learn.example.com/course/intro/"}
SHAPES = {
    "kwargs": ([], TASK),
    "camel": ([], CAMEL),
    "positional": (list(TASK.values()), {}),
    "mixed": ([43], {"email": TASK["email"], "course_url": TASK["course_url"]}),
    "dict": ([CAMEL], {}),
    "dict_keyword": ([], {"job": TASK}),
    "digits": ([], dict(TASK, task_id="43")),
    "no_email": ([], {"task_id": 43, "course_url": TASK["course_url"]}),
}
OBJECTS = dict(TASK, when=datetime.datetime(2026, 1, 13, 2), price=decimal.Decimal("9.99"), big=1 << 80, tags={"a"})

for serializer in (None, JSONSerializer):
    shapes = dict(SHAPES)
    if serializer is None:
        shapes["objects"] = ([], OBJECTS)
    for shape, (args, kwargs) in shapes.items():
        job = Job.create("downloads.run", args=args, kwargs=kwargs, connection=FakeRedis(), serializer=serializer)
        data = job.to_dict()["data"]
        sys.stdout.write(f"{rq.__version__} {'json' if serializer else 'pickle'} {shape} {data.hex()}\n")
