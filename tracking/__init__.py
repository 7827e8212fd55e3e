"""Objects that keep their identity through a video: association, motion, what is known of each track, and its score."""
