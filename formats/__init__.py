"""Read data sets in the formats of COCO, YOLO and CSV; what all formats share: class lists, sizes, written objects."""
