"""How TensorFlow is imported: without the messages of its start, and with what it compiled before."""

import importlib
import os
import sys
from types import ModuleType

from system import cli, compiled_code, own_folders, streams, wording


def import_tensorflow(xla: bool = False, xla_on_cpu: bool = False) -> ModuleType:
    """Import TensorFlow without the start-up messages that it prints on every machine, and only hear its errors later.

    Nothing is suppressed if the user has set TF_CPP_MIN_LOG_LEVEL. If the import fails, what was suppressed is
    printed. oneDNN's kernels are switched on, unless TF_ENABLE_ONEDNN_OPTS says otherwise.

    xla: whether XLA may compile something, which is then kept for the next start if the disk allows it.
    xla_on_cpu: whether it may choose what it compiles on CPUs too.
    Returns the module tensorflow.compat.v1.
    """
    compiled_code.keep_drivers()
    if xla:
        _keep_compiled_code(xla_on_cpu)
    # By itself TensorFlow uses them only on CPUs with AVX512-VNNI or newer; with AVX2 they are a fifth faster too
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return importlib.import_module("tensorflow.compat.v1")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # for its C++ code, which prints some lines before it reads this
    sys.stderr.flush()
    before = streams.put_aside[2] = os.dup(2)
    with open(os.memfd_create("TensorFlow's messages"), "w+b", buffering=0) as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            tensorflow = importlib.import_module("tensorflow.compat.v1")
            tensorflow.logging.set_verbosity(tensorflow.logging.ERROR)  # of Python: not that a function is deprecated
            return tensorflow
        except Exception:  # Ctrl-C is no failure, which these lines would explain
            held_back.seek(0)
            os.write(before, held_back.read())
            raise
        finally:
            os.dup2(before, 2)
            del streams.put_aside[2]
            os.close(before)


def _keep_compiled_code(xla_on_cpu):
    if xla_on_cpu:
        compiled_code.allow_on_cpu()
    try:
        compiled_code.keep()
    except OSError as error:
        cli.warn(
            f"{own_folders.cache_folder()}: cannot be written ({wording.reason(error)}); what XLA compiles is not kept"
        )
