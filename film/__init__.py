"""What process_video.py does with one video: its flags, the stages that each frame goes through, what is written."""
