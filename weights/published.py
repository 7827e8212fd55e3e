"""Published detectors that MODEL may name: the file of each, and the classes that it was trained on."""

import dataclasses
import os

from system import own_folders
from weights.download import PublishedFile


@dataclasses.dataclass(frozen=True)
class PublishedDetector:
    """A published detector.

    file: its weights, in a layout of `layouts`.
    class_names: by label, without background, each once.
    """

    file: PublishedFile
    class_names: tuple[str, ...]


def _by_number(names):
    """Names separated by commas -> a tuple, in which the numbers without a name, counted from 1, are 'unused12'."""
    return tuple(name or f"unused{number}" for number, name in enumerate(names.split(","), start=1))


# COCO numbers its 80 classes from 1 to 90 and leaves some numbers out; torchvision's file has an output for each number
# and calls these N/A. No picture that it was trained on has an object of them.
_COCO = _by_number(
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,,backpack,umbrella,,,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,,dining table,,,toilet,,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
# PyTorch's server names a file by the first eight digits of its SHA-256, which torch.hub checks (check_hash). Detectors
# that have neither a lasting address nor a stated digest have no place here: pretrained.py imports their files.
DETECTORS = {
    "ssd300-coco": PublishedDetector(
        PublishedFile(
            "https://download.pytorch.org/models/ssd300_vgg16_coco-b556d3b4.pth",
            "sha256",
            "b556d3b4",
            wanted_by="ssd300-coco",
        ),
        _COCO,
    ),
}


def run_of(name):
    """The path of the run directory that a published detector is imported into, once."""
    return os.path.join(own_folders.cache_folder(), "detectors", name)
