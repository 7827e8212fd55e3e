"""Write a data set of any format in the format of Pascal VOC, COCO, YOLO or a CSV table."""
