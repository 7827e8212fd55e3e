"""Score detections beyond average precision: COCO's metric, and kinds of errors with pages that show them."""
