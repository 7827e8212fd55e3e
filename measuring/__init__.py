"""What a model costs: its size on paper, its speed and memory in a process of its own, beside its accuracy."""
