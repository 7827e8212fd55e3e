"""Detections on very many pictures: in shards, by several processes, each picture exactly once, whatever is killed."""
