"""Work with the operating system: files, command lines, worker processes, queues and programs in a row."""
