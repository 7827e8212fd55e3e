"""Write and read detections on disk: the project's JSON, VOC's comp4 files, COCO's list, YOLO's text files."""
