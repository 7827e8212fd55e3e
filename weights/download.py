"""Published files: downloaded once into the cache folder and verified. An interrupted download is continued later."""

import dataclasses
import fcntl
import http.client
import os
import urllib.error
import urllib.request

import tqdm

from structures import UserError
from system import atomic, cli, files, own_folders, wording, write_errors

TRIES = 3  # connections, if they break in the middle
TIMEOUT = 30  # seconds without data
CHUNK = 1 << 18  # bytes


@dataclasses.dataclass(frozen=True)
class PublishedFile:
    """A file that anybody can download.

    url: where it is.
    algorithm: "md5" or "sha256".
    digest: that of the file, in hexadecimal, or as many of its first digits as are known.
    wanted_by: what the user asked for, with which messages begin.
    otherwise: what to do without the file, the end of a message.
    """

    url: str
    algorithm: str
    digest: str
    wanted_by: str
    otherwise: str = ""

    @property
    def name(self):
        """The file's name, as on the server."""
        return self.url.rpartition("/")[2]

    @property
    def path(self):
        """Where the file is, downloaded or not."""
        return os.path.join(own_folders.cache_folder(), self.name)

    def is_sound(self, path):
        """Whether a file has the digest of this one."""
        return files.digest(path, self.algorithm).hex().startswith(self.digest)

    @property
    def stated(self):
        """'MD5 64373286793e3c8b2b4e3219cbf3544b', for messages."""
        return f"{self.algorithm.upper()} {self.digest}"


# The file of Keras' applications with ImageNet's weights, and the checksum that Keras states
VGG16 = PublishedFile(
    "https://github.com/fchollet/deep-learning-models/releases/download/v0.1/"
    "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
    "md5",
    "64373286793e3c8b2b4e3219cbf3544b",
    wanted_by="--vgg-weights auto",
    otherwise=", or give another file, or none",
)


def fetch(published, check_stop=lambda: None):
    """Path of a PublishedFile, verified; downloaded if necessary.

    check_stop: called many times a second during the download; may raise to end it. Raises UserError if the file is
    damaged or cannot be downloaded; the part that has arrived is kept for the next call.
    """
    path = published.path
    if _is_there(published):
        return path
    part = path + ".part"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(part, "ab") as file:
            _lock(file, published.wanted_by, part)
            if not os.path.exists(path):  # another process may have finished meanwhile
                _download(file, published, check_stop)
                _publish(file, published, part)
    except OSError as error:
        full = error.errno in write_errors.DISK_IS_FULL
        raise UserError(
            f"{published.wanted_by}: {error.filename or part} cannot be written ({error.strerror}); "
            f"{'free some space or ' if full else ''}set {own_folders.CACHE_VARIABLE} to another folder"
        ) from None
    return path


def _is_there(published):
    """Whether an earlier call has downloaded a file. Raises UserError for a damaged or unreadable one."""
    try:
        if not os.path.exists(published.path) or published.is_sound(published.path):
            return os.path.exists(published.path)
        wrong = f"is damaged (not of {published.stated})"
    except OSError as error:
        wrong = f"cannot be read ({wording.reason(error)})"
    raise UserError(f"{published.wanted_by}: {published.path} {wrong}; delete it and try again")


def _lock(file, wanted_by, part):
    """Lock the file, since two processes that write it would damage it; some network disks have no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{wanted_by}: another process is downloading {part}; wait for it") from None
    except OSError as error:
        cli.warn(f"{part} cannot be locked ({wording.reason(error)}); do not let two processes download it at once")


def _publish(file, published, part):
    """Verify a complete download and give it its final name."""
    file.flush()
    if not published.is_sound(part):
        file.truncate(0)
        raise UserError(
            f"{published.wanted_by}: the file from {published.url} is not of {published.stated}; try again, or put the "
            f"file at {published.path}"
        )
    atomic.publish(part, published.path)


def _download(file, published, check_stop):
    """Append the missing part to an open file."""
    for attempt in range(TRIES):
        before = file.seek(0, os.SEEK_END)
        try:
            return _receive(file, published, before, check_stop)
        except write_errors.UnwritableFile:
            raise
        except (OSError, http.client.HTTPException) as error:
            have, reason = file.tell(), str(getattr(error, "reason", None) or error or type(error).__name__)
            if have == 0:
                raise UserError(
                    f"{published.wanted_by}: {published.url} cannot be downloaded ({reason}); download it elsewhere "
                    f"and put it at {published.path}{published.otherwise}"
                ) from None
            if attempt + 1 == TRIES:
                raise UserError(
                    f"{published.wanted_by}: {published.url} was interrupted after {have / 1e6:.0f} MB ({reason}); run "
                    f"the same command to continue, or download it elsewhere and put it at {published.path}"
                ) from None


def _receive(file, published, start, check_stop):
    """Receive from byte `start` to the end in one connection. Raises OSError or HTTPException if it breaks."""
    headers = {"User-Agent": "ssd-tensorflow", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(published.url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is missing; the checksum is verified later
        raise
    with response:
        if response.status != http.client.PARTIAL_CONTENT:  # a server without Range starts at 0
            start = 0
            file.truncate(0)
            file.seek(0)  # in append mode `tell` stays behind otherwise until the first flush
        length = response.headers.get("Content-Length") or ""
        total = start + int(length) if length.isdecimal() else None
        with tqdm.tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=published.name) as bar:
            while chunk := response.read(CHUNK):
                _append(file, chunk)
                bar.update(len(chunk))
                check_stop()
        if total is not None and file.tell() != total:
            raise ConnectionError("the connection was closed")


def _append(file, chunk):
    """Write, with an error of its own: one of the disk is not one of the connection."""
    try:
        file.write(chunk)
    except OSError as error:
        raise write_errors.unwritable(file.name, error) from None
