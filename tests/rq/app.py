"""What a worker of RQ calls: the code that hauld stands in for."""


def run(task_id, email, course_url):
    return f"{task_id} by Python"
