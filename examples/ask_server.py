"""Serve a model file, ask it once over HTTP, show the answer, stop the server.

python ask_server.py model.onnx < customers.jsonl
"""

import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

customer = json.loads(sys.stdin.readline())
question = {"history": customer["history"], "k": 5}
# Beside this Python, where pip puts it, or wherever the shell finds it.
command = shutil.which("attnrec-serve", path=str(Path(sys.executable).parent)) or "attnrec-serve"
with subprocess.Popen(
    [command, sys.argv[1], "--port", "0"], stderr=subprocess.PIPE, text=True, encoding="utf-8"
) as server:
    assert server.stderr is not None
    line = server.stderr.readline()  # sasrec, 3,652 items, at http://127.0.0.1:39041
    if server.poll() is not None:
        sys.exit(line)
    address = line.split()[-1]
    request = urllib.request.Request(
        f"{address}/v1/recommend",
        data=json.dumps(question).encode(),
        headers={"Content-Type": "application/json"},
    )
    print(f"POST {request.full_url}  a history of {len(question['history'])}, k = 5")
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    for place, item in enumerate(answer["items"], start=1):
        print(f"  {place}. {item.get('title', item['id']):<40} {item['score']:6.2f}")
    server.terminate()  # it answers what was asked, and ends
sys.exit(server.returncode)
