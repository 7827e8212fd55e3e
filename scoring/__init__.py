"""Score detections beyond average precision: COCO's metric, and the kinds of errors with pages that show them."""
