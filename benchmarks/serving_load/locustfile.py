"""Clients that ask again as soon as they are answered, refused or not; runs under locust."""

import json
import os
import random
from pathlib import Path

from locust import FastHttpUser, constant, task  # pyright: ignore[reportMissingImports]

PATH = os.environ["ASKED"]
BODIES = [json.dumps(body) for body in json.loads(Path(os.environ["BODIES"]).read_text())]


class Client(FastHttpUser):
    wait_time = constant(0)
    network_timeout = 60.0

    @task
    def ask(self):
        with self.client.post(PATH, random.choice(BODIES), catch_response=True) as answer:
            if answer.status_code == 503 and answer.headers.get("retry-after"):
                answer.request_meta["name"] = "refused"
                answer.success()
