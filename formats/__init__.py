"""Read data sets in the formats of COCO, YOLO and CSV, with what all formats share: class lists, sizes, objects."""
