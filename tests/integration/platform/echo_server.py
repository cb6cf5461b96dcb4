"""A server for the supervision's tests: answers GET with its environment, and has a child in a session of its own, where a signal to the
group does not reach it.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(dict(os.environ)).encode())


if __name__ == "__main__":
    subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
    print("listening", flush=True)
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
