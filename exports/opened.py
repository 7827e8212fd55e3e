"""What an opened file of any format is to its user: a network that takes batches of prepared pictures."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

DETECTION_OUTPUTS = ("boxes", "scores", "classes", "count")
RAW_OUTPUTS = ("logits", "offsets")
RESULT = "result"  # the network's own output, beside the detections of a frozen graph: see `detector.postprocess`
# Names of operations in the graph of `detector.build_graph`
INPUT, METADATA = "image_input", "metadata/json"
OUTPUTS = {
    **{name: f"detections/{name}" for name in DETECTION_OUTPUTS},
    **{name: f"result/{name}" for name in (RESULT, *RAW_OUTPUTS)},
}


class Opened(Protocol):
    """A file that runs.

    metadata: of `file_metadata`.
    """

    metadata: dict[str, Any]

    def run(self, batch: np.ndarray) -> Mapping[str, np.ndarray]:
        """uint8 [N,H,W,3] RGB -> arrays by name: DETECTION_OUTPUTS or, of a raw file, RAW_OUTPUTS.

        boxes: float32 [N,K,4]; scores: float32 [N,K]; classes: int32 [N,K]; count: int32 [N]; logits: float32
        [N,A,1+classes]; offsets: float32 [N,A,4]. N must be metadata["batch"] unless that is None.
        """
        ...

    def close(self) -> None:
        """Free what the file holds."""
        ...
