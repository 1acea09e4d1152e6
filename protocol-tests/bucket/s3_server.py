"""A real S3 server (versitygw, built of bucket/server) that keeps its buckets in a folder, each object in a file of its name."""

import datetime
import hashlib
import hmac
import http.client
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import brokers, processes, setup  # noqa: E402

ACCESS_KEY_ID, SECRET_ACCESS_KEY, REGION = "pond-keeper", "a-key-for-tests-only", "eu-test-1"
READY_SECONDS = 30


class S3Server:
    """The server. `objects` is its folder: changing it is what another tool, or a failing disk, does to a bucket."""

    def __init__(self, folder: Path, certificate=None):
        self.folder, self.objects = Path(folder), Path(folder) / "objects"
        self.objects.mkdir(parents=True)
        self.certificate = certificate
        self.port = brokers.free_port()
        self.process = None

    def start(self):
        """Starts it, on the same port each time."""
        command = [setup.s3_server(), "--port", f"127.0.0.1:{self.port}", "--region", REGION, "--quiet"]
        if self.certificate is not None:
            command += ["--cert", self.certificate[0], "--key", self.certificate[1]]
        environment = {"ROOT_ACCESS_KEY": ACCESS_KEY_ID, "ROOT_SECRET_KEY": SECRET_ACCESS_KEY}
        self.process = processes.LineProcess([*command, "posix", self.objects], env=environment, stderr_path=self.folder / "stderr.log")
        processes.wait_until(self._answers, READY_SECONDS, "an answer of the S3 server")

    def kill(self):
        self.process.stop(signal.SIGKILL)

    def stop(self):
        if self.process is not None:
            self.process.stop()

    def environment(self, **changes) -> dict:
        """What `millpond` is told of it."""
        scheme = "http" if self.certificate is None else "https"
        named = {"AWS_ENDPOINT_URL": f"{scheme}://127.0.0.1:{self.port}", "AWS_REGION": REGION, "NO_PROXY": "127.0.0.1",
                 "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY, **changes}
        others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return {**others, **{name: value for name, value in named.items() if value is not None}}

    def make_bucket(self, name: str):
        """What `aws s3 mb` does."""
        status, text = self._request("PUT", f"/{name}")
        if status != 200:
            raise processes.CommandFailed(f"the bucket {name} cannot be made: {status} {text}")

    def _answers(self) -> bool:
        try:
            return self._request("GET", "/")[0] == 200
        except OSError:
            return False

    def _request(self, method, path):
        """One request without a body, signed with version 4 (Amazon's documentation of S3, "Authenticating requests")."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        nothing = hashlib.sha256(b"").hexdigest()
        headers = {"host": f"127.0.0.1:{self.port}", "x-amz-content-sha256": nothing, "x-amz-date": now}
        names = ";".join(headers)
        canonical = "\n".join([method, path, "", *(f"{name}:{value}" for name, value in headers.items()), "", names, nothing])
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        to_sign = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{SECRET_ACCESS_KEY}".encode()
        for part in (now[:8], REGION, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY_ID}/{scope}, SignedHeaders={names}, Signature={signature}"
        connection = self._connection()
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()

    def _connection(self):
        if self.certificate is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        import ssl
        context = ssl.create_default_context(cafile=str(self.certificate[0]))
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)
