"""main(argv) of the programs, called by another program: in a cell of a notebook, and in a thread."""

import json
import subprocess
import sys

import pytest

from programs import ROOT, fresh_environment

# As in a notebook: streams without isatty, fileno and encoding, a running event loop, a backend for figures
HOST = """
import asyncio, importlib, json, signal, sys, traceback
import matplotlib

class Stream:
    text = ""
    def write(self, text):
        Stream.text += text
    def flush(self):
        pass

async def call_all(calls):
    for how, program, arguments in calls:
        main = importlib.import_module(program).main
        try:
            if how == "thread":
                await asyncio.to_thread(main, arguments)
            else:
                main(arguments)
        except BaseException:
            failed.append([how, program, traceback.format_exc()])

def state():
    handlers = [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    return [str(sys.stdout), str(sys.stderr), *handlers, matplotlib.get_backend()]

failed = []
matplotlib.use("svg")
real = sys.stdout
sys.stdout = sys.stderr = Stream()
before = state()
asyncio.run(call_all(json.loads(sys.argv[1])))
json.dump({"failed": failed, "text": Stream.text, "before": before, "after": state()}, real)
"""


def call_all(folder, calls):
    """Have a host call programs, in a cell and in a thread; returns what they print. calls: [(program, arguments)].

    DIR in an argument is a folder that each way has for itself.
    """
    words = [
        (how, program, [str(word).replace("DIR", str(folder / how)) for word in arguments])
        for how in ("thread", "cell")
        for program, arguments in calls
    ]
    settings = {"cwd": folder, "env": fresh_environment(PYTHONPATH=str(ROOT)), "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", HOST, json.dumps(words)], **settings)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["failed"] == [], answer["failed"][0][-1]
    assert answer["after"] == answer["before"]
    return answer["text"]


def test_programs_that_need_no_network(tmp_path):
    data = ["--data", "DIR/road", "--split", "2007:test"]
    found = {"class_names": ["car"], "threshold": 0.01, "errors": [], "model": "none", "images": []}
    for index in range(2):
        entry = {"file": f"test_{index:06d}.jpg", "width": 768, "height": 576, "detections": []}
        found["images"].append(entry)
    (tmp_path / "found.json").write_text(json.dumps(found), "utf-8")
    printed = call_all(
        tmp_path,
        [
            ("toy_road.__main__", ["--output", "DIR/road", "--train", 2, "--test", 2, "--workers", 2]),
            ("check_dataset", [*data, "--html", "DIR/check.html", "--workers", 2]),
            ("convert_dataset", ["--data", "DIR/road", "--to", "yolo", "--output", "DIR/yolo"]),
            (
                "average_precision",
                [tmp_path / "found.json", *data, "--other-classes", "ignore", "--plots", "DIR/plots"],
            ),
        ],
    )
    for how in ("thread", "cell"):
        assert (tmp_path / how / "plots" / "report.html").exists()
    assert "drawing the toy road: 100%" in printed and "results of none" in printed


@pytest.mark.slow
def test_programs_that_train_and_detect(shapes, tmp_path):
    training = ["--data", shapes, "--train", "train", "--valid", "val", "--classes", "disc,square", "--width", 0.03]
    printed = call_all(
        tmp_path,
        [
            ("train", [*training, "--batch-size", 4, "--workers", 2, "--max-steps", 2, "--run", "DIR/run"]),
            ("train", ["--run", "DIR/run", "--resume", "--max-steps", 3]),
            ("infer", ["DIR/run", "--data", shapes, "--split", "val", "--output", "DIR/found"]),
            ("export_model", ["DIR/run", "--output", "DIR/model.pb"]),
            ("process_video", ["DIR/model.pb", shapes / "JPEGImages", "DIR/film.mp4"]),
        ],
    )
    assert "step 3" in printed
    for how in ("thread", "cell"):
        assert (tmp_path / how / "film.mp4").exists()
