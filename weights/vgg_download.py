"""The published VGG-16 of `train.py --vgg-weights auto`: downloaded once into a cache folder and verified.

It is the file of Keras' applications with ImageNet's weights; its checksum is the one that Keras states. An interrupted
download is continued by the next call.
"""

import fcntl
import hashlib
import http.client
import os
import urllib.error
import urllib.request

import tqdm

from structures import UserError
from system import files

NAME = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"
URL = "https://github.com/fchollet/deep-learning-models/releases/download/v0.1/" + NAME
MD5 = "64373286793e3c8b2b4e3219cbf3544b"
TRIES = 3  # connections, if they break in the middle
TIMEOUT = 30  # seconds without data
CHUNK = 1 << 18  # bytes


def cached_path():
    """Path of the file, downloaded or not."""
    return os.path.join(files.cache_folder(), NAME)


def fetch(check_stop=lambda: None):
    """Path of the verified file, downloaded if necessary.

    check_stop: called many times a second during the download; may raise to end it. Raises UserError if the file is
    damaged or cannot be downloaded; the part that has arrived is kept for the next call.
    """
    path = cached_path()
    if os.path.exists(path):
        if _md5(path) != MD5:
            raise UserError(f"--vgg-weights auto: {path} is damaged (its MD5 is not {MD5}); delete it and try again")
        return path
    part = path + ".part"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(part, "ab") as file:
            _lock(file, part)
            if not os.path.exists(path):  # another process may have finished meanwhile
                _download(file, path, check_stop)
                _publish(file, part, path)
    except OSError as error:
        raise UserError(
            f"--vgg-weights auto: {error.filename or part} cannot be written ({error.strerror}); "
            f"set {files.CACHE_VARIABLE} to another folder"
        ) from None
    return path


def _lock(file, part):
    """Lock the file, since two processes that write it would damage it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"--vgg-weights auto: another process is downloading {part}; wait for it") from None


def _publish(file, part, path):
    """Verify a complete download and give it its final name."""
    file.flush()
    if _md5(part) != MD5:
        file.truncate(0)
        raise UserError(
            f"--vgg-weights auto: the file from {URL} does not have the MD5 {MD5}; try again, or put the file at {path}"
        )
    files.publish(part, path)


def _download(file, path, check_stop):
    """Append the missing part to an open file."""
    for attempt in range(TRIES):
        before = file.seek(0, os.SEEK_END)
        try:
            return _receive(file, before, check_stop)
        except (OSError, http.client.HTTPException) as error:
            have, reason = file.tell(), str(getattr(error, "reason", None) or error or type(error).__name__)
            if have == 0:
                raise UserError(
                    f"--vgg-weights auto: {URL} cannot be downloaded ({reason}); download it elsewhere and put it at "
                    f"{path}, or give another file, or none"
                ) from None
            if attempt + 1 == TRIES:
                raise UserError(
                    f"--vgg-weights auto: {URL} was interrupted after {have / 1e6:.0f} MB ({reason}); run the same "
                    f"command to continue, or download it elsewhere and put it at {path}"
                ) from None


def _receive(file, start, check_stop):
    """Receive from byte `start` to the end in one connection. Raises OSError or HTTPException if it breaks."""
    headers = {"User-Agent": "ssd-tensorflow", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(URL, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing; the checksum is verified later
        raise
    with response:
        if response.status != http.client.PARTIAL_CONTENT:  # a server without Range starts at 0
            start = 0
            file.truncate(0)
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with tqdm.tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=NAME) as bar:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
                check_stop()
        if total is not None and file.tell() != total:
            raise ConnectionError("the connection was closed")


def _md5(path):
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
