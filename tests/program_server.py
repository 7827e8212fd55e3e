"""Start programs faster than a new Python does: a process that has imported their packages is forked for each.

Importing TensorFlow takes longer than most tests' programs work. The server imports packages only, and nothing of this
project; each program runs in a process of its own, with the arguments, environment, folder and output files that it
would have had. Not for programs whose start is tested, nor for those that change what TensorFlow reads at its import.

`python program_server.py` reads requests from stdin, a JSON object a line {argv, cwd, env, stdout, stderr}, and writes
the exit code of each program to stdout, a line each.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import sys
import threading


def import_packages():
    """Import what every program imports, without the lines that TensorFlow writes to stderr at its import."""
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    level = os.environ.get("TF_CPP_MIN_LOG_LEVEL")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = level or "3"
    os.dup2(nowhere, 2)
    for package in ("av", "cv2", "h5py", "matplotlib.figure", "PIL.Image", "tensorflow.compat.v1", "tqdm", "yaml"):
        importlib.import_module(package)
    os.dup2(before, 2)
    os.close(before)
    os.close(nowhere)


def serve():
    """Fork for each request. Returns the request in the process that is to run it, None at the end of stdin."""
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        child = os.fork()
        if not child:
            answers.close()
            return json.loads(line)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
    return None


def become(request):
    """Take over the request's environment, folder and output files, and be its program until that ends."""
    places = (os.devnull, os.O_RDONLY), (request["stdout"], os.O_WRONLY), (request["stderr"], os.O_WRONLY)
    for descriptor, (path, mode) in enumerate(places):
        opened = os.open(path, mode)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = request["argv"]
    sys.path[0] = os.path.dirname(os.path.realpath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")


def end_as(error):
    """End the process as Python does after `error` or None, but without deleting what TensorFlow has, which is slow."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    elif error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    import_packages()
    gc.freeze()  # what is imported is not looked at again, in no process
    if wanted := serve():
        try:
            become(wanted)
        except BaseException as error:
            end_as(error)
        end_as(None)
